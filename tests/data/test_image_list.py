# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import InputError, list_images, report_images
from unetv2_monai.data import ImageList


def names(items) -> list[str]:
    return [Path(item["image"]).stem for item in items]


def volume(path: Path, *shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), path)


def test_list_images(pairs):
    expected = [f"case_{i}" for i in range(6)]
    assert names(list_images(str(pairs))) == names(list_images(str(pairs / "images"))) == expected
    assert names(list_images(str(pairs / "images" / "case_0.png"))) == ["case_0"]
    with pytest.raises(InputError, match="masks would overwrite"):
        list_images(str(pairs), output_dir=str(pairs / "masks" / ".." / "images"))
    (pairs / "images" / "case_1.jpg").write_bytes(b"")
    Image.new("L", (8, 8)).save(pairs / "images" / "case_2.bmp")
    with pytest.raises(InputError, match=r"case_2\.png: same name as case_2\.bmp"):
        list_images(str(pairs))
    (pairs / "images" / "case_2.bmp").unlink()
    with pytest.raises(InputError, match=r"case_1\.jpg: cannot be read"):
        list_images(str(pairs))
    (pairs / "images" / "case_1.jpg").unlink()


def test_no_image(tmp_path):
    with pytest.raises(InputError, match="holds no image"):
        list_images(str(tmp_path))


def test_broken_files_are_left_out_and_stated(pairs):
    (pairs / "images" / "case_1.jpg").write_bytes(b"")
    (pairs / "images" / "case_4.png").write_bytes(b"not an image")
    images = list_images(str(pairs), skip_broken=True)
    assert names(images) == ["case_0", "case_2", "case_3", "case_5"]
    assert [line.split(": ")[0] for line in images.broken] == [
        str(pairs / "images" / name) for name in ("case_1.jpg", "case_4.png")
    ]
    assert len(list_images(str(pairs), check=False)) == 6
    assert list_images(str(pairs), check=False).broken == []


def test_an_image_list_is_a_list_that_can_be_sent_to_processes():
    images = ImageList([{"image": "a.png"}], ["b.png: cannot be read"])
    for same in (pickle.loads(pickle.dumps(images)), copy.deepcopy(images)):
        assert isinstance(same, ImageList)
        assert same == [{"image": "a.png"}]
        assert same.broken == ["b.png: cannot be read"]
    assert ImageList() == []
    assert ImageList().broken == []


def test_a_config_passes_the_list_and_what_is_broken(pairs):
    (pairs / "images" / "case_1.jpg").write_bytes(b"")
    parser = ConfigParser(
        {
            "images": {"_target_": "unetv2_monai.list_images", "dataset_dir": str(pairs), "skip_broken": True},
            "dataset": {"_target_": "Dataset", "data": "@images"},
            "broken": "$@images.broken",
        }
    )
    assert len(parser.get_parsed_content("dataset")) == 5
    (sentence,) = parser.get_parsed_content("broken")
    assert "case_1.jpg: cannot be read" in sentence


def test_the_report_states_what_is_broken(capsys):
    report_images(3, [], "masks")
    assert capsys.readouterr().out == "3 masks written to masks\n"
    with pytest.raises(InputError, match=r"(?s)1 file could not be read, the others are done:\n  a\.png: cannot"):
        report_images(2, ["a.png: cannot be read"], "masks")


@pytest.mark.parametrize("folder", ["images", "image", "Images", "IMAGE"])
def test_a_folder_of_images_is_preferred(tmp_path, folder):
    (tmp_path / folder / "more").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / folder / "more" / "b.png")
    for other in ("c.png", ".hidden.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / other)
    (tmp_path / "Thumbs.db").write_bytes(b"")
    (tmp_path / folder / ".DS_Store").write_bytes(b"")
    (tmp_path / folder / "folder.png").mkdir()
    assert list_images(str(tmp_path)) == [{"image": str(tmp_path / folder / "a.png")}]


def test_two_folders_of_images_are_refused(tmp_path):
    for folder in ("images", "image"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "image" / "a.png")
    assert names(list_images(str(tmp_path))) == ["a"]  # the other is empty
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "b.png")
    with pytest.raises(InputError, match=r"holds images in images/ and image/: set --dataset_dir to one of them"):
        list_images(str(tmp_path))


def test_masks_beside_their_images_are_left_out(tmp_path):
    for name in ("a.png", "a_mask.png", "b.jpg", "b_mask.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert names(list_images(str(tmp_path))) == ["a", "b"]
    Image.new("RGB", (8, 8)).save(tmp_path / "c_mask.png")  # an image of that name, as far as one can know
    assert names(list_images(str(tmp_path))) == ["a", "a_mask", "b", "b_mask", "c_mask"]


def test_channels_of_volumes(tmp_path):
    for name, shape in {"a": (5, 6, 7), "b": (5, 6, 7, 1), "c": (5, 6, 7, 2)}.items():
        volume(tmp_path / f"{name}.nii.gz", *shape)
    assert len(list_images(str(tmp_path))) == 3
    sentence = (
        f"{tmp_path / 'c.nii.gz'}: holds 2 channels, but the network takes 1. Extract one, or set --in_channels 2."
    )
    with pytest.raises(InputError) as error:
        list_images(str(tmp_path), in_channels=1)
    assert sentence in str(error.value)
    images = list_images(str(tmp_path), in_channels=1, skip_broken=True)
    assert [Path(item["image"]).name for item in images] == ["a.nii.gz", "b.nii.gz"]
    assert images.broken == [sentence]
    images = list_images(str(tmp_path), in_channels=2, skip_broken=True)
    assert [Path(item["image"]).name for item in images] == ["c.nii.gz"]
    assert images.broken[0].endswith("holds 1 channel, but the network takes 2. Set --in_channels 1.")


def test_images_of_all_modes_have_three_channels(tmp_path):
    for mode in ("L", "RGB", "RGBA"):
        Image.new(mode, (8, 8)).save(tmp_path / f"{mode}.png")
    assert len(list_images(str(tmp_path), in_channels=3)) == 3
    with pytest.raises(InputError, match=r"RGBA\.png: images are converted to RGB, but the network takes 1 channel"):
        list_images(str(tmp_path), in_channels=1)


def test_finished_volumes_are_compared_without_channels(tmp_path):
    volume(tmp_path / "in" / "a.nii.gz", 5, 6, 7, 2)
    volume(tmp_path / "in" / "b.nii.gz", 5, 6, 7, 2)
    volume(tmp_path / "out" / "a.nii.gz", 5, 6, 7)
    volume(tmp_path / "out" / "b.nii.gz", 5, 6, 8)  # of another size
    images = list_images(str(tmp_path / "in"), output_dir=str(tmp_path / "out"), skip_finished=True, in_channels=2)
    assert [Path(item["image"]).name for item in images] == ["b.nii.gz"]


def test_images_in_sub_folders_are_pointed_to(pairs):
    with pytest.raises(InputError, match=r"holds no image .*Sub-folders are not read: set --dataset_dir to one"):
        list_images(str(pairs.parent))
