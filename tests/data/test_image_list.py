# SPDX-License-Identifier: Apache-2.0
import copy
import os
import pickle

import pytest
from PIL import Image

from unetv2_monai import list_images
from unetv2_monai.core import listing
from unetv2_monai.data.image_list import ImageList

from ..support.workflow import cases, refusal
from .folders import CASES, names, touch, write_volume


def test_list_images(pairs):
    expected = [f"case_{i}" for i in range(6)]
    assert names(list_images(str(pairs))) == names(list_images(str(pairs / "images"))) == expected
    assert names(list_images(str(pairs / "images" / "case_0.png"))) == ["case_0"]
    output_dir = str(pairs / "masks" / ".." / "images")
    assert "masks would overwrite" in refusal(list_images, str(pairs), output_dir=output_dir)
    Image.new("L", (8, 8)).save(pairs / "images" / "case_2.bmp")
    assert "case_2.png: same name as case_2.bmp" in refusal(list_images, str(pairs))


@pytest.mark.parametrize(("folder", "sentence"), cases("data", "no_list"))
def test_no_list(tmp_path, folder, sentence):
    touch(tmp_path, "empty/a.txt deep/x/y/a.png two/images/a.png two/image/b.png")
    assert sentence.replace("ROOT", str(tmp_path)) in refusal(list_images, str(tmp_path / folder))


@pytest.mark.parametrize("case", CASES["listed"], ids=str)
def test_images_without_their_masks(case, tmp_path):
    found = listing.list_images(touch(tmp_path, case["files"]), listing.IMAGE_ENDINGS)
    assert [path.relative_to(tmp_path).as_posix().replace(" ", "~") for path in found] == case["listed"].split()


def test_stems(tmp_path):
    assert [listing.stem(tmp_path / name) for name in ("a.b.PNG", "case.1", "v.nii.gz")] == ["a.b", "case.1", "v"]
    first, *others = (tmp_path / name for name in ("a.png", "a.jpg", "x/a.png"))
    files, problems = listing.unique_stems([first, *others])
    assert files == {"a": first}
    assert problems == [f"{others[0]}: same name as a.png", f"{others[1]}: same name as {first}"]


def test_an_image_list_is_a_list_that_can_be_sent_to_processes():
    images = ImageList([{"image": "a.png"}], ["b.png: cannot be read"])
    for same in (pickle.loads(pickle.dumps(images)), copy.deepcopy(images)):
        assert (type(same), same, same.broken) == (ImageList, [{"image": "a.png"}], ["b.png: cannot be read"])
    assert ImageList() == ImageList().broken == []


def test_the_report_states_what_is_broken(capsys):
    ImageList([{"image": "b.png"}] * 3).report("masks")
    assert capsys.readouterr().out == "3 masks written to masks\n"
    message = refusal(ImageList([], ["a.png: cannot be read"]).report, "masks")
    assert message == "1 file could not be read, the others are done:\n  a.png: cannot be read"


def test_channels(tmp_path):
    for name, shape in {"a": (5, 6, 7), "b": (5, 6, 7, 1), "c": (5, 6, 7, 2)}.items():
        write_volume(tmp_path / f"{name}.nii.gz", shape)
    assert len(list_images(str(tmp_path))) == 3
    sentence = f"{tmp_path / 'c.nii.gz'}: holds 2 channels, but the network takes 1."
    assert sentence in refusal(list_images, str(tmp_path), in_channels=1)
    images = list_images(str(tmp_path), in_channels=1, skip_broken=True)
    assert names(images) == ["a.nii", "b.nii"]
    assert images.broken[0].startswith(sentence)
    Image.new("L", (8, 8)).save(tmp_path / "grey.png")
    assert names(list_images(str(tmp_path), in_channels=3, skip_broken=True)) == ["grey"]


def test_finished_volumes_are_compared_without_channels(tmp_path):
    for name, shape in {"a": (5, 6, 7), "b": (5, 6, 8)}.items():  # b is of another size
        write_volume(tmp_path / "in" / f"{name}.nii.gz", (5, 6, 7, 2))
        write_volume(tmp_path / "out" / f"{name}.nii.gz", shape)
    images = list_images(str(tmp_path / "in"), output_dir=str(tmp_path / "out"), skip_finished=True, in_channels=2)
    assert names(images) == ["b.nii"]


def test_overlays_belong_to_what_is_finished(tmp_path):
    """A run was killed between the mask and the overlay of b."""
    for name in ("in/a.png", "in/b.png", "out/a.png", "out/b.png", "out/overlays/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(tmp_path / name)
    options = {"output_dir": str(tmp_path / "out"), "skip_finished": True}
    assert names(list_images(str(tmp_path / "in"), **options)) == []
    assert names(list_images(str(tmp_path / "in"), overlay_dir=str(tmp_path / "out/overlays"), **options)) == ["b"]


def test_pipes_and_loops_of_links_are_named(tmp_path):
    """Whoever opens a pipe waits."""
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("pipe.png", "volume.nii"):
        os.mkfifo(tmp_path / name)
    images = list_images(str(tmp_path), skip_broken=True)
    assert (names(images), len(images.broken)) == (["a"], 3)
    assert all("is no regular file" in line for line in images.broken)
