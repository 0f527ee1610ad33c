# SPDX-License-Identifier: Apache-2.0
"""Check the names and the values of options by the table of options, before anything is loaded."""

import difflib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from pydoc import locate
from typing import Any

import monai
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser
from monai.bundle.config_item import ConfigComponent
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from ..core.errors import InputError
from ..core.places import bundle_dir
from .context import is_computed
from .option_table import DEVICE, OPTIONS, PATH

PATHS = {name for table in OPTIONS.values() for name, option in table.items() if option.kind is PATH}
REFERENCE = "docs/reference/options.md"


def check_options(parser: ConfigParser) -> list[str]:
    """Check the options of a config before any component is built, or raise InputError; return those of the command
    line.

    The words true, false and null on the command line become Python values; Fire, the parser of ``monai.bundle``, would
    leave them as text. Paths stay text; Fire would make numbers, lists or None of some. A single ``image_size`` becomes
    a list with one number for each dimension.
    """
    given = options_given()
    words = {"true": True, "false": False, "null": None}
    for path, text in given.items():
        if path in PATHS:
            restore_path(parser, path, text)
        elif str(parser.get(path)).lower() in words:
            parser[path] = words[str(parser.get(path)).lower()]
    config = {key: value for key, value in parser.get().items() if key != "_meta_"}
    check_keys(config, given)
    for section, table in OPTIONS.items():
        for name, option in table.items():
            if name not in config or (section == "overlays" and name not in given):
                continue  # a user's own config may use the name of an overlay's option for something else
            if not is_computed(config[name]) and not option.kind.accepts(config[name]):
                raise InputError(f"--{name} must be {option.kind.name}, got {config[name]!r}.")
    if "image_size" in config:
        parser["image_size"] = full_size(config)
    if config.get("save_probabilities") is True and config.get("out_channels") != 1 and "spatial_dims" not in config:
        raise InputError("--save_probabilities true: a PNG holds one probability, so images need --out_channels 1.")
    check_device(config.get("device"))
    if "MLFlowHandler" in json.dumps(config, default=str) and importlib.util.find_spec("mlflow") is None:
        raise InputError("--tracking mlflow: MLflow is not installed. Run: pip install mlflow")
    return list(given)


def restore_path(parser: ConfigParser, path: str, text: str) -> None:
    """Undo what Fire made of a path on the command line, and what MONAI would make of one that begins with @ or $."""
    made = DefaultParseValue(text)
    if is_computed(text) and Path(text).exists():
        parser[path] = f"./{text}"
    elif made is None or (made != text and made == parser.get(path)):
        parser[path] = text


def full_size(config: dict[str, Any]) -> Any:
    """Return ``image_size`` with one number for each dimension of the network."""
    size, dims = config["image_size"], config.get("spatial_dims", 2)
    if isinstance(size, int):
        return [size] * dims
    if isinstance(size, list | tuple) and len(size) != dims:
        raise InputError(f"--image_size must be an integer or a list of {dims} for this network, got {size}.")
    return size


def options_given() -> dict[str, str]:
    """Return the options on the command line, as a dict from path, such as ``network_def#dropout``, to text."""
    own = set(inspect.signature(monai.bundle.run).parameters)
    found = {}
    for word, next_word in zip(sys.argv[1:], [*sys.argv[2:], ""]):
        if match := re.match(r"--?([A-Za-z_][^=]*)(=?)", word):
            # in names, Fire accepts - for _, and MONAI accepts :: for #
            path = match[1].replace("::", "#").replace("-", "_")
            found[path] = word[match.end() :] if match[2] else next_word
    return {path: text for path, text in found.items() if path.split("#")[0] not in own}


