# SPDX-License-Identifier: Apache-2.0
"""Images, masks and volumes that cannot be used, each with a sentence that says what to do."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from unetv2_monai import InputError, load_datalist
from unetv2_monai.data.checks import check_each, check_pair, list_problems, palette_problems
from unetv2_monai.data.volumes import check_label_values, read_volume

from ..support.workflow import cases, refusal
from .folders import write_volume

AFFINE = nibabel.affines.from_matvec(np.diag([-0.5, 0.5, 3.0]), (10, -20, 30))


@pytest.mark.parametrize(("image", "label", "in_channels", "problem"), cases("data", "volumes"))
def test_pairs_of_volumes(tmp_path, image, label, in_channels, problem):
    item = {"image": write_volume(tmp_path / "a.nii", tuple(image))}
    item["label"] = write_volume(tmp_path / "b.nii", tuple(label))
    if problem:
        message = refusal(check_pair, item, in_channels=in_channels)
        assert message.startswith(str(tmp_path))
        assert problem in message
    else:
        check_pair(item, in_channels=in_channels)


def test_images_have_three_channels(pairs):
    assert load_datalist(str(pairs), ["training"], in_channels=3)["training"]
    message = refusal(load_datalist, str(pairs), ["training"], in_channels=1)
    assert "images have 3 channels (RGB), but the network takes 1. Save each channel as a file" in message


HOLES = np.zeros((4, 5, 6), np.float32)
HOLES[0, 0, :3] = np.nan, np.inf, -np.inf


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (HOLES, "3 values are NaN or infinite. Replace them"),
        (HOLES[..., 0], "holds 4 x 5 values. Save it with three dimensions"),
        (np.zeros((4, 5, 6, 1, 2)), "holds 4 x 5 x 6 x 1 x 2 values"),
        (np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds colours"),
    ],
)
def test_values_that_cannot_be_used(tmp_path, values, sentence):
    path = write_volume(tmp_path / "a.nii.gz", values)
    assert refusal(read_volume, path).startswith(f"{path}: {sentence}")


def test_files_that_cannot_be_used(tmp_path):
    cut = Path(write_volume(tmp_path / "cut.nii", np.ones((9, 9, 9), np.int16)))
    cut.write_bytes(cut.read_bytes()[:900])
    assert refusal(read_volume, str(cut)).startswith(f"{cut}: cannot be read (")
    header = nibabel.Nifti1Header()
    header["sform_code"], header["srow_x"], header["srow_y"] = 1, (1, 0, 0, 0), (0, 1, 0, 0)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6)), None, header), tmp_path / "zero.nii.gz")
    assert "its affine gives voxels no size" in refusal(read_volume, str(tmp_path / "zero.nii.gz"))


@pytest.mark.parametrize(
    ("affine", "apart"),
    [
        (AFFINE @ nibabel.affines.from_matvec(np.eye(3), (0, 0, 1)), "1.0"),  # one slice further
        (AFFINE @ nibabel.affines.from_matvec(np.diag([-1, 1, 1]), (3, 0, 0)), "3.0"),  # mirrored in place
        (np.eye(4), "44.0"),  # the corner at 0, 4, 0 mm is at 20, 48, -10 in the image
    ],
)
def test_a_label_elsewhere(tmp_path, affine, apart):
    image = write_volume(tmp_path / "a.nii.gz", np.zeros((4, 5, 6)), AFFINE)
    label = write_volume(tmp_path / "b.nii.gz", np.zeros((4, 5, 6), np.uint8), affine)
    message = refusal(check_pair, {"image": image, "label": label})
    assert f"{label}: lies elsewhere than a.nii.gz, by up to {apart} voxels" in message
    assert "image LAS, 0.5 x 0.5 x 3 mm, origin 10.0, -20.0, 30.0" in message


def test_rounded_headers_are_no_difference(tmp_path):
    image = write_volume(tmp_path / "a.nii.gz", np.zeros((400, 5, 6)), AFFINE)
    label = write_volume(tmp_path / "b.nii.gz", np.zeros((400, 5, 6)), AFFINE * (1 + 1e-5))
    check_pair({"image": image, "label": label})


@pytest.mark.parametrize(("values", "sentence"), cases("data", "labels"))
def test_labels_with_other_values(values, sentence):
    assert sentence in refusal(check_label_values, "a.nii", np.array(values), 3)


def test_only_input_errors_are_caught():
    def check(item):
        raise InputError(item["image"]) if item["image"] == "a" else KeyError("of the check itself")

    assert check_each([{"image": "a"}], check) == ["a"]
    with pytest.raises(KeyError):
        check_each([{"image": "a"}, {"image": "b"}], check)


def test_long_lists_of_problems_are_cut():
    message = list_problems(Path("data"), [f"{index}.png: cannot be read" for index in range(203)])
    assert message.startswith("203 problems in data:\n  0.png: cannot be read\n  1.png")
    assert message.endswith("199.png: cannot be read\n  ... and 3 more\nFix or remove these files.")


def test_palettes_are_judged_as_a_whole(tmp_path):
    """A program that writes the fewest colours numbers them anew in each file: class 3 would become class 2."""
    labels = []
    for name, entries, colors in (
        ("a", [0, 1, 2, 3], [0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255]),
        ("b", [0, 1, 2, 2], [0, 0, 0, 255, 0, 0, 0, 0, 255]),  # without class 2
        ("c", [0, 1, 0, 1], [0, 0, 0, 255, 0, 0]),
    ):
        mask = Image.fromarray(np.array([entries], np.uint8))
        mask.putpalette(colors)
        mask.save(tmp_path / f"{name}_mask.png")
        Image.new("RGB", (4, 1)).save(tmp_path / f"{name}.jpg")
        labels.append({"label": str(tmp_path / f"{name}_mask.png")})
    (problem,) = palette_problems(labels, 4)
    assert "b_mask.png: palette entry 2 is (0, 0, 255), but (0, 255, 0) in a_mask.png" in problem
    assert palette_problems(labels, 1) == palette_problems([labels[0], labels[2]], 4) == []
    assert problem in refusal(load_datalist, str(tmp_path), ["training"], out_channels=4)
    table = {"black": 0, "red": 1, "lime": 2, "blue": 3}
    assert len(load_datalist(str(tmp_path), ["training"], out_channels=4, mask_colors=table)["training"]) == 3
