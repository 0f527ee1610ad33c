# SPDX-License-Identifier: Apache-2.0
"""Weights carry options: training writes them into ``model.pt``, and whatever loads that file takes them over.

Weights give right results only with the preprocessing and the network that they were trained with. The carried options
are entries of the config, so no other code has to know them.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..core.errors import InputError
from ..core.overlaps import combination_names
from .context import KEYS, is_computed
from .options import config_file

logger = logging.getLogger(__name__)

OPTIONS, FREE_OPTIONS, STEPS, VIEW = KEYS["carried"], KEYS["free"], KEYS["steps"], tuple(KEYS["steps"][:2])


def options_to_carry(config: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the options that the weights of a training carry, under keys such as ``network_def#channels``.

    They are options, arguments of the network and preprocessing steps from the config, without values that it computes.
    The names of the classes are those of the weights that training started from, or else come from metadata.json, if it
    names as many classes as the network has.
    """
    found = {"spatial_dims": 2, **{key: config[key] for key in OPTIONS if key in config}}
    found.pop("certainty", None)  # no training chooses it, but `unetv2 calibrate`
    outputs, channels = (metadata or {}).get("network_data_format", {}).get("outputs", {}), found.get("out_channels")
    names = outputs.get("pred", {}).get("channel_def", {})
    if names and len(names) == (2 if channels == 1 else channels):
        found["class_names"] = [names[str(index)] for index in range(len(names))]
    if config.get("overlaps"):
        found["class_names"] = combination_names(config["overlaps"])
    elif "class_names" in config:  # of fine-tuning
        found["class_names"] = config["class_names"]
    for key in ("network_def", "encoder"):
        part = config.get(key)
        if isinstance(part, Mapping):
            found |= {f"{key}#{name}": value for name, value in part.items() if name not in KEYS["free_arguments"]}
            arguments = part.get("backbone_args") or {}
            if shaping := {name: value for name, value in arguments.items() if name != "drop_path_rate"}:
                found[f"{key}#backbone_args"] = shaping
    transforms = config.get("transforms", {})
    found |= {key: _plain(transforms[key.split("#")[1]]) for key in STEPS if key.split("#")[1] in transforms}
    resize = found.get("transforms#resize")
    if isinstance(resize, Mapping) and resize["_target_"] == "SpatialPadd":  # sliding windows, without resizing
        found["inferer"] = config["inferer"]
    return {key: value for key, value in found.items() if not is_computed(value)}


def take_over(parser: ConfigParser, carried: Mapping[str, Any], path: str | Path, given: Collection[str] = ()) -> None:
    """Put the options that weights carry into a config. ``given`` names the options that the user has set. Raise
    InputError when a user's option or a component contradicts the weights, or images are mixed with volumes.
    """
    wanted = parser.get("spatial_dims", 2)
    dims = carried.get("spatial_dims", wanted)  # weights of earlier versions carry no options
    if dims != wanted:
        of, advice = ("volumes", "Add") if dims == 3 else ("images", "Leave out")
        raise InputError(f"the weights in {path} are for {of}. {advice} recipes/volumes.yaml.")
    if carried.get("overlaps") and "eval_datalist" in parser and "overlap_table" not in parser:
        raise InputError(
            f"the weights in {path} are of classes that overlap. Add options/overlaps.yaml (--with overlaps)."
        )
    taken = []
    for key, value in carried.items():
        now = _plain(parser.get(key))
        if now == value or is_computed(now) or (now is None and key in STEPS):  # inference has no masks
            continue
        if key.endswith("#_target_"):
            raise InputError(f"the weights in {path} are of {value}, but the config has {now}. Add the recipe for it.")
        if key in given or (key in OPTIONS and now is not None and now not in _own_values(key)):
            if key not in FREE_OPTIONS:
                trained = f"the weights in {path}, which were trained with {value}"
                raise InputError(f"--{key} {now} contradicts {trained}. Leave it out, or name other weights.")
            logger.warning(f"{key} is {now}, but the weights in {path} have {value}.")
            continue
        parser[key] = value
        taken.append(f"{key} {value}" if not isinstance(value, Mapping) else key)
    if taken:
        logger.info(f"From the weights in {path}: {', '.join(taken)}.")


def _own_values(key: str) -> list[Any]:
    """Return the values that the bundle's configs give to an option."""
    return [content[key] for content in map(config_file, KEYS["defaults"]) if key in content]


def _plain(part: Any) -> Any:
    """Return a part of the config without its description."""
    return {key: value for key, value in part.items() if key != "_desc_"} if isinstance(part, Mapping) else part
