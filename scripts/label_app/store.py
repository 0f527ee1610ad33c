# SPDX-License-Identifier: Apache-2.0
"""The folder of images and labels, and the order of labelling. The user's files are never removed or overwritten."""

import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel
from monailabel.utils.others.generic import file_ext

from unetv2_monai.core.files import atomic, sha256_of, write_atomic

EVERY, FIRST = 5, 2  # in the order of labelling, the third, the eighth, ... label are held out of training


def changed(path: str) -> str:
    """Return a text that changes whenever a file changes; empty if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_mtime_ns}-{found.st_size}"


class Labelling:
    """A file that stores the order in which images were labelled, and the trainings so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        """Read ``{"order": [ids], "history": [trainings]}``."""
        return json.loads(self.path.read_text()) if self.path.exists() else {"order": [], "history": []}

    def note(self, key: str, *entries: Any) -> None:
        """Append new entries to ``order`` or ``history``; existing entries keep their place."""
        with self.lock:
            found = self.read()
            if new := [entry for entry in entries if entry not in found[key]]:
                found[key] += new
                write_atomic(self.path, json.dumps(found, indent=1))

    def held_out(self, labelled: Collection[str]) -> list[str]:
        """Return the labelled images that training never learns from, so that Dice on them can be compared."""
        order = self.read()["order"]
        order += sorted(set(labelled) - set(order))  # labels that were in the folder before
        return [image for image in order[FIRST::EVERY] if image in labelled]


