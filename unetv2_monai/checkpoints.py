# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are written whole, and weights from elsewhere, strictly: nothing is skipped in silence."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import timm.models
import torch
from ignite.engine import Engine
from ignite.handlers.checkpoint import BaseSaveHandler
from monai.handlers import CheckpointLoader, CheckpointSaver
from torch.nn.parallel import DistributedDataParallel

from .errors import InputError
from .files import write_whole

__all__ = [
    "StrictCheckpointLoader",
    "WholeCheckpointSaver",
    "convert_released_state_dict",
    "existing_file",
    "last_checkpoint",
    "load_backbone",
    "load_timm_backbone",
]

logger = logging.getLogger(__name__)

# layers of the released network that its forward pass never uses
UNUSED = ("deconv5.weight",)

# released name (levels and stages count from 1, heads from the coarsest) -> ours (levels count from 0, the finest)
RELEASED = (
    (r"encoder\.backbone\.patch_embed1\.(.+)", lambda m: f"encoder.model.patch_embed.{m[1]}"),
    (
        r"encoder\.backbone\.patch_embed([2-4])\.(.+)",
        lambda m: f"encoder.model.stages_{int(m[1]) - 1}.downsample.{m[2]}",
    ),
    (
        r"encoder\.backbone\.block([1-4])\.(\d+)\.(.+)",
        lambda m: f"encoder.model.stages_{int(m[1]) - 1}.blocks.{m[2]}.{m[3].replace('dwconv.dwconv', 'dwconv')}",
    ),
    (r"encoder\.backbone\.norm([1-4])\.(.+)", lambda m: f"encoder.model.stages_{int(m[1]) - 1}.norm.{m[2]}"),
    (r"ca_([1-4])\.fc([12])\.weight", lambda m: f"gates.{int(m[1]) - 1}.0.mlp.{2 * int(m[2]) - 2}.weight"),
    (r"sa_([1-4])\.conv1\.weight", lambda m: f"gates.{int(m[1]) - 1}.1.conv.weight"),
    (r"Translayer_([1-4])\.conv\.weight", lambda m: f"reduce.{int(m[1]) - 1}.conv.weight"),
    (r"Translayer_([1-4])\.bn\.(.+)", lambda m: f"reduce.{int(m[1]) - 1}.adn.N.{m[2]}"),
    (r"sdi_([1-4])\.convs\.([0-3])\.(.+)", lambda m: f"sdi.levels.{int(m[1]) - 1}.smooth.{m[2]}.{m[3]}"),
    (r"deconv([2-4])\.weight", lambda m: f"decoder.enlarge.{int(m[1]) - 2}.weight"),
    (r"seg_outs\.([0-3])\.(.+)", lambda m: f"heads.{3 - int(m[1])}.{m[2]}"),
)


def released_key(key: str) -> str | None:
    """Our name of an entry of the released network's state dict; None where we have no such layer."""
    for pattern, ours in RELEASED:
        if match := re.fullmatch(pattern, key):
            return ours(match)
    return None


