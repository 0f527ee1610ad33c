# SPDX-License-Identifier: Apache-2.0
"""Trainings as the page shows them: progress, and Dice of the held-out labels before and after."""

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import Any

from fastapi import HTTPException
from monailabel.utils.async_tasks.task import AsyncTask
from store import changed

from unetv2_monai.core.files import atomic
from unetv2_monai.data.checks import read_mask
from unetv2_monai.metrics import mask_dice

logger = logging.getLogger(__name__)
MAX_EPOCHS = 50  # as MONAI Label's default
BEST = re.compile(r"Key metric: val_mean_dice best value: (\d+\.\d+)")
RUNNING = ("SUBMITTED", "RUNNING")  # statuses of MONAI Label
Label = tuple[str, str]  # an image's id, and the version of its label
EPOCH = re.compile(r"Epoch\[(\d+)\] Complete|Epoch: (\d+)/\d+")


@dataclass
class Training:
    """The state of the last training. GET page/train returns it together with the history."""

    status: str = "idle"  # idle, running, done, stopped or failed
    epoch: int = 0  # epochs that have ended
    max_epochs: int = 0  # epochs that were asked for
    detail: str = ""  # why it failed
    held_out: int = 0  # labels that training does not learn from
    # held-out labels that equal the prediction of the previous weights. Their Dice before is 1 by construction, so they
    # are left out of both means
    unchanged: int = 0
    dice_before: float | None = None  # mean over the other held-out labels with the previous weights, or None
    dice_after: float | None = None  # the same with the weights that the training has written
    previous_kept: bool = False  # the new weights are worse, so the previous ones were restored


