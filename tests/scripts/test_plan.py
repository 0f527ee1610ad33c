# SPDX-License-Identifier: Apache-2.0
"""What a plan chooses for data whose measures are known, and that a training takes it."""

import argparse

import numpy as np
import pytest
import yaml

from ..conftest import script
from ..support.workflow import TINY, TRAIN, cases, overlays, refusal, run

GIVEN = {"out_channels": 1, "images_dir": None, "mask_colors": None, "ignore_label": None}


def facts(count: int = 10, **known) -> list:
    image = known.pop("image", "a.png")
    about = {"split": "training", "image": image, "labels": (), "values": frozenset({0, 1}), "lesion": 0.1}
    about |= {"size": (400, 400), "sha256": "", "bits": np.zeros(0), "traits": {}, "counts": {0: 900, 1: 100}}
    return [script("plan").Facts(**(about | known)) for _ in range(count)]


def planned(some: list, **given):
    return script("plan").plan_of(some, argparse.Namespace(**{**GIVEN, **given}))


@pytest.mark.parametrize(("size", "region", "overlays", "values"), cases("data", "plans"))
def test_size_of_images_by_their_lesions(size, region, overlays, values):
    plan = planned(facts(size=tuple(size), regions=(region, region // 200)))  # the second is a slip of the hand
    assert plan.overlays == ["recommended", "ema", *overlays]
    assert plan.values == {**values, "out_channels": 1}


def test_frames_and_lesion_free_images():
    bordered = facts(7, regions=(9000,), seen=0.6)
    empty = facts(1, counts={0: 1000}, lesion=0, seen=0.6)
    plan = planned([*bordered, *empty])
    assert plan.overlays == ["recommended", "ema", "endoscopy", "lesion_free"]
    shares = plan.values["lesion_free_crops"], plan.values["lesion_free_covers"]
    assert shares == pytest.approx((0.1 / 6, 0.05 / 6), abs=1e-3)  # an eighth of the images of 15 %
    assert "endoscopy" not in planned([*facts(3, seen=0.6, cut=0.1, regions=(9000,)), *bordered]).overlays
    assert "endoscopy" not in planned(facts(7, regions=(9000,), seen=0.6, lesion=0.3)).overlays
    assert "endoscopy" not in planned([*facts(30, regions=(9000,)), *bordered]).overlays


def test_rare_classes_get_weights():
    several = facts(counts={0: 10000, 1: 1600, 2: 25}, regions=(9000,))
    even = facts(counts={0: 900, 1: 60, 2: 40}, regions=(9000,))
    assert "loss#loss#weight" not in planned(even, out_channels=3).values
    weight = planned(several, out_channels=3).values["loss#loss#weight"]  # median 812.5; 4 is the most
    assert weight == "$torch.tensor([0.5, 0.71, 4.0], device=@device)"
    assert "class 3 is in no mask" in refusal(planned, several, out_channels=4)


def test_volumes():
    traits = {"several numbers of channels": "1"}
    ct = facts(6, image="a.nii", spacing=(0.7, 0.7, 5.0), grid=(512, 512, 40), traits=traits, lowest=-1024.0)
    thin = facts(5, image="b.nii", spacing=(0.8, 0.8, 2.5), grid=(512, 512, 80), traits=traits, lowest=-1000.0)
    for one in (*ct, *thin):
        object.__setattr__(one, "marked", np.arange(-100, 301))
    plan = planned([*ct, *thin])
    assert plan.overlays == ["recommended", "volumes", "ema"]
    assert plan.values["spacing"] == [0.7, 0.7, 2.5]  # medians, and of the slices the 10th percentile
    assert (plan.values["intensity"], plan.values["window_level"], plan.values["window_width"]) == ("ct", 100, 396)
    assert plan.values["transforms#affine#rotate_range"] == [0.0, 0.0, 0.2]
    assert plan.values["image_size"] == [80, 80, 80]
    mr = facts(image="a.nii", spacing=(1.0, 1.0, 1.0), grid=(35, 51, 36), traits=traits, marked=np.arange(9))
    assert planned(mr).values == {"in_channels": 1, "image_size": [40, 56, 40], "out_channels": 1}


def test_a_training_takes_the_plan(pairs, tmp_path, capsys):
    file = tmp_path / "plan.yaml"
    plan = script("plan")
    plan.main(["--dataset_dir", str(pairs), "--output", str(file), "--hours", "0.1"])
    content = yaml.safe_load(file.read_text())
    assert plan.LEAST_EPOCHS <= content["max_epochs"] <= plan.MOST_EPOCHS
    assert f"--with recommended ema {file}" in capsys.readouterr().out
    files = [*TRAIN, *overlays("recipes/recommended", "options/ema"), str(file)]
    options = {"dataset_dir": pairs, "output_dir": tmp_path / "out", "max_epochs": 1, "warmup_epochs": 0.5}
    run(files, "training", **{**TINY, **options})
    assert (tmp_path / "out" / "models" / "model.pt").is_file()
    (pairs / "masks" / "case_0.png").unlink()
    message = refusal(plan.main, ["--dataset_dir", str(pairs)])
    assert "1 problems, the first" in message