def convert_released_state_dict(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    Rename the state dict of the released U-Net v2 (``unet_v2/UNet_v2.py`` of https://github.com/yaoppeng/U-Net_v2,
    any PVTv2 encoder) so that ``UNetV2.load_state_dict`` takes it with ``strict=True``.

    Args:
        state_dict: parameters and buffers under the released names. The prefix ``module.`` of data-parallel training
            is understood.

    Returns:
        The same tensors under our names, without ``deconv5.weight``, which the released forward pass never uses.

    Raises:
        InputError: (a ValueError) when an entry is not one of the released network, with its name.

    Example::

        net = UNetV2(backbone="pvt_v2_b2", out_channels=1)
        net.load_state_dict(convert_released_state_dict(torch.load("unetv2.pth", weights_only=True)))
    """
    converted, unknown = {}, []
    for key, value in state_dict.items():
        key = key.removeprefix("module.")
        if key in UNUSED:
            continue
        ours = released_key(key)
        if ours is None:
            unknown.append(key)
        else:
            converted[ours] = value
    if unknown or not converted:
        found = f"unknown entries {unknown[:3]}, {len(unknown)} in all" if unknown else "it is empty"
        raise InputError(f"this is not a state dict of the released U-Net v2: {found}.")
    return converted


def last_checkpoint(ckpt_dir: str) -> str:
    """
    What training left in ``ckpt_dir`` to be resumed from.

    Args:
        ckpt_dir: folder of ``last.pt``.

    Returns:
        Its path.

    Raises:
        InputError: when there is none, or it is no checkpoint.
    """
    path = Path(ckpt_dir) / "last.pt"
    what = "" if path.exists() else "does not exist"
    try:
        if not what and "trainer" not in torch.load(path, map_location="cpu", weights_only=True, mmap=True):
            what = "holds no run"
    except Exception as error:  # unpickling raises almost anything
        what = f"cannot be read ({type(error).__name__})"
    if what:
        raise InputError(
            f"nothing to resume: {path} {what}. Set --output_dir to that of the stopped run, or leave out --resume."
        )
    return str(path)


class WholeCheckpointSaver(CheckpointSaver):
    """
    MONAI's ``CheckpointSaver``, which replaces a file in one step: a process killed at any moment, or a full disk,
    leaves the last good one.

    Args:
        save_dir: folder of the files.
        save_dict: what to save, by name.
        interval_filename: one file for all saves of ``save_interval``, each replacing the one before.
        kwargs: other arguments of :py:class:`monai.handlers.CheckpointSaver`.

    Raises:
        InputError: in training, when a file cannot be written.
    """

    def __init__(
        self, save_dir: str, save_dict: dict[str, Any], interval_filename: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(save_dir, save_dict, **kwargs)
        self.engine: Any = None
        saver: Any
        for saver, filename in (
            (self._key_metric_checkpoint, kwargs.get("key_metric_filename")),
            (self._interval_checkpoint, interval_filename),
        ):
            if saver is not None:
                saver.save_handler = _WholeFileSaver(Path(save_dir), filename)

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: whose metric or epochs decide.
        """
        self.engine = engine
        super().attach(engine)

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far, which ``load_state_dict`` takes back when a run is resumed."""
        assert self._key_metric_checkpoint is not None
        best = {key: getattr(self.engine.state, key) for key in ("best_metric", "best_metric_epoch")}
        return {**self._key_metric_checkpoint.state_dict(), **best}

    def load_state_dict(self, state_dict: dict) -> None:
        """Also for the engine, which logs it."""
        super().load_state_dict(state_dict)
        for key in ("best_metric", "best_metric_epoch"):
            setattr(self.engine.state, key, state_dict[key])


class _WholeFileSaver(BaseSaveHandler):
    def __init__(self, folder: Path, filename: str | None) -> None:
        self.folder = folder
        self.filename = filename

    def __call__(self, checkpoint: Mapping, filename: str, metadata: Mapping | None = None) -> None:
        if idist.get_rank() == 0:
            write_whole(self.folder / (self.filename or filename), lambda opened: torch.save(checkpoint, opened))

    def remove(self, filename: str) -> None:
        if self.filename is None and idist.get_rank() == 0:  # else the next file replaces it
            (self.folder / filename).unlink(missing_ok=True)


def existing_file(path: str) -> str:
    """
    Refuse a missing file by our own error, where a library's would be unclear.

    Args:
        path: of an exported network.

    Returns:
        ``path``.

    Raises:
        InputError: when there is no such file.
    """
    if not Path(path).is_file():
        raise InputError(f"no exported network at {path}. Set --checkpoint to a file that scripts/export.py wrote.")
    return path


class StrictCheckpointLoader(CheckpointLoader):
    """
    MONAI's ``CheckpointLoader`` for weights, which refuses a wrong file when it is built, before anything runs.

    Args:
        load_path: a file with the plain state dict, or one under the key of ``load_dict``, as training leaves them.
        load_dict: one network, as ``{"model": network}``.
        kwargs: other arguments of :py:class:`monai.handlers.CheckpointLoader`.

    Raises:
        InputError: when there is no such file, when it holds no weights, or those of another network, with the first
            entries that differ.
    """

    def __init__(self, load_path: str, load_dict: dict[str, torch.nn.Module], **kwargs: Any) -> None:
        ((key, network),) = load_dict.items()
        _check_weights(load_path, key, network.module if isinstance(network, DistributedDataParallel) else network)
        super().__init__(load_path, load_dict, **kwargs)


def _check_weights(path: str, key: str, network: torch.nn.Module) -> None:
    if not Path(path).is_file():
        raise InputError(f"no weights at {path}. Train first, or name a file that training wrote.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state_dict = content.get(key, content)
        found = {key: tuple(value.shape) for key, value in state_dict.items()}
    except Exception as error:  # unpickling raises almost anything
        raise InputError(f"{path} holds no PyTorch weights ({type(error).__name__}).") from error
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if found == wanted:
        return
    differs = [
        f"{key} {found[key]} instead of {shape}" for key, shape in wanted.items() if found.get(key, shape) != shape
    ]
    parts = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": differs,
    }
    lines = [f"{len(keys)} {what}, such as {keys[0]}" for what, keys in parts.items() if keys]
    raise InputError(
        f"{path} holds weights of another network: " + "; ".join(lines) + ". "
        "Set --backbone and --out_channels to what it was trained with."
    )


def load_timm_backbone(features: torch.nn.Module, classifier: Any, path: str) -> None:
    """
    Load a file of classification weights into the feature extractor of the same timm model.

    Args:
        features: ``timm.create_model(name, features_only=True)``.
        classifier: ``timm.create_model(name)`` of the same input channels, which knows how to read the file.
        path: weights of timm (.safetensors, .pth) or, where timm converts them, of the model's authors.

    Raises:
        InputError: when the file is missing or unreadable, or does not hold every weight of the extractor.
    """
    state_dict = _read_backbone(path)
    convert = getattr(sys.modules[type(classifier).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        state_dict = convert(state_dict, classifier)
    first = f"{classifier.pretrained_cfg.get('first_conv')}.weight"
    if first in state_dict:
        in_channels = classifier.state_dict()[first].shape[1]
        state_dict[first] = timm.models.adapt_input_conv(in_channels, state_dict[first])
    # the extractor may be wrapped ("model.") and may name "stages.0" as "stages_0"
    load_backbone(features, path, state_dict, lambda key: re.sub(r"^([a-z_]+)_(\d+)\.", r"\1.\2.", key))


def load_backbone(
    model: torch.nn.Module,
    path: str,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    alias: Callable[[str], str] = lambda key: key,
) -> None:
    """
    Load weights into a backbone: all of its weights, or an error.

    Args:
        model: the backbone.
        path: the file; only named in messages if ``state_dict`` is given.
        state_dict: the content of the file. Defaults to reading it.
        alias: another name that an entry of the model may have in the file.

    Raises:
        InputError: when the file is missing or unreadable, or an entry is missing or of another shape.
    """
    content = _read_backbone(path) if state_dict is None else state_dict
    found, missing = {}, []
    for key, value in model.state_dict().items():
        names = [name for name in (key, alias(key), key.removeprefix("model.")) if name in content]
        if names and content[names[0]].shape == value.shape:
            found[key] = content[names[0]]
        elif not key.endswith("num_batches_tracked"):
            missing.append(key)
    if missing:
        raise InputError(
            f"{path} does not hold the weights of this backbone: {len(missing)} of {len(model.state_dict())} entries "
            f"are missing or of another shape, such as {missing[0]}. Set --backbone to the model it was made for."
        )
    model.load_state_dict(found, strict=False)
    logger.info(f"{path}: all {len(found)} weights of the backbone loaded, {len(content) - len(found)} not needed.")


def _read_backbone(path: str) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise InputError(f"no pretrained weights at {path}. Set --pretrained to a file of them, true or false.")
    try:
        return dict(timm.models.load_state_dict(path))
    except Exception as error:  # unpickling raises almost anything
        raise InputError(f"{path} holds no PyTorch weights ({type(error).__name__}).") from error
