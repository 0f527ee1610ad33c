# SPDX-License-Identifier: Apache-2.0
"""The handler that scores an evaluation, against values computed by hand."""

import json

import numpy as np
import pytest
import torch

from unetv2_monai import UNetV2

from ..conftest import draw_pair, draw_pairs, read_table
from ..data.folders import write_image
from ..support.workflow import DEFAULT_BACKBONE, EVALUATE, overlays, run


def score(weights, data, out, *names, **options) -> list[dict[str, str]]:
    """Rows of scores.csv."""
    files = [EVALUATE[0], *overlays(*names), EVALUATE[1]]
    options = {"image_size": 64, "network_def#channels": 8, "num_workers": 0, **options}
    run(files, "evaluating", dataset_dir=data, output_dir=out, checkpoint=weights, **options)
    return read_table(out / "evaluation" / "scores.csv")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two data sets below test/, scored by an untrained network."""
    folder = tmp_path_factory.mktemp("scores")
    for name, size in (("a", (60, 44)), ("b", (48, 80))):
        draw_pairs(folder / "data" / "test" / name, 2, name, *size)
    torch.manual_seed(0)
    network = UNetV2(backbone=DEFAULT_BACKBONE, channels=8)
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=2.0)
    torch.save(network.state_dict(), folder / "model.pt")
    return folder, network, score(folder / "model.pt", folder / "data", folder)


def test_one_summary_per_data_set(evaluated):
    folder, _, rows = evaluated
    summary = json.loads((folder / "evaluation" / "summary.json").read_text())
    assert list(summary) == ["a", "b"]
    for name, one in summary.items():
        assert one["images"] == 2
        mean = np.mean([float(row["dice"]) for row in rows if row["dataset"] == name])
        assert one["dice"]["mean"] == pytest.approx(mean)
        assert sum(count for count, _, _ in one["calibration"]) == 2 * (44 * 60 if name == "a" else 80 * 48)


def test_lesions_of_the_masks(evaluated):
    """Their pixels are those that were marked."""
    folder, _, rows = evaluated
    lesions = read_table(folder / "evaluation" / "lesions.csv")
    for row in rows:
        pixels = sum(int(lesion["pixels"]) for lesion in lesions if lesion["image"] == row["image"])
        assert pixels == int(row["tp"]) + int(row["fp"])


def test_an_image_with_two_masks_has_two_rows(tmp_path):
    """Of two raters, as datalist.json may list them."""
    draw_pair(tmp_path, "case", 32, 32)
    image, first = tmp_path / "images" / "case.png", tmp_path / "masks" / "case.png"
    second = write_image(tmp_path / "second.png", np.ones((32, 32), bool))
    items = [{"image": str(image), "label": str(mask), "dataset": "rater"} for mask in (first, second)]
    (tmp_path / "datalist.json").write_text(json.dumps({"test": items}))
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), tmp_path / "model.pt")
    sizes = [int(row["tp"]) + int(row["fn"]) for row in score(tmp_path / "model.pt", tmp_path, tmp_path, image_size=32)]
    assert len(sizes) == 2
    assert sizes[1] == 32 * 32 != sizes[0]


def test_reduced_precision(evaluated, tmp_path):
    """Outputs in half, weights in single precision, as mixed precision leaves them."""
    inferer = "$lambda inputs, network: torch.autocast('cpu', torch.bfloat16)(network.__call__)(inputs.as_tensor())"
    folder, _, full = evaluated
    half = score(folder / "model.pt", folder / "data", tmp_path, **{"validate#inferer": inferer})
    assert [float(row["dice"]) for row in half] == pytest.approx([float(row["dice"]) for row in full], abs=0.05)
    assert [row["mae"] for row in half] != [row["mae"] for row in full]
