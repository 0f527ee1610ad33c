# SPDX-License-Identifier: Apache-2.0
"""compare.py on volumes with several classes: its tables and scores by hand, and its networks."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from common.bundle import read_config
from comparisons.results import plot, tabulate, write_scores
from comparisons.runs import Run
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR

from ..conftest import draw_boxes, read_table, script
from ..support.compared import finished_with


def scored(folder: Path, seed: int, cases: dict[str, list[tuple]], row: str = "a") -> Run:
    """``cases``: Dice, HD95 and perhaps surface Dice of class 1 and of class 2, by the name of the volume."""
    scores = "dice", "hd95", "surface_dice"
    rows = [
        {"image": f"/d/imagesTr/{name}", "class": index, "iou": 0.5, **dict(zip(scores, case[index - 1]))}
        for index in (2, 1)  # in the file in any order
        for name, case in cases.items()
    ]
    return finished_with(folder, rows, 60, 122, 1500, seed=seed, row=row, parameters=2_500_000)


@pytest.fixture
def runs(tmp_path) -> dict[str, list[Run]]:
    a = [
        scored(tmp_path / "a0", 0, {"x": [(0.8, 1, 0.9), (0.6, 2, 0.5)], "y": [(0.6, 3, 0.7), (0.4, 4, 0.7)]}),
        scored(tmp_path / "a1", 1, {"x": [(0.9, 2, 0.9), (0.7, 3, 0.5)], "y": [(0.7, 4, 0.7), (0.5, 5, 0.7)]}),
    ]
    # of the seed 0: one volume better by 0.2 and the other by 0, of which class 2 is missed once
    b = scored(tmp_path / "b0", 0, {"x": [(1, 0, 1), (0.8, 1, 1)], "y": [(1, 2, 1), (0, float("nan"), 0)]}, "b")
    return {"a": a, "b": [b]}


def test_table_of_two_classes_by_hand(runs, tmp_path):
    head, _, *rows = tabulate(runs, "a").splitlines()
    assert head == (
        "| network | seeds | epochs | set Dice | set Dice difference | set class 1 Dice | set class 2 Dice | "
        "set HD95 (mm) | set surface Dice | CPU minutes | peak MB | M parameters |"
    )
    assert [row.strip("| ").split(" | ") for row in rows] == [
        # Dice of 0.6 and 0.7
        ["a", "2", "60", "0.650 ± 0.071", "reference", "0.750 ± 0.071", "0.550 ± 0.071", "3.00 ± 0.71",
         "0.700 ± 0.000", "2.0 ± 0.0", "1500 ± 0", "2.50"],
        # 0.9 - 0.7 and 0.5 - 0.5: of both volumes drawn twice, the mean is 0, 0.1 (half of the draws) or 0.2
        # HD95 of class 1: (0 + 2) / 2, of class 2: 1; the surface Dice counts the missed one as 0
        ["b", "1", "60", "0.700", "+0.100 [+0.000, +0.200]", "1.000", "0.400", "1.00 (1 undefined)", "0.750", "2.0",
         "1500", "2.50"],
    ]  # fmt: skip
    axis, _ = plot({"epochs": runs}).axes  # and the validations in the course of training
    assert [one.lines[0].get_ydata()[0] for one in axis.containers] == pytest.approx([0.65, 0.7])
    assert axis.get_ylabel() == "Dice, mean over images and classes"
    flat = tabulate({"a": [scored(tmp_path / "flat", 0, {"x": [(0.8, 1), (0.6, 2)]})]}, "a")  # of images
    assert "| set HD95 (pixels) | CPU minutes |" in flat


def test_scores_by_volume_and_class(runs, tmp_path):
    write_scores(tmp_path / "scores.csv", {"epochs": runs})
    rows = read_table(tmp_path / "scores.csv")
    columns = ["row", "seed", "terms", "dataset", "image", "class", "dice", "iou", "hd95", "surface_dice"]
    assert list(rows[0]) == columns
    places = [(row["row"], row["seed"], row["image"], row["class"]) for row in rows]
    assert places == [*product("a", "01", "xy", "12"), *product("b", "0", "xy", "12")]
    assert [row["dice"] for row in rows[:4]] == ["0.8000", "0.6000", "0.6000", "0.4000"]
    assert [row["hd95"] for row in rows[-4:]] == ["0.0000", "1.0000", "2.0000", ""]
    assert [row["surface_dice"] for row in rows[-4:]] == ["1.0000", "1.0000", "1.0000", "0.0000"]


def config(recipe: str, *overlays: str, **options):
    torch.manual_seed(0)
    return read_config(["train.json", *overlays, f"recipes/{recipe}.yaml"], options)


def test_dynunet_is_that_of_nnunet():
    """Two convolutions with instance norm at each of four scales, halved three times, and 32 to 256 filters."""
    network = config("dynunet", "recipes/volumes.yaml").get_parsed_content("network_def")
    convolutions = [module for module in network.modules() if type(module) is torch.nn.Conv3d]
    down = [one for one in convolutions if one.kernel_size == (3, 3, 3)][:8]
    assert [one.out_channels for one in down] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert [one.stride[0] for one in down] == [1, 1, 2, 1, 2, 1, 2, 1]
    norms = {type(module) for module in network.modules() if "Norm" in type(module).__name__}
    assert norms == {torch.nn.InstanceNorm3d}
    assert {module.negative_slope for module in network.modules() if type(module) is torch.nn.LeakyReLU} == {0.01}


def test_deep_supervision_of_dynunet():
    """Its two outputs are weighted 1 and 1/2; in evaluation it has one."""
    deep = config("dynunet", **{"network_def#filters": [4, 4, 8, 8]}, image_size=32, out_channels=3)
    network = deep.get_parsed_content("network_def")
    image, label = torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, 1, 32, 32)).float()
    stack = network(image)
    network.register_forward_hook(deep.get_parsed_content("as_list"))
    heads = network(image)
    assert isinstance(heads, list)
    assert torch.equal(torch.stack(heads, 1), stack)
    one = DiceCELoss(softmax=True, to_onehot_y=True)
    loss = deep.get_parsed_content("loss")(heads, label).item()
    assert loss == pytest.approx((one(heads[0], label) + one(heads[1], label) / 2).item())
    assert torch.equal(network.eval()(image), heads[0])


def test_unetr_pads_and_cuts():
    pytest.importorskip("einops")
    network = config("unetr", image_size=[33, 64]).get_parsed_content("network_def").eval()
    plain = UNETR(3, 1, (48, 64), feature_size=8, hidden_size=192, mlp_dim=768, num_heads=6, spatial_dims=2).eval()
    plain.load_state_dict({name.removeprefix("1."): value for name, value in network.state_dict().items()})
    image = torch.rand(1, 3, 33, 64)
    padded = torch.zeros(1, 3, 48, 64)
    padded[:, :, :33] = image
    with torch.no_grad():
        assert torch.equal(network(image), plain(padded)[:, :, :33])


@pytest.mark.slow
def test_networks_on_volumes(tmp_path):
    """Every row is trained, scored by windows and tabulated."""
    pytest.importorskip("einops")
    data, out = tmp_path / "data", tmp_path / "out"
    draw_boxes(data, 5, np.eye(4))
    (data / "train.txt").write_text("v0\nv1\nv2\n")
    (data / "test.txt").write_text("v3\nv4\n")
    rows = ["unetv2:network_def#channels=8", "unetv2:network_def#channels=8,network_def#sdi=false"]
    rows += ["dynunet:network_def#filters=[4,4,8,8]", "segresnet:network_def#init_filters=8"]
    rows += ["unetr:unetr#hidden_size=96"]
    script("compare").main([
        "--dataset_dir", str(data), "--output_dir", str(out), "--overlays", "recipes/volumes", "--rows", *rows,
        "--seeds", "0", "--set", "image_size=[16, 16, 48]", "max_epochs=1", "batch_size=2", "num_workers=0",
    ])  # fmt: skip
    table = [line.strip("| ").split(" | ") for line in (out / "results.md").read_text().splitlines()[:7]]
    assert [line[0] for line in table[2:]] == rows
    places = {(row["row"], row["image"][-9:], row["class"]) for row in read_table(out / "scores.csv")}
    assert places == {*product(rows, ("v3.nii.gz", "v4.nii.gz"), "12")}
