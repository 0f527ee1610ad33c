# SPDX-License-Identifier: Apache-2.0
"""Weights from files into networks and their backbones: all of them, or an error that says what differs."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm.models
import torch
from torch import nn

from ..core.errors import InputError
from ..core.places import bundle_dir

__all__ = [
    "encoder_weights", "load_backbone", "load_encoder", "load_timm_backbone", "load_weights", "options_of",
    "read_weights", "with_options",
]  # fmt: skip

OPTIONS = "unetv2_monai: options"  # no module has such a name: PyTorch's entries of the metadata are modules' names

logger = logging.getLogger(__name__)


def with_options(state_dict: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> OrderedDict[str, torch.Tensor]:
    """
    Attach to weights the options that they were trained with, so that ``torch.save`` writes both into one file.

    The options become one more entry of ``_metadata``, the attribute in which a state dict carries the versions of its
    modules. Names and tensors stay, so whatever loads the plain state dict loads this one.

    Args:
        state_dict: the weights, on any device. It is not changed.
        options: names and values that JSON can hold; tuples become lists. They replace earlier ones.

    Returns:
        The same tensors with the options, for ``torch.save``. A copy by ``dict()`` loses the options.

    Raises:
        TypeError: when JSON cannot hold a value.
    """
    result: Any = OrderedDict(state_dict)
    result._metadata = OrderedDict(getattr(state_dict, "_metadata", {}))
    result._metadata[OPTIONS] = json.loads(json.dumps(options))
    return result


def options_of(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """
    Read the options that :py:func:`with_options` attached to weights.

    Args:
        state_dict: what ``torch.load(path, weights_only=True)`` returns, or one state dict of a checkpoint.

    Returns:
        Their names and values, for the caller to change; empty where there are none, as in a file of plain tensors.
    """
    return dict(getattr(state_dict, "_metadata", {}).get(OPTIONS, {}))


def encoder_weights(pretrained: bool | str, backbone: str | nn.Module, folder: str) -> bool | str:
    """
    Decide what the encoder starts from, and log it.

    Args:
        pretrained: ``"auto"`` for the bundle's own ImageNet weights where it has some of this backbone, else none; True
            for those of the library, which are downloaded; False for none; or a file of weights of this backbone.
        backbone: name of the encoder, such as ``"tf_efficientnet_lite0"``, or a module.
        folder: of the bundle's weights, where those of an encoder are ``<backbone>.safetensors``.

    Returns:
        ``pretrained`` of :py:class:`unetv2_monai.UNetV2`.
    """
    start = pretrained
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    if pretrained == "auto":
        path = Path(folder) / f"{name}.safetensors"
        start = str(path) if path.is_file() else False
    if isinstance(start, str):
        logger.info(f"The encoder {name} starts from the weights in {start}{' (ImageNet)' * (start != pretrained)}.")
    elif start:
        logger.info(f"The encoder {name} starts from the library's ImageNet weights.")
    else:
        why = "the bundle has no ImageNet weights of it; --pretrained true downloads some" * (start != pretrained)
        logger.info(f"The encoder {name} starts from random weights{why and ': ' + why}.")
    return start


def read_weights(path: str | Path, network: nn.Module | None = None, key: str = "model") -> Mapping[str, torch.Tensor]:
    """
    Read a file of weights and compare it with a network.

    Args:
        path: a file with the plain state dict, or one under ``key``, as training leaves them.
        network: whose entries and shapes the weights must have. Defaults to None: they are not compared.
        key: name of the state dict in a file that holds more. Defaults to ``"model"``.

    Returns:
        The state dict, on the CPU, with its options for :py:func:`options_of`.

    Raises:
        InputError: when there is no such file, when it holds no weights, or those of another network, with the first
            entries that differ.
    """
    if not Path(path).is_file():
        raise InputError(f"no weights at {path}. Train first, or name a file that training wrote.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state_dict = content.get(key, content)
        found = {name: tuple(value.shape) for name, value in state_dict.items()}
    except Exception as error:  # unpickling raises almost anything
        raise InputError(f"{path} holds no PyTorch weights ({type(error).__name__}).") from error
    wanted = found if network is None else {key: tuple(value.shape) for key, value in network.state_dict().items()}
    if found == wanted:
        return state_dict
    differs = [
        f"{key} {found[key]} instead of {shape}" for key, shape in wanted.items() if found.get(key, shape) != shape
    ]
    parts = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": differs,
    }
    lines = [f"{len(keys)} {what}, such as {keys[0]}" for what, keys in parts.items() if keys]
    dims = [max(map(len, shapes.values()), default=0) for shapes in (found, wanted)]
    if dims == [5, 4]:
        advice = "They are for volumes: add recipes/volumes.yaml, for inference recipes/volumes_inference.yaml."
    elif dims == [4, 5]:
        advice = "They are for images, not for volumes: name others, in training by --weights, or leave out the recipe."
    else:
        advice = "Set --backbone, --in_channels, --out_channels and --network_def#channels to what it was trained with."
    raise InputError(f"{path} holds weights of another network: {'; '.join(lines)}. {advice}")


def load_weights(network: nn.Module, path: str | Path) -> None:
    """
    Load a file of weights into a network, strictly.

    Args:
        network: on any device.
        path: see :py:func:`read_weights`.

    Raises:
        InputError: as :py:func:`read_weights`.
    """
    network.load_state_dict(read_weights(path, network))


def load_timm_backbone(features: nn.Module, classifier: Any, path: str) -> None:
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


def load_encoder(features: nn.Module, backbone: str, weights: bool | str) -> None:
    """
    Start the timm encoder of another network than :py:class:`unetv2_monai.UNetV2` from the weights that it would take.

    Args:
        features: ``timm.create_model(backbone, features_only=True)`` in the network, for RGB images.
        backbone: name of the timm model.
        weights: see :py:func:`encoder_weights`; False leaves the encoder as it is.

    Raises:
        InputError: when the file is missing or unreadable, or does not hold every weight of the encoder.
    """
    if weights == "auto":
        weights = encoder_weights(weights, backbone, str(bundle_dir() / "models"))
    if isinstance(weights, str):
        load_timm_backbone(features, timm.create_model(backbone), weights)
    elif weights:
        source = timm.create_model(backbone, features_only=True, pretrained=True)
        load_backbone(features, f"timm's {backbone}", source.state_dict())


def load_backbone(
    model: nn.Module,
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
        raise InputError(f"no pretrained weights at {path}. Set --pretrained to a file of them, auto, true or false.")
    try:
        return dict(timm.models.load_state_dict(path))
    except Exception as error:  # unpickling raises almost anything
        raise InputError(f"{path} holds no PyTorch weights ({type(error).__name__}).") from error
