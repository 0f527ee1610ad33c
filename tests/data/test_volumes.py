# SPDX-License-Identifier: Apache-2.0
"""Volumes that cannot be used, each with a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from unetv2_monai import InputError, load_datalist
from unetv2_monai.data.checks import check_pair
from unetv2_monai.data.volumes import check_label_values, read_volume

AFFINE = nibabel.affines.from_matvec(np.diag([-0.5, 0.5, 3.0]), (10, -20, 30))


def write(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def refusal(path: str) -> str:
    with pytest.raises(InputError) as info:
        read_volume(path)
    assert str(info.value).startswith(path)
    return str(info.value)[len(path) :]


def test_volumes_that_cannot_be_used(tmp_path):
    whole = write(tmp_path / "cut.nii", np.ones((9, 9, 9), np.int16))
    Path(whole).write_bytes(Path(whole).read_bytes()[:900])
    assert refusal(whole).startswith(": cannot be read (")
    holes = np.zeros((4, 5, 6), np.float32)
    holes[0, 0, :3] = np.nan, np.inf, -np.inf
    assert "3 values are NaN or infinite. Replace them" in refusal(write(tmp_path / "holes.nii.gz", holes))
    assert "holds 4 x 5 values" in refusal(write(tmp_path / "flat.nii.gz", holes[..., 0]))
    assert "holds 4 x 5 x 6 x 1 x 2 values" in refusal(write(tmp_path / "many.nii.gz", np.zeros((4, 5, 6, 1, 2))))
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "holds colours" in refusal(write(tmp_path / "rgb.nii.gz", colours))
    header = nibabel.Nifti1Header()
    header["sform_code"], header["srow_x"], header["srow_y"] = 1, (1, 0, 0, 0), (0, 1, 0, 0)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6)), None, header), tmp_path / "zero.nii.gz")
    assert "its affine gives voxels no size" in refusal(str(tmp_path / "zero.nii.gz"))


@pytest.mark.parametrize(
    ("affine", "apart"),
    [
        (AFFINE @ nibabel.affines.from_matvec(np.eye(3), (0, 0, 1)), "1.0"),  # one slice further
        (AFFINE @ nibabel.affines.from_matvec(np.diag([-1, 1, 1]), (3, 0, 0)), "3.0"),  # mirrored in place
        (np.diag([1.0, 1, 1, 1]), "44.0"),  # the corner at 0, 4, 0 mm is at 20, 48, -10 in the image
    ],
)
def test_a_label_elsewhere(tmp_path, affine, apart):
    image = write(tmp_path / "a.nii.gz", np.zeros((4, 5, 6)))
    label = write(tmp_path / "b.nii.gz", np.zeros((4, 5, 6), np.uint8), affine)
    with pytest.raises(InputError) as info:
        check_pair({"image": image, "label": label})
    assert f"{label}: lies elsewhere than a.nii.gz, by up to {apart} voxels" in str(info.value)
    assert "image LAS, 0.5 x 0.5 x 3 mm, origin 10.0, -20.0, 30.0" in str(info.value)


def test_rounded_headers_are_no_difference(tmp_path):
    image = write(tmp_path / "a.nii.gz", np.zeros((400, 5, 6)))
    check_pair({"image": image, "label": write(tmp_path / "b.nii.gz", np.zeros((400, 5, 6)), AFFINE * (1 + 1e-5))})


def test_labels_that_a_header_scales(tmp_path):
    for values, advice in (([0, 1.00001], "save them as uint8, without scl_slope"), ([0, 0.5], "by nearest neighbour")):
        with pytest.raises(InputError) as info:
            check_label_values("a.nii", np.array(values), 2)
        assert advice in str(info.value)


def test_all_problems_together(tmp_path):
    """In one error, each with its file and what to do."""
    for name in "abcdef":
        write(tmp_path / "imagesTr" / f"{name}.nii.gz", np.zeros((4, 5, 6), np.int16))
        write(tmp_path / "labelsTr" / f"{name}.nii.gz", np.ones((4, 5, 6), np.uint8))
    write(tmp_path / "imagesTr" / "a.nii.gz", np.full((4, 5, 6), np.nan))
    write(tmp_path / "labelsTr" / "b.nii.gz", np.full((4, 5, 6), 3, np.uint8))
    write(tmp_path / "labelsTr" / "c.nii.gz", np.linspace(0, 2, 120).reshape(4, 5, 6))
    write(tmp_path / "labelsTr" / "d.nii.gz", np.ones((4, 5, 6), np.uint8), np.eye(4))
    write(tmp_path / "labelsTr" / "e.nii.gz", np.ones((4, 6, 5), np.uint8))
    with pytest.raises(InputError) as info:
        load_datalist(str(tmp_path), ["test"], out_channels=3)
    first, *lines, last = str(info.value).splitlines()
    assert first == f"5 problems in {tmp_path}:"
    assert last == "Fix or remove these files."
    for name, line, sentence in zip(
        "abcde",
        lines,
        (
            "120 values are NaN or infinite. Replace them",
            "label values [3], expected 0 to 2. Map them, or set --out_channels",
            "resample labels by nearest neighbour",
            "Copy the image's affine to the label if their voxels match",
            "mask of 4 x 6 x 5, but e.nii.gz is 4 x 5 x 6",
        ),
    ):
        assert f"{name}.nii.gz: " in line
        assert sentence in line
