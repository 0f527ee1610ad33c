# SPDX-License-Identifier: Apache-2.0
"""Decoded images on disk, which all folds and runs of the same data and steps share."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from monai.data import PersistentDataset
from monai.transforms import Compose
from monai.utils import ensure_tuple

from ..core.dicom import located, series_of
from ..core.errors import InputError
from ..core.files import refusing, sha256_of
from ..core.listing import is_volume
from ..data.layouts import Item
from .context import running_parser
from .options import references
from .run_folder import PACKAGES

logger = logging.getLogger(__name__)


class DiskCacheDataset(PersistentDataset):
    """Keep the results of deterministic transforms in files, named by all that decides over them.

    That is the item with the content of its files, the config of the transforms with all that it refers to, and the
    versions of the libraries and the code that read. MONAI's class takes none of these by itself; it also loses the
    metadata of items that it reads, and leaves half of a file if it is killed.

    Args:
        data: items, dicts with the paths of ``image`` and ``label``.
        transform: the transforms. From the first random one on, they are not cached.
        cache_dir: folder of the files, which are pickles and can run code: take it from nobody. It may be deleted.
        steps: key of the config that lists these transforms, such as ``transforms#cached``.

    Raises:
        InputError: when no config is being run. When an item is read: if ``cache_dir`` cannot be written, or for a
            MetaImage whose voxels are in a file of their own.
    """

    def __init__(self, data: Sequence[Item], transform: Compose, cache_dir: str, steps: str) -> None:
        made_by = steps_text(steps)
        with refusing(Path(cache_dir)):
            Path(cache_dir).mkdir(parents=True, exist_ok=True)
        super().__init__(data, transform, cache_dir, hash_func=item_hash)
        self.transform_hash = hashlib.sha256(made_by.encode()).hexdigest()[:32]

    def _cachecheck(self, item_transformed: Item) -> dict[str, Any]:
        path = Path(str(self.cache_dir)) / f"{item_hash(item_transformed).decode()}{self.transform_hash}.pt"
        if path.is_file():
            try:
                return torch.load(path, weights_only=False)  # of metadata with arrays
            except Exception as error:  # unpickling raises almost anything
                logger.warning(f"{path} cannot be read ({type(error).__name__}) and is made again.")
        made = self._pre_transform(deepcopy(item_transformed))
        with refusing(path), tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            torch.save(made, f"{folder}/{path.name}")
            os.replace(f"{folder}/{path.name}", path)  # two processes may write the same
        return made


def item_hash(item: Mapping[str, Any]) -> bytes:
    """Return a hash of an item and of the content of its files."""
    digest = hashlib.sha256(json.dumps(item, sort_keys=True, default=str).encode())
    for path in (path for key in ("image", "label") for path in ensure_tuple(item.get(key, ()))):
        for file in _files(path):
            stat = os.stat(file)
            digest.update(_content(file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns).encode())
    return digest.hexdigest()[:32].encode()


@lru_cache(maxsize=2**17)
def _content(path: str, *state: int) -> str:
    """Return the hash of a file's content. ``state`` tells whether it changed since this process read it."""
    return sha256_of(Path(path))


def _files(path: str) -> list[str]:
    """Return the files that an image or a label is read from, the path itself or those behind an address of DICOM."""
    if path.lower().endswith(".mhd"):
        raise InputError(
            f"{path}: its voxels are in another file, which a cache on disk does not watch: save it as .mha."
        )
    place = located(path)
    if place and is_volume(path):
        return [str(file) for file, _ in series_of([path]).places]
    return [str(place[0] if place else path)]


def steps_text(steps: str) -> str:
    """Return all that decides what the steps at a key of the running config do, as text."""
    parser = running_parser()
    if parser is None:
        raise InputError("DiskCacheDataset takes the running config, and none is: use MONAI's CacheDataset.")
    found: dict[str, Any] = {}
    wanted = [steps]
    while wanted:
        if (key := wanted.pop()) not in found:
            found[key] = parser.get(key)
            wanted += references({key: found[key]})
    code = [
        sha256_of(path) for part in ("core", "data") for path in sorted(Path(__file__).parents[1].glob(f"{part}/*.py"))
    ]
    return json.dumps([found, code, {name: version(name) for name in PACKAGES}], sort_keys=True, default=str)
