# SPDX-License-Identifier: Apache-2.0
"""Trainings as the page shows them: progress, and Dice of the held-out labels before and after."""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from monailabel.utils.async_tasks import utils
from monailabel.utils.async_tasks.task import AsyncTask
from PIL import Image
from predictions import dice
from values import Refused

from unetv2_monai import to_mask

__all__ = ["MAX_EPOCHS", "Training", "Trainings"]

logger = logging.getLogger(__name__)
MAX_EPOCHS = 50  # as MONAI Label's default
EPOCH = re.compile(r"Epoch\[(\d+)\] Complete|Epoch: (\d+)/\d+")


@dataclass
class Training:
    """The state of the last training, as GET page/train answers it; the history is added there."""

    status: str = "idle"
    epoch: int = 0
    max_epochs: int = 0
    detail: str = ""
    held_out: int = 0
    dice_before: float | None = None
    dice_after: float | None = None


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

    def state(self) -> dict[str, Any]:
        return {**asdict(self.current), "history": self.app.labelling.read()["history"]}

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
                held_out = len(self.app.labelling.held_out(self.app.datastore().get_labeled_images()))
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
            self.current.status, self.current.detail = "failed", str(error).splitlines()[0] if str(error) else "failed"

    def _train(self) -> None:
        self.current.dice_before = self._held_out_dice()
        if self.stopping:
            self.current.status = "stopped"
            return
        with self.lock:
            params = {"max_epochs": self.current.max_epochs, "multi_gpu": False}
            task, detail = AsyncTask.run("train", request={"model": self.app.model}, params=params)
            if task is None:
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
        if task["status"] != "DONE":
            current.detail = "" if task["status"] == "STOPPED" else failure(task)
            current.status = "stopped" if task["status"] == "STOPPED" else "failed"
            return
        current.epoch = current.max_epochs
        current.dice_after = self._held_out_dice()
        labels = len(self.app.datastore().get_labeled_images())
        self.app.labelling.trained(
            {
                "labels": labels,
                "held_out": current.held_out,
                "dice_before": current.dice_before,
                "dice_after": current.dice_after,
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
        )
        current.status = "done"
        self.app.score()

    @staticmethod
    def _epochs(task: dict[str, Any]) -> list[int]:
        lines = list(task.get("details", ()))
        return [int(found[1] or found[2]) for line in lines if (found := EPOCH.search(line))]

    def _held_out_dice(self) -> float | None:
        """Mean over the held-out labels, with the present weights, at native size. None where there is none."""
        store = self.app.datastore()
        images = self.app.labelling.held_out(store.get_labeled_images())
        if not images or self.app.volumes:
            return None
        scores = []
        for image in images:
            with Image.open(store.get_label_uri(image, "final")) as opened:
                label = np.asarray(to_mask(opened, self.app.out_channels))
            prediction = self.app.segmented(store.get_image_uri(image))
            scores.append(dice(prediction, label, len(self.app.task.labels)))
        return float(np.mean(scores))


def failure(task: dict[str, Any]) -> str:
    """The line of a failed training's output that says why."""
    lines = [line.strip() for line in task.get("details", ()) if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|error:", line)]
    return (errors or lines or ["The training failed; the server's log has the cause."])[-1][:300]
