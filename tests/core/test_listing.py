# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are images, and which are their masks."""

from __future__ import annotations

import pytest

from unetv2_monai import InputError
from unetv2_monai.core.listing import IMAGE_ENDINGS, list_images, pair_files, split_by_suffix, stem, unique_stems


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (["a.png", "b.JPG", ".hidden.png", "notes.txt", "c.nii.gz"], ["a.png", "b.JPG"]),
        (["a.jpg", "a_mask.png", "b_seg.png", "b_seg_mask.png"], ["a.jpg", "b_seg.png"]),
        (["a.jpg", "a_MASK.png"], ["a.jpg"]),
        (["a.jpg", "a_mask.png", "c.png"], ["a.jpg", "a_mask.png", "c.png"]),  # not every image has a mask
        (["a.jpg", "a_mask.png", "a_seg.png"], ["a.jpg", "a_mask.png", "a_seg.png"]),  # or one has two
        (["a.jpg", "a.png", "a_mask.png"], ["a.jpg", "a.png", "a_mask.png"]),  # or two images have one
        (["Images/a.png", "image/readme.txt", "b.png"], ["Images/a.png"]),
    ],
)
def test_images_with_and_without_their_masks(files, listed, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "folder.png").mkdir()
    assert [str(path.relative_to(tmp_path)) for path in list_images(tmp_path, IMAGE_ENDINGS)] == listed


def test_no_images_and_two_folders_of_them(tmp_path):
    with pytest.raises(InputError, match=r"holds no image \(.*\.nii\.gz\)\.$"):
        list_images(tmp_path)
    for folder in ("other", "images", "image"):
        (tmp_path / folder).mkdir()
    (tmp_path / "other" / "a.png").touch()
    with pytest.raises(InputError, match=r"images holds no image .*\.nii\.gz\)\.$"):
        list_images(tmp_path)
    (tmp_path / "images").rmdir()
    (tmp_path / "image").rmdir()
    with pytest.raises(InputError, match=r"holds no image .* Sub-folders are not read: .* such as .*other\.$"):
        list_images(tmp_path)
    for folder in ("images", "image"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").touch()
    with pytest.raises(InputError, match="holds images in images/ and image/: name one of them"):
        list_images(tmp_path)


def test_stems_and_pairs(tmp_path):
    assert [stem(tmp_path / name) for name in ("a.b.PNG", "case.1", "v.nii.gz")] == ["a.b", "case.1", "v"]
    paths = [tmp_path / name for name in ("a.png", "a.jpg", "a_gt.png", "b_seg.bmp", "x/a.png")]
    files, problems = unique_stems(paths)
    assert [sentence.split(": ")[1] for sentence in problems] == ["same name as a.png", f"same name as {paths[0]}"]
    images, masks = split_by_suffix(files)
    assert (list(images), list(masks)) == (["a"], ["a_gt", "b_seg"])
    pairs, alone = pair_files(images, masks)
    assert pairs == [(paths[0], paths[2])]
    assert alone == [f"{paths[3]}: mask without an image of that name"]
