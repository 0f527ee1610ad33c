# SPDX-License-Identifier: Apache-2.0
"""The bundle's configs, run as a user runs them: what the tests of them share."""

import csv
import json
from pathlib import Path

import pytest
from monai.bundle import ConfigWorkflow

from unetv2_monai import InputError

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
TRAIN = [str(CONFIGS / "train.json")]
EVALUATE = [*TRAIN, str(CONFIGS / "evaluate.json")]
INFERENCE = [str(CONFIGS / "inference.json")]
DEFAULT_BACKBONE = json.loads((CONFIGS / "train.json").read_text())["backbone"]
TINY = {"image_size": [32, 32], "batch_size": 2, "num_workers": 0, "network_def#channels": 8, "learning_rate": 0.001}


def workflow(config_files: list[str], run_id: str, **overrides) -> ConfigWorkflow:
    kind = "train" if "train.json" in config_files[0] else "inference"
    flow = ConfigWorkflow(config_files, workflow_type=kind, run_id=run_id, **overrides)
    flow.initialize()
    return flow


def run(config_files: list[str], run_id: str, **overrides) -> ConfigWorkflow:
    flow = workflow(config_files, run_id, **overrides)
    flow.run()
    flow.finalize()
    return flow


def root_error(info: pytest.ExceptionInfo) -> BaseException:
    """What MONAI's "failed to instantiate" errors were raised from."""
    error = info.value
    while error.__cause__ is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def read_scores(folder: Path, column: str) -> dict[str, float]:
    """One column of scores.csv, by the name of the image."""
    with (folder / "scores.csv").open(newline="") as opened:
        return {Path(row["image"]).name: float(row[column]) for row in csv.DictReader(opened)}
