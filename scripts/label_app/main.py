# SPDX-License-Identifier: Apache-2.0
"""
The MONAI Label app that scripts/label_server.py starts: the bundles in ``model/`` beside this file.

MONAI Label's own ``monaibundle`` app serves the same bundles. This one adds polygons for CVAT, the next image by
uncertainty, training from random weights, and errors that say what is wrong instead of a bare 500.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from fastapi import HTTPException
from labelling import Labelling
from monai.transforms import AsDiscreted, Invertd, SaveImaged, SqueezeDimd
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.tasks.activelearning.epistemic import Epistemic
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.tasks.infer.bundle import BundleInferTask
from monailabel.tasks.scoring.epistemic_v2 import EpistemicScoring
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.transform.post import FindContoursd
from monailabel.transform.writer import PolygonWriter
from monailabel.utils.others.generic import device_list
from predictions import Predictions, changed
from store import ImageStore
from training import Trainings
from values import Facts

from unetv2_monai.core.listing import VOLUME_ENDINGS
from unetv2_monai.data import LabelWriter

logger = logging.getLogger(__name__)
DROPOUT, SIMULATIONS = 0.2, 5  # of the uncertainty, as in MONAI Label's own apps
VAL_SPLIT = 0.2  # MONAI Label's default: every fifth label is held out


class InferTask(BundleInferTask):
    """Masks as files; for ``{"output": "json"}`` polygons, which CVAT draws. One image at a time."""

    def __init__(self, path, conf):
        self.lock = threading.Lock()  # a request's options are written into the parsed config
        self.parts: dict[tuple, tuple] = {}
        super().__init__(path, conf)

    def __call__(self, request, callbacks=None):
        with self.lock:
            return super().__call__(request, callbacks)

    def kept(self, data) -> tuple:
        """Transforms and inferer for the options of a request; parsing the config takes a third of a prediction."""
        key = tuple(str(data.get(name)) for name in ("device", *self.displayable_configs))
        if key not in self.parts:
            pre, inferer, post = super().pre_transforms(data), super().inferer(data), super().post_transforms(data)
            self.parts = {key: (pre, inferer, post)}
        return self.parts[key]

    def pre_transforms(self, data=None):
        return self.kept(data)[0]

    def inferer(self, data=None):
        return self.kept(data)[1]

    def post_transforms(self, data=None):
        found = self.kept(data)[2]
        return [*found, FindContoursd(keys=self.key_pred, labels=self.labels)] if self.polygons(data) else found

    def polygons(self, data) -> bool:
        return bool(data) and data.get("output") == "json" and self.dimension == 2

    def writer(self, data, extension=None, dtype=None):
        if self.polygons(data):
            return PolygonWriter(label=self.key_pred, json="result")(data)
        if self.dimension == 3 and data["result_extension"] in VOLUME_ENDINGS:
            return self.nifti(data), {}
        return super().writer(data, extension, dtype)

    def nifti(self, data) -> str:
        """A label with the header of its image, as ``run inference`` writes it; MONAI Label's own header differs."""
        handle, path = tempfile.mkstemp(suffix=data["result_extension"])
        os.close(handle)
        writer = LabelWriter(output_dtype=np.dtype(data["result_dtype"]))
        writer.set_data_array(data[self.key_pred][None])
        affine = data[f"{self.key_pred}_meta_dict"]["affine"]
        writer.set_metadata({"filename_or_obj": data["image_path"], "affine": affine}, resample=False)
        writer.write(path)
        return path


class DropoutTask(BundleInferTask):
    """Passes that differ by dropout alone: batch normalisation keeps its statistics, as in a prediction."""

    def _get_network(self, device, data):
        network = super()._get_network(device, data)
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        return network


class TrainTask(BundleTrainTask):
    """Training on all labels but those that are held out for good."""

    def __init__(self, path, conf, labelling):
        super().__init__(path, conf)
        self.labelling = labelling

    def _fetch_datalist(self, request, datastore):
        held_out = self.labelling.held_out(datastore.get_labeled_images())
        self.held_out = {datastore.get_image_uri(image) for image in held_out}
        return super()._fetch_datalist(request, datastore)

    def _partition_datalist(self, datalist, request, shuffle=False):
        if request.get("val_split", VAL_SPLIT) != VAL_SPLIT:
            return super()._partition_datalist(datalist, request, shuffle)
        held_out = [item for item in datalist if item["image"] in self.held_out]
        return [item for item in datalist if item["image"] not in self.held_out], held_out

    def _update_overrides(self, overrides):
        overrides["overwrite"] = True  # each training replaces the one before
        if not overrides.get("validate#dataset#data", True):  # no best epoch: keep the last
            saver: dict = {"_target_": "CheckpointSaver", "save_dir": "@ckpt_dir", "save_dict": {"model": "@network"}}
            saver |= {"save_final": True, "final_filename": "model.pt"}
            overrides["train#handlers"] = [*overrides["train#handlers"], saver]
        return overrides

    def _load_checkpoint(self, model_pytorch, pretrained, train_handlers):
        # MONAI Label 0.8.5 fails on {"pretrained": false}
        train_handlers[:] = [handler for handler in train_handlers if handler.get("_target_") != "CheckpointLoader"]
        if pretrained:
            super()._load_checkpoint(model_pytorch, pretrained, train_handlers)


