# SPDX-License-Identifier: Apache-2.0

import pytest

from unetv2_monai.core.places import bundle_dir

from ..support.workflow import refusal


@pytest.mark.parametrize(
    ("package", "bundle"),
    [
        ("site-packages/unetv2_monai", "site-packages/unetv2_monai/bundle_files"),  # a wheel
        ("unetv2_polyp_segmentation/unetv2_monai", "unetv2_polyp_segmentation"),  # a packed bundle
        ("repository/unetv2_monai", "repository/bundle"),
    ],
)
def test_where_the_bundle_is(package, bundle, tmp_path):
    (tmp_path / package).mkdir(parents=True)
    (tmp_path / bundle / "configs").mkdir(parents=True)
    (tmp_path / bundle / "configs" / "train.json").touch()
    assert bundle_dir(tmp_path / package) == tmp_path / bundle


def test_no_bundle(tmp_path):
    assert f"no configs/train.json in {tmp_path / 'p' / 'bundle_files'}, " in refusal(bundle_dir, tmp_path / "p")
