# SPDX-License-Identifier: Apache-2.0
"""``UNetV2.from_pretrained`` and ``predict``: the masks of ``run inference``, bit by bit."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import UNetV2
from unetv2_monai.core.view import find_view
from unetv2_monai.networks import with_options

from .conftest import ROOT, draw_pair
from .data.folders import write_volume
from .support.packages import pack, packed
from .support.segmenting import framed
from .support.workflow import CONFIGS, INFERENCE, overlays, refusal, run

MODELS = ROOT / "bundle" / "models"


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Images of several sizes and modes, one of them turned by its EXIF orientation."""
    folder = tmp_path_factory.mktemp("images")
    for index in range(2):
        draw_pair(folder, f"case_{index}", 130 + 17 * index, 90, seed=index)
    with Image.open(folder / "images" / "case_0.png") as image:
        image.convert("L").save(folder / "images" / "grey.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(folder / "images" / "turned.jpg", exif=exif)
    return folder / "images"


def test_masks_and_probabilities_of_images(images, tmp_path):
    run(INFERENCE, "inference", dataset_dir=images, output_dir=tmp_path, save_probabilities=True)
    network = UNetV2.from_pretrained("polyps")
    marked = 0
    for path in images.iterdir():
        mask, probabilities = network.predict(path)
        places = (tmp_path / part / f"{path.stem}.png" for part in ("", "probabilities"))
        expected, shares = (np.asarray(Image.open(place)) for place in places)
        np.testing.assert_array_equal(mask * 255, expected)
        np.testing.assert_allclose(probabilities, shares / 65535, atol=1 / 65535)
        assert (mask.dtype, probabilities.dtype) == (np.uint8, np.float32)
        assert (mask <= (probabilities >= 0.5)).all()  # without regions below the certainty
        marked += mask.sum()
    assert marked


def test_images_in_memory(images):
    network = UNetV2.from_pretrained("skin_lesions")
    path = images / "case_1.png"
    with Image.open(path) as image:
        results = [network.predict(one) for one in (path, str(path), image, np.asarray(image))]
    for mask, probabilities in results[1:]:
        np.testing.assert_array_equal(mask, results[0][0])
        np.testing.assert_array_equal(probabilities, results[0][1])
    with Image.open(images / "turned.jpg") as image:  # Pillow does not turn it
        assert network.predict(image)[0].shape == (image.width, image.height)


def test_labels_of_volumes(tmp_path):
    """A volume whose axes are turned; weights of noise may find nothing, so the probabilities are compared too."""
    values = np.random.default_rng(0).normal(70, 9, (40, 30, 50)).astype(np.float32)
    values[10:30, 10:20, 15:35] += 40
    affine = np.array([[0, -1.2, 0, 9], [0.9, 0, 0, -4], [0, 0, -1, 33], [0, 0, 0, 1.0]])
    write_volume(tmp_path / "in" / "one.nii.gz", values, affine)
    files = [*INFERENCE, *overlays("recipes/volumes")]
    options = {"dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out", "checkpoint": MODELS / "volumes.pt"}
    run(files, "inference", **options)
    network = UNetV2.from_pretrained("volumes")
    label, probabilities = network.predict(tmp_path / "in" / "one.nii.gz")
    np.testing.assert_array_equal(label, np.asarray(nibabel.load(tmp_path / "out" / "one.nii.gz").dataobj))
    assert probabilities.shape == (3, *values.shape)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    in_memory = network.predict((values, affine))
    np.testing.assert_array_equal(in_memory[0], label)
    np.testing.assert_array_equal(in_memory[1], probabilities)


def test_weights_that_carry_options(tmp_path):
    """A file, a training's output and a package: in the endoscope's view, as without this step in what we crop."""
    view = ConfigParser.load_config_file(overlays("options/endoscopy")[0])
    options = {"backbone": "resnet18", "out_channels": 3, "network_def#channels": 8, "image_size": [64, 96]}
    torch.manual_seed(0)
    state = UNetV2(backbone="resnet18", out_channels=3, channels=8).state_dict()
    (tmp_path / "models").mkdir()
    for name, carried in {"whole.pt": options, "models/model.pt": {**options, **view}}.items():
        torch.save(with_options(state, carried), tmp_path / name)
    pack("--checkpoint", tmp_path / "models" / "model.pt", "--output_dir", tmp_path)
    image = np.asarray(framed(400, 240, 0))
    part = find_view(image)
    assert part == np.s_[2:186, 148:352]
    expected = np.zeros((3, *image.shape[:2]), np.float32)
    expected[(slice(None), *part)] = UNetV2.from_pretrained(tmp_path / "whole.pt").predict(image[part])[1]
    for weights in (tmp_path / "models" / "model.pt", tmp_path, packed(tmp_path)):
        mask, probabilities = UNetV2.from_pretrained(weights).predict(image)
        np.testing.assert_allclose(probabilities, expected, atol=1e-6)
        np.testing.assert_array_equal(mask, probabilities.argmax(0))


def test_other_images():
    predict = UNetV2.from_pretrained("polyps").predict
    message = "type uint8 and shape (height, width, 3), got uint8 of (8, 8)."
    assert message in refusal(predict, np.zeros((8, 8), np.uint8))
    assert "got float32 of (8, 8, 3)." in refusal(predict, np.zeros((8, 8, 3), np.float32))


def test_other_weights(tmp_path):
    message = refusal(UNetV2.from_pretrained, "polyp")
    assert "no weights 'polyp': " in message
    assert " none of polyps, skin_lesions, volumes" in message
    shutil.copytree(CONFIGS, tmp_path / "configs")
    assert f"no weights at {tmp_path / 'models' / 'model.pt'}" in refusal(UNetV2.from_pretrained, tmp_path)
