# SPDX-License-Identifier: Apache-2.0
"""Classes that overlap: values of masks are combinations of classes, and loss and scores are those of the classes."""

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from PIL import Image

from unetv2_monai import OverlapLoss, overlap_table
from unetv2_monai.core.overlaps import combination_names, number_combinations, to_values
from unetv2_monai.networks import options_of

from .conftest import draw_boxes
from .data.folders import write_image
from .support.workflow import EVALUATE, INFERENCE, TINY, TRAIN, overlays, read_table, refusal, run

BOTH = {"disc": [1, 3], "bar": [2, 3]}


def test_table_by_hand():
    assert overlap_table(BOTH, 4).astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]
    assert combination_names(BOTH) == ["background", "disc", "bar", "disc + bar"]
    assert combination_names({"whole": [1, 2], "core": [2]}) == ["background", "whole", "whole + core"]


@pytest.mark.parametrize(
    ("overlaps", "message"),
    [
        (None, "overlaps None: each class needs a list of values"),
        ({"disc": 1}, "each class needs a list of values"),
        ({"disc": [1, 4], "bar": [2, 3]}, "[4] are not among 1 to 3, since out_channels is 4"),
        ({"disc": [0, 1], "bar": [2, 3]}, "[0] are not among 1 to 3"),
        ({"disc": [1], "bar": [2]}, "3 is in no class"),
        ({"disc": [1], "bar": [2, 3]}, "2 and 3 have the same classes"),
    ],
)
def test_wrong_tables(overlaps, message):
    assert message in refusal(overlap_table, overlaps, 4)


def test_numbers_by_hand():
    """Codes 1, 2, 4 are the classes alone; of the others, 5 and 7 occur."""
    order, overlaps = number_combinations([7, 0, 5, 2, 5], ["a", "b", "c"])
    assert order.tolist() == [0, 1, 2, 4, 5, 7]
    assert overlaps == {"a": [1, 4, 5], "b": [2, 5], "c": [3, 4, 5]}
    assert to_values(np.array([[7, 5], [4, 0]]), order).tolist() == [[5, 4], [3, 0]]
    assert "257 combinations" in refusal(number_combinations, range(257), [*"abcdefghi"])


def test_loss_is_that_of_each_class():
    """With independent classes, it is the mean of the losses of two structures, each with a sigmoid."""
    torch.manual_seed(0)
    disc, bar = torch.randn(2, 2, 1, 6, 5)
    target = torch.randint(0, 4, (2, 1, 6, 5))
    loss = DiceCELoss(sigmoid=True)
    expected = (loss(disc, (target % 2).float()) + loss(bar, (target // 2).float())) / 2
    values = torch.cat([0 * disc, disc, bar, disc + bar], 1) + torch.randn(2, 1, 6, 5)  # a softmax ignores the offset
    assert OverlapLoss(loss, overlap_table(BOTH, 4))(values, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_from_training_to_scores(tmp_path):
    """The masks of inference hold values, and the scores of an evaluation are counted on the classes of these masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :60]
    for index in range(4):
        disc, bar = np.hypot(x - 25 - 3 * index, y - 24) < 14, abs(y - 20 - 2 * index) < 7
        image = rng.integers(0, 40, (48, 60, 3)) + np.stack([disc * 180, bar * 180, 0 * bar], -1)
        write_image(tmp_path / "data" / "images" / f"{index}.png", image.astype(np.uint8))
        write_image(tmp_path / "data" / "masks" / f"{index}.png", (disc + 2 * bar).astype(np.uint8))
    options = {**TINY, "dataset_dir": tmp_path / "data", "learning_rate": 0.01, "out_channels": 4}
    wanted = {**options, "output_dir": tmp_path / "out", "overlaps": BOTH}
    run([*TRAIN, *overlays("options/overlaps")], "training", **wanted, max_epochs=8, val_fraction=0.25)
    weights = tmp_path / "out" / "models" / "model.pt"
    carried = options_of(torch.load(weights, weights_only=True))
    assert carried["class_names"] == ["background", "disc", "bar", "disc + bar"]
    assert "--with overlaps" in refusal(run, EVALUATE, "evaluating", **options, output_dir=tmp_path / "out")
    del wanted["overlaps"]  # which weights carry
    run([EVALUATE[0], *overlays("options/overlaps"), EVALUATE[1]], "evaluating", **wanted)
    plain = {"dataset_dir": tmp_path / "data", "image_size": [32, 32], "output_dir": tmp_path / "masks"}
    run(INFERENCE, "inference", **plain, checkpoint=weights)
    rows = read_table(tmp_path / "out" / "evaluation" / "scores.csv")
    assert [row["class"] for row in rows] == ["1", "2"] * 4
    for row in rows:
        name, values = row["image"].rpartition("/")[2], list(BOTH.values())[int(row["class"]) - 1]
        found, truth = (
            np.isin(np.array(Image.open(tmp_path / folder / name)), values) for folder in ("masks", "data/masks")
        )
        assert [int(row[key]) for key in ("tp", "fp", "fn")] == [
            int(one.sum()) for one in (found & truth, found & ~truth, ~found & truth)
        ]
    assert np.mean([float(row["dice"]) for row in rows]) > 0.5


def test_volumes_and_several_networks(tmp_path):
    """Nested classes of volumes, scored with an ensemble, whose agreement is left out since it is of values."""
    draw_boxes(tmp_path / "data", 3, np.eye(4))
    nested = {"whole": [1, 2], "part": [2]}
    options = {"dataset_dir": tmp_path / "data", "image_size": [16, 16, 16], "batch_size": 2, "num_workers": 0}
    options |= {"output_dir": tmp_path / "out", "overlaps": nested, "val_fraction": 0.3}
    files = [*TRAIN, *overlays("recipes/volumes", "options/overlaps")]
    run(files, "training", **options, max_epochs=1)
    weights = tmp_path / "out" / "models" / "model.pt"
    files += [EVALUATE[1], *overlays("options/ensemble")]
    run(files, "evaluating", **options, eval_section="all", checkpoints=[str(weights)] * 2)
    rows = read_table(tmp_path / "out" / "ensemble" / "evaluation" / "scores.csv")
    assert [row["class"] for row in rows] == ["1", "2"] * 3
    assert "agreement" not in rows[0]
