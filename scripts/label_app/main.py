# SPDX-License-Identifier: Apache-2.0
"""
The MONAI Label app that scripts/label_server.py starts: the bundles in ``model/`` beside this file.

MONAI Label's own ``monaibundle`` app serves the same bundles. This one adds polygons for CVAT, the next image by
uncertainty, training from random weights, and errors that say what is wrong instead of a bare 500.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from fastapi import HTTPException
from monai.transforms import AsDiscreted, Invertd, SaveImaged, SqueezeDimd
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.transform.post import FindContoursd
from monailabel.transform.writer import PolygonWriter

logger = logging.getLogger(__name__)
DROPOUT, SIMULATIONS = 0.2, 5  # of the uncertainty, as in MONAI Label's own apps


class InferTask(BundleInferTask):
    """Masks as files; for ``{"output": "json"}`` polygons, which CVAT draws."""

    def polygons(self, data) -> bool:
        return bool(data) and data.get("output") == "json" and self.dimension == 2

    def post_transforms(self, data=None):
        found = super().post_transforms(data)
        return [*found, FindContoursd(keys=self.key_pred, labels=self.labels)] if self.polygons(data) else found

    def writer(self, data, extension=None, dtype=None):
        if self.polygons(data):
            return PolygonWriter(label=self.key_pred, json="result")(data)
        return super().writer(data, extension, dtype)


class TrainTask(BundleTrainTask):
    def _update_overrides(self, overrides):
        overrides["overwrite"] = True  # each training replaces the one before
        return overrides

    def _load_checkpoint(self, model_pytorch, pretrained, train_handlers):
        # MONAI Label 0.8.5 fails on {"pretrained": false}
        train_handlers[:] = [handler for handler in train_handlers if handler.get("_target_") != "CheckpointLoader"]
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)


class LabelApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        folder = Path(app_dir) / "model"
        self.bundles = {path.parent.name: str(path.parent) for path in sorted(folder.glob("*/configs"))}
        super().__init__(app_dir, studies, conf, name="U-Net v2", description="U-Net v2 by MONAI Label")
        # scores change with the weights: MONAI Label would score anew for every next image as well
        self.scores_itself: bool = self._auto_update_scoring
        self._auto_update_scoring: bool = False

    def init_infers(self):
        return {name: InferTask(path, self.conf) for name, path in self.bundles.items()}

    def init_trainers(self):
        return {name: TrainTask(path, self.conf) for name, path in self.bundles.items()}

    def init_strategies(self):
        return {"uncertainty": Epistemic(), "random": Random(), "first": First()}

    def init_scoring_methods(self):
        # probabilities at the network's own size, from several passes with dropout
        left_out = [SaveImaged, Invertd, AsDiscreted, SqueezeDimd]
        options = {"train_mode": True, "skip_writer": True, "dropout": DROPOUT, "post_filter": left_out}
        return {
            name: EpistemicScoring(
                BundleInferTask(path, self.conf, add_post_restore=False, **options), simulation_size=SIMULATIONS
            )
            for name, path in self.bundles.items()
        }

    def on_init_complete(self):
        super().on_init_complete()
        if self.scores_itself:
            self.async_scoring(None)

    def train(self, request):
        result = super().train(request)
        if self.scores_itself:
            self.async_scoring(None)
        return result

    def scoring(self, request, datastore=None):
        self.known(request.get("method"))
        return super().scoring(request, datastore)

    def infer(self, request, datastore=None):
        self.known(request.get("model"))
        image = request.get("image")
        if isinstance(image, str) and not os.path.exists(image) and image not in self.datastore().list_images():
            raise HTTPException(404, f"No image '{image}'. GET /datastore/?output=all lists those that there are.")
        try:
            return super().infer(request, datastore)
        except (OSError, RuntimeError) as error:  # readers raise the one, MONAI's transforms the other
            logger.exception("inference failed")
            cause = str(error.__cause__ or error).splitlines()[0]
            raise HTTPException(400, f"'{os.path.basename(str(image))}' cannot be segmented: {cause}") from error

    def bundle_path(self, model):
        """Called first for every background task: an unknown model is refused before it starts."""
        self.known(model)
        return super().bundle_path(model)

    def known(self, model) -> None:
        if model and model not in self.bundles:
            raise HTTPException(404, f"No model '{model}'. There is: {', '.join(self.bundles)}.")
