# SPDX-License-Identifier: Apache-2.0
"""The bundle's configs, run as a user runs them: what the tests of them share."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow

from unetv2_monai.core.errors import message_behind

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
TRAIN = [str(CONFIGS / "train.json")]
EVALUATE = [*TRAIN, str(CONFIGS / "evaluate.json")]
INFERENCE = [str(CONFIGS / "inference.json")]
DEFAULT_BACKBONE = json.loads((CONFIGS / "train.json").read_text())["backbone"]
TINY = {"image_size": [32, 32], "batch_size": 2, "num_workers": 0, "network_def#channels": 8, "learning_rate": 0.001}


def overlays(*names: str) -> list[str]:
    """Config files of the bundle, such as ``options/ema``."""
    return [str(CONFIGS / f"{name}.yaml") for name in names]


def configs(names: str) -> list[str]:
    """Config files by their names, such as ``train options/ema evaluate``."""
    return [str(CONFIGS / f"{name}.{'yaml' if '/' in name else 'json'}") for name in names.split()]


def cases(name: str, key: str) -> list:
    """A table of cases of tests, one of ``tests/cases/NAME.yaml``."""
    return yaml.safe_load((Path(__file__).parents[1] / "cases" / f"{name}.yaml").read_text())[key]


def parsed(config_files: list[str], **overrides) -> ConfigParser:
    """The content of configs, with nothing built."""
    parser = ConfigParser()
    parser.read_config(config_files)
    parser.update(overrides)
    return parser


def command(config_files: list[str] | Path, run_id: str, **options) -> list[str]:
    """What follows ``python`` to run configs on the command line."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return ["-m", "monai.bundle", "run", run_id, "--config_file", str(config_files), *words]


def workflow(config_files: list[str], run_id: str, **overrides) -> ConfigWorkflow:
    overrides = {name: str(value) if isinstance(value, Path) else value for name, value in overrides.items()}
    kind = "train" if "train.json" in config_files[0] else "inference"
    flow = ConfigWorkflow(config_files, workflow_type=kind, run_id=run_id, **overrides)
    flow.initialize()
    return flow


def run(config_files: list[str], run_id: str, **overrides) -> ConfigWorkflow:
    flow = workflow(config_files, run_id, **overrides)
    flow.run()
    flow.finalize()
    return flow


def refusal(call: Callable[..., Any], *args, **kwargs) -> str:
    """The message of the InputError that a call raises, by itself or below MONAI's own errors."""
    with pytest.raises(Exception) as info:  # noqa: PT011
        call(*args, **kwargs)
    message = message_behind(info.value)
    assert message is not None, repr(info.value)
    return message


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as opened:
        return list(csv.DictReader(opened))


def read_scores(folder: Path, column: str) -> dict[str, float]:
    """One column of scores.csv, by the name of the image."""
    return {Path(row["image"]).name: float(row[column]) for row in read_table(folder / "scores.csv")}