def check_keys(config: dict[str, Any], given: Collection[str] = ()) -> None:
    """Refuse keys of own files and of the command line (``given``) that no component takes, and nothing refers to."""
    for path, part in _components(config):
        taken = parameters_of(part)
        if taken is None:
            continue
        for name in sorted(part.keys() - taken):
            if not re.fullmatch("_.*_", name):
                raise without_effect(f"{path}#{name}", {f"{path}#{one}" for one in taken}, given)
    used, known = references(config), bundle_keys()
    named = {"#".join(path.split("#")[:2]) for path in given}
    for key, content in config.items():
        option = OPTIONS["overlays"].get(key)
        if option and content in [config_file(f"{name}.yaml").get(key) for name in option.files]:
            continue  # as its overlay sets it: another file has replaced what referred to it
        if key in used or key in sys.argv or key.startswith("_"):  # an argument may name an expression to run
            continue
        for path in [f"{key}#{name}" for name in content] if _is_section(content) else [key]:
            needed = path not in known or (path in named and not isinstance(content, list))
            if needed and not any(f"{one}#".startswith(f"{path}#") for one in used):
                raise without_effect(path, used | known, given)


def without_effect(path: str, known: Collection[str], given: Collection[str]) -> InputError:
    """Return the error for an option of the command line, or a key of a file, that has no effect."""
    shown, dashes = (f"--{path}", "--") if path in given else (f"the key {path} in a config file", "")
    option = OPTIONS["overlays"].get(path)
    close = difflib.get_close_matches(path, sorted(known), 1)
    hint = f"did you mean {dashes}{close[0]}?" if close else f"{REFERENCE} lists the options."
    if any(path in table for table in OPTIONS.values()):
        hint = f"it is for {' and '.join(option.files)}." if option else "these config files do not use it."
    return InputError(f"{shown} has no effect, since nothing takes it; {hint}")


def _components(content: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the content of each component of a config."""
    if isinstance(content, dict) and "_target_" in content:
        yield path, content
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, part in parts:
        yield from _components(part, f"{path}#{name}" if path else str(name))


@cache
def bundle_keys() -> set[str]:
    """Return the keys of the configs and of their sections, and MONAI's own, without the options of overlays."""
    tracking: Any = DEFAULT_MLFLOW_SETTINGS["configs"]
    found = {*inspect.signature(monai.bundle.run).parameters, *tracking}
    for path in (bundle_dir() / "configs").rglob("*.[jy][sa]*"):
        for key, content in config_file(path).items():
            first, *deeper = key.lstrip("+").replace("::", "#").split("#")
            below = deeper[:1] or (content if _is_section(content) else ())
            found |= {first, *(f"{first}#{name}" for name in below)}
    return found - (OPTIONS["overlays"].keys() - OPTIONS["train"].keys())


def config_file(name: str | Path) -> dict[str, Any]:
    """Read one of the bundle's config files, which may be missing from a bundle that was packed from others."""
    path = bundle_dir() / "configs" / name
    return ConfigParser.load_config_file(str(path)) if path.is_file() else {}


def _is_section(content: Any) -> bool:
    return isinstance(content, dict) and "_target_" not in content


def references(content: Any) -> set[str]:
    """Return the paths that a config refers to, such as ``train#trainer`` for "@train#trainer"."""
    return set(re.findall(r"[@%]([\w#]+)", json.dumps(content, default=str).replace("::", "#")))


def parameters_of(component: dict[str, Any]) -> set[str] | None:
    """Return the names of the arguments that a component of a config takes; None if it takes any."""
    if "_target_" not in component:
        return None
    target: Any = component["_target_"]
    if isinstance(target, str):
        target = locate(ConfigComponent(config=component).resolve_module_name())
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return {one.name for one in parameters}


def check_device(device: Any) -> None:
    """Refuse a device that this machine does not have."""
    if device is None or is_computed(device):
        return
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise InputError(f"--device must be {DEVICE.name}, got {device!r}.") from None
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise InputError(
            f"--device {device}: PyTorch finds {count or 'no'} GPU{'s'[: count > 1]} here. Set --device cpu."
        )
