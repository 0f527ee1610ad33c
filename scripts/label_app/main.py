# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app that scripts/label_server.py starts. It serves the bundle in ``model/`` beside this file.

MONAI Label's own ``monaibundle`` app serves the same bundle. This app adds polygons for CVAT, the choice of the next
image by uncertainty, training from random weights, and errors that say what is wrong instead of a bare 500.
"""

import fcntl
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastapi import HTTPException
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
from store import ImageStore, Labelling, changed
from training import Trainings

from unetv2_monai import InputError
from unetv2_monai.core.files import grey_png
from unetv2_monai.core.listing import NIFTI_ENDINGS
from unetv2_monai.data import LabelWriter
from unetv2_monai.data.checks import check_each, check_pair

logger = logging.getLogger(__name__)
DROPOUT, SIMULATIONS = 0.2, 5  # of the uncertainty, as in MONAI Label's own apps
VAL_SPLIT = 0.2  # MONAI Label's default: every fifth label is held out
PATIENCE = 20  # seconds that the page waits for a prediction while others are computed


class ParsedTask(BundleInferTask):
    """Parse the config once for the same options: parsing takes a third of a prediction, and threads would collide."""

    def __init__(self, path, conf, **options):
        self.parsing = threading.Lock()  # a request's options are written into the parsed config
        self.parts: dict[tuple, tuple] = {}
        super().__init__(path, conf, **options)

    def kept(self, data) -> tuple:
        """Return the transforms and the inferer for the options of a request."""
        key = tuple(str(data.get(name)) for name in ("device", *self.displayable_configs))
        with self.parsing:
            if key not in self.parts:
                pre, inferer, post = super().pre_transforms(data), super().inferer(data), super().post_transforms(data)
                self.parts = {key: (pre, inferer, post)}
            return self.parts[key]

    def pre_transforms(self, data=None):
        return self.kept(data)[0]

    def inferer(self, data=None):
        return self.kept(data)[1]

    def post_transforms(self, data=None):
        return self.kept(data)[2]


class InferTask(ParsedTask):
    """Predict one image at a time, as a mask file or, for ``{"output": "json"}``, as polygons, which CVAT draws."""

    def __init__(self, path, conf):
        self.turn = threading.Lock()
        super().__init__(path, conf)

    def __call__(self, request, callbacks=None):
        try:
            with self.turn:
                return super().__call__(request, callbacks)
        except (OSError, RuntimeError) as error:  # readers raise OSError, MONAI's transforms RuntimeError
            logger.exception("inference failed")
            cause = str(error.__cause__ or error).splitlines()[0]
            name = os.path.basename(str(request.get("image")))
            raise HTTPException(422, f"'{name}' cannot be segmented: {cause}") from error

    def post_transforms(self, data=None):
        found = super().post_transforms(data)
        if not self.polygons(data):
            return found
        smallest = {"min_positive": 1, "min_poly_area": 1}  # MONAI Label would leave out lesions below 80 pixels
        return [*found, FindContoursd(keys=self.key_pred, labels=self.labels, **smallest)]

    def polygons(self, data) -> bool:
        return bool(data) and data.get("output") == "json" and self.dimension == 2

    def writer(self, data, extension=None, dtype=None):
        if self.polygons(data):
            return PolygonWriter(label=self.key_pred, json="result")(data)
        if self.dimension == 3 and data["result_extension"] in NIFTI_ENDINGS:
            return self.nifti(data), {}
        return super().writer(data, extension, dtype)

    def nifti(self, data) -> str:
        """Write a label with the header of its image, as ``run inference`` does; MONAI Label's own header differs."""
        with tempfile.NamedTemporaryFile(suffix=data["result_extension"], delete=False) as made:
            path = made.name
        writer = LabelWriter(output_dtype=np.dtype(data["result_dtype"]))
        writer.set_data_array(data[self.key_pred][None])
        affine = data[f"{self.key_pred}_meta_dict"]["affine"]
        writer.set_metadata({"filename_or_obj": data["image_path"], "affine": affine}, resample=False)
        writer.write(path)
        return path


class DropoutTask(ParsedTask):
    """Run passes that differ by dropout alone: batch normalisation uses its stored statistics, as in a prediction."""

    def _get_network(self, device, data):
        network = super()._get_network(device, data)
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        return network


class TrainTask(BundleTrainTask):
    """Train on all labels but those that are always held out."""

    def __init__(self, path, conf, store):
        super().__init__(path, conf)
        self.store = store

    def _fetch_datalist(self, request, datastore):
        """Name the files that cannot be used. Training would name the transform or the cache that failed on one."""
        found = super()._fetch_datalist(request, datastore)
        check = partial(check_pair, out_channels=int(self.bundle_config.get("out_channels", 1)))
        if problems := [*filter(None, check_each(found, check))]:
            raise InputError(f"{problems[0]} (files: {len(problems)}). Restore it, or withdraw its label.")
        return found

    def _partition_datalist(self, datalist, request, shuffle=False):
        if request.get("val_split", VAL_SPLIT) != VAL_SPLIT:
            return super()._partition_datalist(datalist, request, shuffle)
        held_out = {self.store.get_image_uri(image) for image in self.store.held_out()}
        learnt = [item for item in datalist if item["image"] not in held_out]
        return learnt, [item for item in datalist if item["image"] in held_out]

    def _update_overrides(self, overrides):
        overrides["overwrite"] = True  # each training replaces the one before
        if not overrides.get("validate#dataset#data", True):  # no validation, hence no best epoch: keep the last
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
    """Compute the uncertainty of each image. An image that cannot be read is skipped, and does not stop the others."""

    def run_scoring(self, image_id, simulation_size, model_ts, datastore):
        try:
            super().run_scoring(image_id, simulation_size, model_ts, datastore)
        except Exception as error:  # one image must not stop the others
            logger.error(f"'{image_id}' cannot be scored: {error}")


