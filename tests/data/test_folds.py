# SPDX-License-Identifier: Apache-2.0
"""Folds: every image is held out once, patients stay together, lesions of all sizes are in each, and nothing moves."""

import shutil

import numpy as np
import pytest

from unetv2_monai import load_datalist
from unetv2_monai.bundle.run_folder import pairs_of_run

from ..conftest import draw_pairs
from ..support.workflow import EVALUATE, TRAIN, overlays, parsed, refusal
from .folders import names, write_image


@pytest.fixture
def data(tmp_path):
    """12 images: 4 without a lesion, 4 with one of 1 %, 4 with one of 36 %."""
    for index in range(12):
        mask = np.zeros((10, 10), np.uint8)
        mask[: (0, 1, 6)[index % 3], : (0, 1, 6)[index % 3]] = 255
        write_image(tmp_path / "data" / "images" / f"{index:02}.png", np.zeros((10, 10, 3), np.uint8))
        write_image(tmp_path / "data" / "masks" / f"{index:02}.png", mask)
    return tmp_path / "data"


def load(data, fold, folds=4, sections=("training", "validation"), seed=0):
    options = {"folds": folds, "fold": fold, "file": str(data.parent / "folds.json")}
    return load_datalist(str(data), sections, seed=seed, folds=options)


def test_each_fold_has_lesions_of_all_sizes(data):
    lists = [load(data, fold) for fold in range(4)]
    held_out = [names(one["validation"]) for one in lists]
    assert sorted(name for one in held_out for name in one) == [f"{index:02}" for index in range(12)]
    for one, found in zip(held_out, lists):
        assert sorted(int(name) % 3 for name in one) == [0, 1, 2]
        assert sorted([*one, *names(found["training"])]) == [f"{index:02}" for index in range(12)]
    (data.parent / "folds.json").unlink()
    assert [names(load(data, fold, seed=1)["validation"]) for fold in range(4)] != held_out


def test_no_image_changes_its_fold(data, caplog):
    first = load(data, 1)
    for kind in ("images", "masks"):
        shutil.copy(data / kind / "00.png", data / kind / "0a.png")
    assert load(data, 1, seed=7) == first  # the seed of a later run does not count
    assert "1 images were added" in caplog.text
    (data / "images" / "03.png").unlink()
    (data / "masks" / "03.png").unlink()
    assert "1 of the images in" in refusal(load, data, 1)


def test_patients_stay_together(data):
    for path in sorted(data.glob("*/*.png")):
        folder = data / f"p{int(path.stem) // 3}" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    for kind in ("images", "masks"):
        (data / kind).rmdir()
    held_out = [{int(name) // 3 for name in names(load(data, fold)["validation"])} for fold in range(4)]
    assert sorted(held_out, key=min) == [{0}, {1}, {2}, {3}]


def test_scoring_does_not_divide_anew(data, tmp_path):
    """Another division would count images as unseen that were trained on."""
    draw_pairs(tmp_path / "pairs", 6)
    files, options = [*TRAIN, *overlays("options/folds")], {"dataset_dir": str(tmp_path / "pairs"), "bundle_dir": "."}
    options |= {"output_dir": str(tmp_path / "out" / "fold_0"), "folds": 3}
    parsed(files, **options).get_parsed_content("datalist")
    (tmp_path / "out" / "folds.json").unlink()
    evaluation = parsed([*files, EVALUATE[1]], **options, eval_section="validation")
    assert "folds.json, which holds the fold of each image, is missing" in refusal(
        evaluation.get_parsed_content, "eval_datalist"
    )
    assert "is missing" in refusal(pairs_of_run, parsed(files, **options).get())


def test_what_is_refused(data):
    assert "of 4 folds, the first is 0 and the last 3" in refusal(load, data, 4)
    assert "--folds 13: there are 12 images only" in refusal(load, data, 0, 13)
    load(data, 0)
    assert "divides into 4 folds, not 3" in refusal(load, data, 0, 3)
    (data.parent / "folds.json").write_text("{")
    assert "holds no division" in refusal(load, data, 0)
    (data / "val.txt").write_text("00\n")
    assert "names its pairs of validation" in refusal(load, data, 0)