class Scoring(EpistemicScoring):
    """The uncertainty of each image; one that cannot be read has none, and does not keep the others from theirs."""

    def run_scoring(self, image_id, simulation_size, model_ts, datastore):
        try:
            super().run_scoring(image_id, simulation_size, model_ts, datastore)
        except (OSError, RuntimeError) as error:
            logger.error(f"'{image_id}' cannot be scored: {error}")


class LabelApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        folder = Path(app_dir) / "model"
        self.bundles = {path.parent.name: str(path.parent) for path in sorted(folder.glob("*/configs"))}
        self.labelling = Labelling(Path(app_dir).parent / "labelling.json")
        super().__init__(app_dir, studies, conf, name="U-Net v2", description="U-Net v2 by MONAI Label")
        # scores change with the weights: MONAI Label would score anew for every next image as well
        self.scores_itself: bool = self._auto_update_scoring
        self._auto_update_scoring: bool = False
        self.out_channels = int(self.task.bundle_config.get("out_channels", 1))
        self.predictions = Predictions(self)
        self.trainings = Trainings(self)

    @property
    def model(self) -> str:
        """The name of the first bundle, which the page works with."""
        return next(iter(self.bundles))

    @property
    def task(self) -> InferTask:
        return self._infers[self.model]

    @property
    def volumes(self) -> bool:
        return self.task.dimension == 3

    def weights(self) -> str:
        """Changes with the file of weights."""
        return changed(self.task.get_path())

    def facts(self) -> Facts:
        return Facts(models=list(self.bundles), images=self.datastore().list_images(), devices=device_list())

    def info(self):
        return {**super().info(), "train_stats": {self.model: self.trainings.stats()}}

    def segmented(self, path: str) -> np.ndarray:
        """Class indices of an image of two dimensions: rows, columns. The same computation as ``POST /infer``."""
        try:
            _, data = self.task({"image": path, "skip_writer": True, "logging": "ERROR"})
        except (OSError, RuntimeError) as error:
            raise unreadable(path, error) from error
        return np.asarray(data[self.task.key_pred].cpu()).astype(np.uint8).T

    def datastore(self) -> ImageStore:
        return self._datastore.follow()

    def init_datastore(self):
        work_dir = Path(self.app_dir).parent
        in_place = Path(self.studies).resolve() != work_dir.resolve() / "images"
        withdrawn = None if in_place else work_dir / "withdrawn"
        return ImageStore(self.studies, self.labelling, settings.MONAI_LABEL_DATASTORE_FILE_EXT, withdrawn)

    def init_infers(self):
        return {name: InferTask(path, self.conf) for name, path in self.bundles.items()}

    def init_trainers(self):
        return {name: TrainTask(path, self.conf, self.labelling) for name, path in self.bundles.items()}

    def init_strategies(self):
        return {"uncertainty": Epistemic(), "random": Random(), "first": First()}

    def init_scoring_methods(self):
        # probabilities at the network's own size, from several passes with dropout
        left_out = [SaveImaged, Invertd, AsDiscreted, SqueezeDimd]
        options = {"train_mode": True, "skip_writer": True, "dropout": DROPOUT, "post_filter": left_out}
        return {
            name: Scoring(DropoutTask(path, self.conf, add_post_restore=False, **options), simulation_size=SIMULATIONS)
            for name, path in self.bundles.items()
        }

    def on_init_complete(self):
        super().on_init_complete()
        self.labelling.saved(*sorted(self.datastore().get_labeled_images()))  # those that came by hand keep a place too
        self.trainings.recover()
        self.predictions.warm_up()
        threading.Thread(target=self.trainings.watch, daemon=True).start()
        self.score()

    def score(self) -> None:
        """Compute the uncertainty of all images that have no label, in a process of its own."""
        if self.scores_itself:
            self.async_scoring(None)

    def step_aside(self) -> None:
        """In a process of its own, let the server answer first."""
        if not self._server_mode:
            os.nice(10)

    def train(self, request):
        self.step_aside()
        return super().train(request)

    def scoring(self, request, datastore=None):
        self.known(request.get("method"))
        self.step_aside()
        return super().scoring(request, datastore)

    def batch_infer(self, request, datastore=None):
        self.step_aside()
        if not torch.cuda.is_available():
            request["multi_gpu"] = False  # MONAI Label 0.8.5 would divide by the number of GPUs
        return super().batch_infer(request, datastore)

    def infer(self, request, datastore=None):
        self.known(request.get("model"))
        image = request.get("image")
        if image not in self.datastore().list_images() and Path(str(image)).parent != Path(tempfile.gettempdir()):
            raise HTTPException(404, f"No image '{image}'. GET /datastore/?output=all lists those that there are.")
        try:
            return super().infer(request, datastore)
        except (OSError, RuntimeError) as error:  # readers raise the one, MONAI's transforms the other
            raise unreadable(str(image), error) from error

    def bundle_path(self, model):
        """Called first for every background task: an unknown model is refused before it starts."""
        self.known(model)
        return super().bundle_path(model)

    def known(self, model) -> None:
        if model and model not in self.bundles:
            raise HTTPException(404, f"No model '{model}'. There is: {', '.join(self.bundles)}.")


def unreadable(path: str, error: Exception) -> HTTPException:
    logger.error("inference failed", exc_info=error)
    cause = str(error.__cause__ or error).splitlines()[0]
    return HTTPException(400, f"'{os.path.basename(path)}' cannot be segmented: {cause}")
