# SPDX-License-Identifier: Apache-2.0
"""Trainings as the page shows them: progress, and Dice of the held-out labels before and after."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.utils.async_tasks import utils
from monailabel.utils.async_tasks.task import AsyncTask
from PIL import Image
from predictions import changed, dice
from values import Refused

from unetv2_monai import to_mask

__all__ = ["MAX_EPOCHS", "Training", "Trainings"]

logger = logging.getLogger(__name__)
MAX_EPOCHS = 50  # as MONAI Label's default
BEST = re.compile(r"Key metric: val_mean_dice best value: (\d+\.\d+)")
EPOCH = re.compile(r"Epoch\[(\d+)\] Complete|Epoch: (\d+)/\d+")


@dataclass
class Training:
    """
    The state of the last training, as GET page/train answers it; the history is added there.

    Args:
        status: idle, running, done, stopped or failed.
        epoch: epochs that have ended.
        max_epochs: epochs that were asked for.
        detail: why it failed.
        held_out: labels that training does not learn from.
        unchanged: those of them that equal the prediction of the weights before. Their Dice before is 1 by
            construction, so that they are left out of both means.
        dice_before: mean over the others with the weights before. None where there are none.
        dice_after: the same with the weights that the training has written.
        previous_kept: the weights after are worse, so that those before were put back.
    """

    status: str = "idle"
    epoch: int = 0
    max_epochs: int = 0
    detail: str = ""
    held_out: int = 0
    unchanged: int = 0
    dice_before: float | None = None
    dice_after: float | None = None
    previous_kept: bool = False


class Trainings:
    """
    One training at a time, in MONAI Label's own process for it, whoever asked for it.

    Args:
        app: the app of MONAI Label.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.lock = threading.Lock()  # of what follows
        self.current = Training()
        self.task: dict[str, Any] | None = None  # MONAI Label's own record of the current training
        self.stopping = False
        # (image, version of its label) -> Dice with the weights before, of labels that are compared
        self.before: dict[tuple[str, str], float] = {}

    @property
    def weights(self) -> Path:
        return Path(self.app.task.get_path())

    @property
    def previous(self) -> Path:
        """The weights before, while a training runs."""
        return self.weights.with_name("previous_weights")

    def recover(self) -> None:
        """A training that ended with its server counts for nothing: nobody has compared its weights."""
        if self.previous.is_file():
            logger.warning("A training was cut off. The weights before it are back.")
            os.replace(self.previous, self.weights)

    def state(self) -> dict[str, Any]:
        return {**asdict(self.current), "history": self.app.labelling.read()["history"]}

    def stats(self) -> dict[str, float]:
        """Of the last training, as 3D Slicer shows it: epochs, and the best Dice of the labels that are held out."""
        if self.current.status == "idle":
            return {}
        lines = self.task["details"] if self.task else []
        best = [float(found[1]) for line in lines if (found := BEST.search(line))]
        return {
            "epoch": max(1, self.current.epoch),
            "total_epochs": self.current.max_epochs,
            **({"best_metric": best[-1]} if best else {}),
        }

    def start(self, max_epochs: int) -> None:
        """Raises Refused (409) while a training runs, or without labels."""
        labelled = self.app.datastore().get_labeled_images()
        with self.lock:
            if self.current.status == "running":
                raise Refused(409, "A training is running already.")
            if not labelled:
                raise Refused(409, "There is no label yet: correct and save an image first.")
            self.app.labelling.saved(*sorted(labelled))  # those that were in the folder before
            held_out = len(self.app.labelling.held_out(labelled))
            if held_out == len(labelled):
                raise Refused(409, "All labels are held out: correct and save another image first.")
            self.current, self.stopping = Training("running", max_epochs=max_epochs, held_out=held_out), False
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        self.stopping = True
        for _ in range(100):  # MONAI Label can only stop what has a process already
            if self.task is None or self.task["status"] not in ("SUBMITTED", "RUNNING"):
                return
            if AsyncTask.stop("train"):
                return
            time.sleep(0.1)

    def watch(self) -> None:
        """Follow trainings that other clients start, for as long as the server runs."""
        seen = None
        while True:
            time.sleep(0.5)
            task = next(reversed(utils.tasks("train")), None)
            if task is None or task is seen:
                continue
            with self.lock:
                seen = task
                if self.task is task:
                    continue
                request = task["request"]
                held_out = len(self._held_out())
                self.current = Training("running", 0, request.get("max_epochs", MAX_EPOCHS), held_out=held_out)
                self.task, self.stopping = task, False
            self._guarded(self._follow)

    def _run(self) -> None:
        self._guarded(self._train)

    def _guarded(self, step: Any) -> None:
        try:
            step()
        except Exception as error:
            logger.exception("training failed")
            try:
                self.recover()  # weights that nobody has compared
            finally:
                self.current.detail = str(error).splitlines()[0] if str(error) else "failed"
                self.current.status = "failed"

    def _train(self) -> None:
        current = self.current
        scores = self._scores(self._held_out())
        self.before = {label: score for label, score in scores.items() if score < 1}
        current.unchanged, current.dice_before = len(scores) - len(self.before), mean(self.before.values())
        if self.stopping:
            current.status = "stopped"
            return
        partial = self.previous.with_suffix(".partial")
        shutil.copy2(self.weights, partial)  # with its time, by which predictions are known
        os.replace(partial, self.previous)
        with self.lock:
            params = {"max_epochs": current.max_epochs, "multi_gpu": False}
            task, detail = AsyncTask.run("train", request={"model": self.app.model}, params=params)
            if task is None:
                self.previous.unlink()
                raise RuntimeError(detail)
            self.task = task
        if self.stopping:
            self.stop()
        self._follow()

    def _follow(self) -> None:
        task, current = self.task, self.current
        assert task is not None
        while task["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(0.3)
            current.epoch = max([current.epoch, *self._epochs(task)])
        status = {"DONE": "done", "STOPPED": "stopped"}.get(task["status"], "failed")
        if status == "failed":
            current.detail = failure(task)
            self.recover()
        else:
            self._compare()
        if status == "done":
            current.epoch = current.max_epochs
            for step in (self._note, self.app.score):
                try:
                    step()
                except Exception:  # the weights are there and compared
                    logger.exception("after the training")
        current.status = status

    def _compare(self) -> None:
        """Dice with the new weights; where it is lower than before, the weights before are put back."""
        current = self.current
        if not self.previous.is_file():  # another client has started it
            current.dice_after = mean(self._scores(self._held_out()).values())
            return
        if changed(str(self.weights)) == changed(str(self.previous)):  # stopped before weights were written
            self.previous.unlink()
            return
        scores = self._scores({image for image, _ in self.before} & set(self._held_out()))
        after = {label: score for label, score in scores.items() if label in self.before}  # not saved anew meanwhile
        current.dice_after = mean(after.values())
        current.dice_before = mean(self.before[label] for label in after)
        if after and sum(after.values()) < sum(self.before[label] for label in after):
            os.replace(self.previous, self.weights)
            current.previous_kept = True
        else:
            self.previous.unlink()

    def _note(self) -> None:
        kept = ("held_out", "unchanged", "dice_before", "dice_after", "previous_kept")
        self.app.labelling.trained(
            {
                "labels": len(self.app.datastore().get_labeled_images()),
                **{name: getattr(self.current, name) for name in kept},
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )

    @staticmethod
    def _epochs(task: dict[str, Any]) -> list[int]:
        lines = list(task.get("details", ()))
        return [int(found[1] or found[2]) for line in lines if (found := EPOCH.search(line))]

    def _held_out(self) -> list[str]:
        return self.app.labelling.held_out(self.app.datastore().get_labeled_images())

    def _scores(self, images: Collection[str]) -> dict[tuple[str, str], float]:
        """Dice of each of these labels and its version with the present weights, at native size. Of volumes: none."""
        store, scores = self.app.datastore(), {}
        for image in [] if self.app.volumes else images:
            version = store.version(image)  # before the file is read
            with Image.open(store.get_label_uri(image, "final")) as opened:
                label = np.asarray(to_mask(opened, self.app.out_channels))
            prediction = self.app.segmented(store.get_image_uri(image))
            scores[image, version] = dice(prediction, label, len(self.app.task.labels))
        return scores


def mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def failure(task: dict[str, Any]) -> str:
    """The line of a failed training's output that says why."""
    lines = [line.strip() for line in task.get("details", ()) if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|error:", line)]
    return (errors or lines or ["The training failed; the server's log has the cause."])[-1][:300]