class Trainings:
    """Run one training at a time, in MONAI Label's own training process, whichever client asked for it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.weights = Path(app.task.get_path())
        self.previous = self.weights.with_name("previous_weights")  # the previous weights, while a training runs
        self.turn = threading.Lock()  # one background step runs at a time
        self.lock = threading.Lock()  # for the attributes that follow
        self.current = Training()
        self.task: dict[str, Any] | None = None  # MONAI Label's own record of the current training
        self.stopping = False

    def recover(self) -> None:
        """Undo a training that was cut off with its server, since its weights were not compared."""
        if self.previous.is_file():
            logger.warning("A training was cut off. The weights before it are back.")
            os.replace(self.previous, self.weights)

    def state(self) -> dict[str, Any]:
        return {**asdict(self.current), "history": self.app.labelling.read()["history"]}

    def stats(self) -> dict[str, float]:
        """Return what 3D Slicer shows of the last training: epochs, and the best Dice of the held-out labels."""
        if self.current.status == "idle":
            return {}
        found: dict[str, float] = {"epoch": max(1, self.current.epoch), "total_epochs": self.current.max_epochs}
        if best := BEST.findall("\n".join(self.task["details"] if self.task else ())):
            found["best_metric"] = float(best[-1])
        return found

    def start(self, max_epochs: int) -> None:
        """Start a training. Raises HTTPException (409) while one runs, or without labels."""
        store = self.app.datastore()
        labelled = store.get_labeled_images()
        with self.lock:
            if self.current.status == "running":
                raise HTTPException(409, "A training is running already.")
            if not labelled:
                raise HTTPException(409, "There is no label yet: correct and save an image first.")
            self.app.labelling.note("order", *sorted(labelled))  # labels that were in the folder before
            held_out = len(store.held_out())
            if held_out == len(labelled):
                raise HTTPException(409, "All labels are held out: correct and save another image first.")
            self.current, self.stopping = Training("running", max_epochs=max_epochs, held_out=held_out), False
        threading.Thread(target=self._guarded, args=(self._train,), daemon=True).start()

    def stop(self) -> None:
        self.stopping = True
        for _ in range(100):  # MONAI Label can only stop what has a process already
            if self.task is None or self.task["status"] not in RUNNING or AsyncTask.stop("train"):
                return
            time.sleep(0.1)

    def follow(self, task: dict[str, Any]) -> None:
        """Follow a training that another client has started."""

        def step() -> None:
            with self.lock:
                epochs, held_out = task["request"].get("max_epochs", MAX_EPOCHS), self.app.datastore().held_out()
                self.current = Training("running", max_epochs=epochs, held_out=len(held_out))
                self.task, self.stopping = task, False
            self._follow(task)

        threading.Thread(target=self._guarded, args=(step,), daemon=True).start()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            with self.turn:
                step()
        except Exception as error:
            logger.exception("training failed")
            try:
                self.recover()  # the new weights were not compared
            finally:
                self.current.detail = str(error).splitlines()[0] if str(error) else "failed"
                self.current.status = "failed"

    def _train(self) -> None:
        current = self.current
        scores = self._scores(self.app.datastore().held_out())
        before = {label: score for label, score in scores.items() if score < 1}
        current.unchanged, current.dice_before = len(scores) - len(before), mean(before.values())
        if self.stopping:
            current.status = "stopped"
            return
        with atomic(self.previous) as partial:
            shutil.copy2(self.weights, partial)  # keeps the time stamp, by which predictions are recognised
        with self.lock:
            params = {"max_epochs": current.max_epochs, "multi_gpu": False}
            task, detail = AsyncTask.run("train", request={"model": self.app.model}, params=params)
            if task is None:
                self.previous.unlink()
                raise RuntimeError(detail)
            self.task = task
        if self.stopping:
            self.stop()
        self._follow(task, before)

    def _follow(self, task: dict[str, Any], before: dict[Label, float] | None = None) -> None:
        """Wait for the end of a training, and compare its weights with the previous ones. ``before`` has the Dice of
        labels with the previous weights; without it, the new weights are kept.
        """
        current = self.current
        while task["status"] in RUNNING:
            time.sleep(0.3)
            epochs = [int(one or other) for one, other in EPOCH.findall("\n".join(task.get("details", ())))]
            current.epoch = max([current.epoch, *epochs])
        status = {"DONE": "done", "STOPPED": "stopped"}.get(task["status"], "failed")
        if status == "failed":
            current.detail = failure(task)
            self.recover()
        elif before is None:
            current.dice_after = mean(self._scores(self.app.datastore().held_out()).values())
        else:
            self._compare(before)
        if status == "done":
            current.epoch = current.max_epochs
            for step in (self._note, self.app.score):
                try:
                    step()
                except Exception:  # the weights are there and compared
                    logger.exception("after the training")
        current.status = status

    def _compare(self, before: dict[Label, float]) -> None:
        """Compute Dice with the new weights. If it is lower than before, restore the previous weights."""
        current = self.current
        if changed(str(self.weights)) == changed(str(self.previous)):  # stopped before weights were written
            self.previous.unlink()
            return
        scores = self._scores({image for image, _ in before} & set(self.app.datastore().held_out()))
        after = {label: score for label, score in scores.items() if label in before}  # not saved anew meanwhile
        current.dice_after, current.dice_before = mean(after.values()), mean(before[label] for label in after)
        if after and sum(after.values()) < sum(before[label] for label in after):
            os.replace(self.previous, self.weights)
            current.previous_kept = True
        else:
            self.previous.unlink()

    def _note(self) -> None:
        kept = ("held_out", "unchanged", "dice_before", "dice_after", "previous_kept")
        noted = {"labels": len(self.app.datastore().get_labeled_images())}
        noted |= {name: getattr(self.current, name) for name in kept}
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.app.labelling.note("history", {**noted, "time": now})

    def _scores(self, images: Collection[str]) -> dict[Label, float]:
        """Compute Dice of each of these images' labels with the present weights, at native size. Skip volumes."""
        store, scores = self.app.datastore(), {}
        for image in [] if self.app.volumes else images:
            version = store.version(image)  # before the file is read
            label = read_mask([store.get_label_uri(image, "final")], {"out_channels": self.app.out_channels})
            prediction, classes = self.app.segmented(store.get_image_uri(image)), self.app.task.labels.values()
            # a class that neither mask holds counts 1
            scores[image, version] = fmean(mask_dice(prediction == value, label == value) for value in classes)
        return scores


def mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def failure(task: dict[str, Any]) -> str:
    """Return the line of a failed training's output that says why."""
    lines = [line.strip() for line in task.get("details", ()) if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|error:", line)]
    found = (errors or lines or ["The training failed; the server's log has the cause."])[-1]
    return re.sub(r"^[\w.]*InputError: ", "", found)[:300]
