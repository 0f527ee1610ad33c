# SPDX-License-Identifier: Apache-2.0
"""The rules of core/listing.py that tests/data/ does not reach."""

import pytest

from unetv2_monai.core.listing import IMAGE_ENDINGS, list_images, stem, unique_stems

from ..data.folders import touch


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        ("a.png b.JPG c.nii.gz", "a.png b.JPG"),
        ("a.jpg a_mask.png b_seg.png b_seg_mask.png", "a.jpg b_seg.png"),
        ("a.jpg a_mask.png a_seg.png c.png", "a.jpg c.png"),  # two masks of one image, none of another
        ("b~(1).png b~(1)_mask.png b~(1)_mask_1.png frame~2.png frame~2~mask.png", "b~(1).png frame~2.png"),
        ("img_1.png mask_1.png lone_seg.png", "img_1.png lone_seg.png"),
    ],
)
def test_images_with_and_without_their_masks(files, listed, tmp_path):
    touch(tmp_path, files)
    assert [path.name for path in list_images(tmp_path, IMAGE_ENDINGS)] == [
        name.replace("~", " ") for name in listed.split()
    ]


def test_stems(tmp_path):
    assert [stem(tmp_path / name) for name in ("a.b.PNG", "case.1", "v.nii.gz")] == ["a.b", "case.1", "v"]
    first, *others = (tmp_path / name for name in ("a.png", "a.jpg", "x/a.png"))
    files, problems = unique_stems([first, *others])
    assert files == {"a": first}
    assert problems == [f"{others[0]}: same name as a.png", f"{others[1]}: same name as {first}"]