def end_with_server(server: int, work_dir: Path) -> None:
    """End this process, a training or scoring, when its server ends. Until then it holds the lock of the work folder,
    so that no other server starts: this process could replace the weights of that one.
    """

    def watch() -> None:
        with (work_dir / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            while os.getppid() == server:
                time.sleep(0.5)
            os.killpg(0, signal.SIGKILL)  # also what this process started

    threading.Thread(target=watch, daemon=True).start()


class LabelApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        server = os.environ.get("UNETV2_LABEL_SERVER")
        if server and server != str(os.getpid()):
            os.nice(10)  # a process for training or scoring lets the server answer first
            end_with_server(int(server), Path(app_dir).parent)
        (configs,) = Path(app_dir).glob("model/*/configs")
        self.model, self.bundle = configs.parent.name, str(configs.parent)
        self.labelling = Labelling(Path(app_dir).parent / "labelling.json")
        super().__init__(app_dir, studies, conf, name="U-Net v2", description="U-Net v2 by MONAI Label")
        # scores change only with the weights, but MONAI Label would also score anew for every next image
        self.scores_itself: bool = self._auto_update_scoring
        self._auto_update_scoring: bool = False
        self.task: InferTask = self._infers[self.model]
        self.volumes = self.task.dimension == 3
        self.out_channels = int(self.task.bundle_config.get("out_channels", 1))
        self.predicting = threading.Lock()
        self.trainings = Trainings(self)

    def info(self):
        return {**super().info(), "train_stats": {self.model: self.trainings.stats()}}

    def prediction_of(self, image: str) -> dict[str, str]:
        """Return the versions of weights and image that a prediction is stored with. It is valid for these only."""
        return {"weights": changed(self.task.get_path()), "image": changed(self._datastore.get_image_uri(image))}

    def predicted(self, image: str) -> bool:
        """Tell whether there is a stored prediction of the present image by the present weights."""
        return self._datastore.get_label_info(image, "original").items() >= self.prediction_of(image).items()

    def prediction(self, image: str, carried: bool = True) -> bytes:
        """Return a PNG of class indices; not ``carried``: forget those carried over. Raises HTTPException (503)."""
        with self.turn():
            store, info = self.datastore(), self.prediction_of(image)
            if self.predicted(image) and (carried or "confidence" not in store.get_label_info(image, "original")):
                return Path(store.get_label_uri(image, "original")).read_bytes()
            found = grey_png(self.segmented(store.get_image_uri(image)))
            with suppress(InputError):  # on a full disk it is shown, but not kept
                store.save_version(image, found, ".png", "original", info)
            return found

    def chances(self, image: str) -> np.ndarray:
        """Return the probability of each class in rows and columns. Raises HTTPException (503) as ``prediction``."""
        with self.turn():
            found = np.asarray(self.computed(self.datastore().get_image_uri(image))["prob"].cpu()).swapaxes(1, 2)
        return found if len(found) > 1 else np.concatenate([1 - found, found])

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Let one call of the page compute at a time."""
        if not self.predicting.acquire(timeout=PATIENCE):
            raise HTTPException(503, "The server is busy. Try again in a moment.")
        try:
            yield
        finally:
            self.predicting.release()

    def segmented(self, path: str) -> np.ndarray:
        """Return the class indices of an image, in rows and columns, computed as by ``POST /infer``."""
        return np.asarray(self.computed(path)[self.task.key_pred].cpu()).astype(np.uint8).T

    def computed(self, path: str) -> dict[str, Any]:
        """Return what the inference of the bundle yields for an image."""
        return self.task({"image": path, "skip_writer": True, "logging": "ERROR"})[1]

    def datastore(self) -> ImageStore:
        return self._datastore.follow()

    def init_datastore(self):
        work_dir = Path(self.app_dir).parent
        in_place = Path(self.studies).resolve() != work_dir.resolve() / "images"
        withdrawn = None if in_place else work_dir / "withdrawn"
        return ImageStore(self.studies, self.labelling, settings.MONAI_LABEL_DATASTORE_FILE_EXT, withdrawn)

    def init_infers(self):
        return {self.model: InferTask(self.bundle, self.conf)}

    def init_trainers(self):
        return {self.model: TrainTask(self.bundle, self.conf, self._datastore)}

    def init_strategies(self):
        return {"uncertainty": Epistemic(), "random": Random(), "first": First()}

    def init_scoring_methods(self):
        # probabilities at the network's own size, from several passes with dropout
        left_out = [SaveImaged, Invertd, AsDiscreted, SqueezeDimd]
        options = {"train_mode": True, "skip_writer": True, "dropout": DROPOUT, "post_filter": left_out}
        task = DropoutTask(self.bundle, self.conf, add_post_restore=False, **options)
        return {self.model: Scoring(task, simulation_size=SIMULATIONS)}

    def on_init_complete(self):
        super().on_init_complete()
        store = self.datastore()
        self.labelling.note("order", *sorted(store.get_labeled_images()))  # labels added by hand get a place too
        self.trainings.recover()
        if not self.volumes:  # load the network before anybody waits for it
            with suppress(Exception):
                self.segmented(store.get_image_uri(min(store.list_images())))
        self.score()

    def score(self) -> None:
        """Compute the uncertainty of all images that have no label, in a process of its own."""
        if self.scores_itself:
            self.async_scoring(None)