class ImageStore(LocalDatastore):
    """MONAI Label's folder of images. Other processes of this server (training, scoring) write the list of images too.
    So the list is read again before each change, and whenever it is asked for.

    Args:
        folder: the folder of images and ``labels/``.
        labelling: the order in which images were labelled.
        extensions: endings of images and labels in lower case, each after ``*``.
        withdrawn: the folder that withdrawn labels are moved to. None: labels are the user's files, and are not moved.
    """

    def __init__(self, folder: str, labelling: Labelling, extensions: list[str], withdrawn: Path | None) -> None:
        self.labelling, self.withdrawn, self._config_ts = labelling, withdrawn, 0.0
        if withdrawn:
            withdrawn.mkdir(mode=0o700, exist_ok=True)
        super().__init__(folder, extensions=extensions, auto_reload=False)

    def _to_id(self, file: str) -> tuple[str, str]:
        """Split a name into id and ending in any case: the id of ``scan.png_old.Png`` is ``scan.png_old``."""
        found = [pattern for pattern in self._extensions if file.lower().endswith(pattern[1:])]
        cut = len(file) - len(max(found, key=len)[1:] if found else file_ext(file))
        return file[:cut], file[cut:]

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        endings = tuple(pattern[1:] for pattern in patterns)
        return {file: file for file in os.listdir(path) if file.lower().endswith(endings)}

    def get_image_uri(self, image_id: str) -> str:
        """Return an image's path. MONAI Label follows its link, to a file that may have another name or no ending."""
        image = self._datastore.objects.get(image_id)
        return os.path.abspath(os.path.join(self._datastore.image_path(), image_id + image.image.ext)) if image else ""

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        pairs = ((self.get_image_uri(name), self.get_label_uri(name, "final")) for name in self.get_labeled_images())
        return [{"image": image, "label": label} for image, label in pairs]

    def follow(self) -> "ImageStore":
        """Read the list again if another process wrote it, and forget labels whose files were removed by hand."""
        with FileLock(self._lock_file):
            self._read()
            forgotten = False
            for tag in ("final", "original"):
                folder = self._datastore.label_path(tag)
                files = set(os.listdir(folder)) if os.path.isdir(folder) else set()
                for name, entry in self._datastore.objects.items():
                    if tag in entry.labels and name + entry.labels[tag].ext not in files:
                        del entry.labels[tag]
                        forgotten = True
            if forgotten:
                self._update_datastore_file(lock=False)
        return self

    def held_out(self) -> list[str]:
        """Return the labelled images that training does not learn from."""
        return self.labelling.held_out(self.get_labeled_images())

    def _read(self) -> None:
        path = Path(self._datastore_config_path)
        if path.exists() and path.stat().st_mtime != self._config_ts:
            written = path.stat().st_mtime
            model = LocalDatastoreModel.model_validate_json(path.read_bytes())
            model.base_path = self._datastore_path
            self._datastore, self._config_ts = model, written

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the list atomically. MONAI Label empties it first: a server killed then would not start again."""
        with FileLock(self._lock_file) if lock else nullcontext(), self._listing():
            pass

    @contextmanager
    def _listing(self) -> Iterator[None]:
        """Write the list beside the present one, which it replaces at the end: on a full disk, the block is not run."""
        path = Path(self._datastore_config_path)
        with atomic(path) as partial:
            listed = self._datastore.model_dump(exclude={"base_path"})
            write_atomic(partial, json.dumps(listed, indent=2, default=str))
            yield
        self._config_ts = path.stat().st_mtime

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ImageLabelModel]]:
        """Yield the list's entry of each image, to be changed and written. After an error the stored list counts."""
        with FileLock(self._lock_file):
            self._read()
            try:
                yield self._datastore.objects
            except BaseException:
                self._config_ts = 0.0
                self._read()
                raise

    def status(self) -> dict[str, Any]:
        self.follow()
        return super().status()

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        source = Path(image_filename)
        _, ending = self._to_id(source.name)
        target = Path(self._datastore.image_path(), image_id + ending)
        with self._changing() as images:
            if image_id in images or os.path.lexists(target):
                raise HTTPException(409, f"There is an image '{image_id}' already. Images are not replaced.")
            info = {**image_info, "ts": int(time.time()), "name": target.name}
            images[image_id] = ImageLabelModel(image=DataModel(info=info, ext=ending))
            with self._listing():
                write_atomic(target, source.read_bytes())
        return image_id

    def version(self, image_id: str) -> str:
        """Return the version of the image's own label, which changes with its file; ``"none"`` if there is no label."""
        return changed(self.get_label_uri(image_id, "final")) or "none"

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        source = Path(label_filename)
        self.save_version(image_id, source.read_bytes(), self._to_id(source.name)[1], label_tag, label_info)
        return image_id

    def refuse_replaced(self, image_id: str, version: str) -> None:
        """Raise HTTPException (412) if the image's file is not the version that was opened. Empty: any."""
        if version and version != changed(self.get_image_uri(image_id)):
            raise HTTPException(412, "The image was replaced since it was opened here. Open it again.")

    def save_version(
        self, image_id: str, content: bytes, ending: str, tag: str, info: dict[str, Any], replaces="", drawn_on=""
    ) -> str:
        """Save a label, or change nothing and raise an error. A symbolic link of the file's name is replaced, not
        followed. Returns the new version of the image's own label. Other clients may replace the label at once.

        Args:
            replaces: version of the label that may be replaced; for another one, HTTPException (409) is raised.
            drawn_on: version of the image's file that the label belongs to; for another one, HTTPException (412).
        """
        target = Path(self._datastore.label_path(tag), image_id + ending)
        info = {**info, "ts": int(time.time()), "name": target.name}
        with self._changing() as images:
            if replaces and (version := self.version(image_id)) not in (replaces, "none"):
                said = "Its mask was saved elsewhere since it was opened here."
                raise HTTPException(409, said, {"label-version": version})
            if tag == "final":
                # label_server.py compares this hash at the next start
                info["image"] = sha256_of(Path(self.get_image_uri(image_id)))
                self.refuse_replaced(image_id, drawn_on)  # after the file was read
                self.labelling.note("order", image_id)
            images[image_id].labels[tag] = DataModel(info=info, ext=ending)
            with self._listing():
                write_atomic(target, content)
                if tag == "final":
                    self._move_away(image_id, kept=target.name)
            version = self.version(image_id)
        return version

    def withdraw(self, image_id: str) -> Path:
        """Move an image's final label to the folder of withdrawn labels. Returns its new path."""
        if self.withdrawn is None:
            raise HTTPException(409, "With --in_place, labels are files of your own folder: remove the file yourself.")
        with self._changing() as images:
            if (label := images[image_id].labels.pop("final", None)) is None:
                raise HTTPException(404, "There is no label of this image.")
            with self._listing():
                moved = self._move_away(image_id)
        return moved[image_id + label.ext]

    def _move_away(self, image_id: str, kept: str = "") -> dict[str, Path]:
        """Move an image's labels to the folder of withdrawn labels, except the file ``kept``: one of another ending
        would be the label at a later start. Returns the new path of each.
        """
        folder, moved = Path(self._datastore.label_path("final")), dict[str, Path]()
        if self.withdrawn is None:
            return moved
        for name in self._list_files(str(folder), self._extensions):
            found, ending = self._to_id(name)
            if found == image_id and name != kept:
                moved[name] = self.withdrawn / f"{image_id}.{time.time_ns()}{ending}"
                os.replace(folder / name, moved[name])  # a link is moved, not followed
        return moved

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        with self._changing() as images:
            images[image_id].image.info.update(info)
            self._update_datastore_file(lock=False)
