# SPDX-License-Identifier: Apache-2.0
"""Read weights of networks and of pretrained encoders from files, and attach the options of the training."""

import copy
import json
import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import timm.models
import torch
from torch import nn

from ..core.errors import InputError
from ..core.places import bundle_dir

FREE = ("certainty", "calibrated")  # what `unetv2 calibrate` adds, which members of an ensemble need not share
OPTIONS = "unetv2_monai: options"  # PyTorch's own keys of the metadata are names of modules, never this

logger = logging.getLogger(__name__)


def with_options(state_dict: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> OrderedDict[str, torch.Tensor]:
    """Attach the options of a training to its weights, so that ``torch.save`` writes both into one file.

    The options become an entry of ``_metadata``, the attribute in which a state dict keeps the versions of its modules.
    So code that loads a plain state dict loads this one too. JSON must be able to hold them. ``dict()`` loses them.
    """
    result: Any = OrderedDict(state_dict)
    result._metadata = OrderedDict(getattr(state_dict, "_metadata", {}))
    result._metadata[OPTIONS] = json.loads(json.dumps(options))
    return result


def options_of(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Read the options that :py:func:`with_options` attached to weights; return an empty dict if there are none."""
    return dict(getattr(state_dict, "_metadata", {}).get(OPTIONS, {}))


def read_weights(path: str | Path, network: nn.Module | None = None) -> Mapping[str, torch.Tensor]:
    """Read a state dict from a file onto the CPU. Checkpoints of training hold it under ``model``.

    Raises:
        InputError: when there is no such file, or it holds no weights, or weights of another network than ``network``.
    """
    if not Path(path).is_file():
        raise InputError(f"no weights at {path}. Train first, or name a file that training wrote.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises almost anything
        found = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        what = f"a Python object, {found[1]}, which could run code" if found else "no PyTorch weights"
        hint = " Save the weights alone: torch.save(network.state_dict(), FILE)." if found else ""
        raise InputError(f"{path} holds {what} ({type(error).__name__}).{hint}") from error
    state_dict = content.get("model", content) if isinstance(content, Mapping) else content
    _refuse_wrapped(state_dict, path)
    if network is not None:
        check_weights(state_dict, network, path)
    return state_dict


def _refuse_wrapped(content: Any, path: str | Path) -> None:
    """Refuse content that is no plain state dict. If it wraps one, name the wrapper and the command that unwraps it."""

    def holds_tensors(part: Any) -> bool:
        return isinstance(part, Mapping) and all(isinstance(value, torch.Tensor) for value in part.values())

    entry, weights = "", content
    if not holds_tensors(content):
        parts = content.items() if isinstance(content, Mapping) else ()
        inside = [(name, part) for name, part in parts if part and holds_tensors(part)]
        if not inside:
            raise InputError(f"{path} holds no PyTorch weights, but {type(content).__name__} without tensors.")
        name, weights = max(inside, key=lambda one: len(one[1]))
        entry = f"[{name!r}]"
    prefixes = [re.match(r"(module\.|_orig_mod\.)*", name)[0] for name in weights]  # type: ignore[index]
    prefix = max(prefixes, key=len, default="")
    if "pytorch-lightning_version" in content:  # names begin with an attribute of the LightningModule
        attributes = {name.partition(".")[0] for name in weights}
        prefix = f"{attributes.pop()}." if len(attributes) == 1 else prefix
    if entry or prefix:
        where = [f"in the entry {entry}"] if entry else []
        where += [f"under names that begin with {prefix!r}"] if prefix else []
        plain = f"torch.load('{path}', weights_only=True){entry}"
        if prefix:
            plain = f"{{k.removeprefix('{prefix}'): v for k, v in {plain}.items() if k.startswith('{prefix}')}}"
        raise InputError(
            f"{path} holds its weights {' and '.join(where)}. Write them as plain ones: "
            f"python -c \"import torch; torch.save({plain}, 'plain.pt')\""
        )


def check_weights(state_dict: Mapping[str, torch.Tensor], network: nn.Module, path: str | Path) -> None:
    """Refuse weights that do not fit a network. The message names the file and the first entries that differ."""
    found, wanted = (
        {name: tuple(value.shape) for name, value in one.items()} for one in (state_dict, network.state_dict())
    )
    both = [name for name in wanted if name in found]
    differences = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [f"{n} {found[n]} instead of {wanted[n]}" for n in both if found[n] != wanted[n]],
    }
    lines = [f"{len(names)} {what}, such as {names[0]}" for what, names in differences.items() if names]
    if not lines:
        return
    # the longest shapes are those of convolutions
    kinds = [{4: "images", 5: "volumes"}.get(max(map(len, s.values()), default=0)) for s in (found, wanted)]
    if None not in kinds and kinds[0] != kinds[1]:
        lines.append(f"they are for {kinds[0]}, the network is for {kinds[1]}")
    raise InputError(f"{path} holds weights of another network: {'; '.join(lines)}.")


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a network on any device; see :py:func:`read_weights` for files and errors."""
    network.load_state_dict(read_weights(path, network))
    logger.info(f"All weights of the network come from {path}.")


def load_members(network: nn.Module, checkpoints: Sequence[str]) -> list[nn.Module]:
    """Return a network for each file; raise InputError for fewer than two, or files of other networks or options."""
    if len(checkpoints) < 2:
        raise InputError(f"an ensemble takes two files of weights or more, got {len(checkpoints)}: set --checkpoints.")
    members, options = [], []
    for path in checkpoints:
        members.append(copy.deepcopy(network))
        weights = read_weights(path, network)
        members[-1].load_state_dict(weights)
        options.append({key: value for key, value in options_of(weights).items() if key not in FREE})
        if differing := [key for key in {**options[0], **options[-1]} if options[0].get(key) != options[-1].get(key)]:
            raise InputError(f"{checkpoints[0]} and {path} were trained with other values of {', '.join(differing)}.")
    logger.info(f"The ensemble has {len(members)} networks: {', '.join(map(str, checkpoints))}.")
    return members


def imagenet_weights(backbone: str | nn.Module) -> str | Literal[False]:
    """Return the path of the bundle's ImageNet weights for a backbone, or False if there are none; log the choice."""
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    path = bundle_dir() / "models" / f"{name}.safetensors"
    if path.is_file():
        logger.info(f"The encoder {name} starts from the weights in {path} (ImageNet).")
        return str(path)
    why = "the bundle has no ImageNet weights of it; with pretrained true some are downloaded"
    logger.info(f"The encoder {name} starts from random weights: {why}.")
    return False


def load_encoder(encoder: nn.Module, pretrained: bool | str, backbone: str | None = None, **kwargs: Any) -> None:
    """Load pretrained weights into an encoder; raise an error if any of its weights is missing.

    Args:
        encoder: one of MONAI's backbones, or ``timm.create_model(backbone, features_only=True)``.
        pretrained: see :py:class:`UNetV2`. A file may hold more than the encoder needs. True works only with timm.
        backbone: name of the timm model, if the file is timm's (.safetensors, .pth), or its authors' and timm converts
            it. Defaults to None: the file uses the encoder's own names.
        kwargs: further arguments that the timm model was made with.

    Raises:
        InputError: when the file is missing or unreadable, or an entry is missing or of another shape.
    """
    if pretrained == "auto":
        pretrained = imagenet_weights(str(backbone))
    if not pretrained:
        return
    if isinstance(pretrained, str):
        source, content = pretrained, _read_encoder_file(pretrained)
        if backbone is not None:
            content = _in_names_of_timm(content, timm.create_model(backbone, **kwargs))
    else:
        source = f"timm's {backbone}"
        content = timm.create_model(str(backbone), features_only=True, pretrained=True, **kwargs).state_dict()
    found, missing = {}, []
    for key, value in encoder.state_dict().items():
        # timm wraps an encoder ("model.") or flattens its stages ("stages_0.")
        flat = re.sub(r"^([a-z_]+)_(\d+)\.", r"\1.\2.", key)
        names = [name for name in (key, flat, key.removeprefix("model.")) if name in content]
        if names and content[names[0]].shape == value.shape:
            found[key] = content[names[0]]
        elif not key.endswith("num_batches_tracked"):
            missing.append(key)
    if missing:
        lacking = f"{len(missing)} entries are missing or of another shape, such as {missing[0]}"
        raise InputError(f"{source} does not hold the weights of this backbone: {lacking}.")
    encoder.load_state_dict(found, strict=False)
    logger.info(f"{source}: all {len(found)} weights of the encoder loaded, {len(content) - len(found)} not needed.")


def _read_encoder_file(path: str) -> dict[str, torch.Tensor]:
    if not Path(path).is_file():
        raise InputError(f"no pretrained weights at {path}.")
    try:
        return dict(timm.models.load_state_dict(path))
    except Exception as error:  # unpickling raises almost anything
        raise InputError(f"{path} holds no PyTorch weights ({type(error).__name__}).") from error


def _in_names_of_timm(state_dict: dict[str, torch.Tensor], classifier: Any) -> dict[str, torch.Tensor]:
    """Convert weights as timm does: rename them, and adapt the first convolution to the input channels."""
    convert = getattr(sys.modules[type(classifier).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        state_dict = convert(state_dict, classifier)
    first = f"{classifier.pretrained_cfg.get('first_conv')}.weight"
    if first in state_dict:
        in_channels = classifier.state_dict()[first].shape[1]
        state_dict[first] = timm.models.adapt_input_conv(in_channels, state_dict[first])
    return state_dict
