# SPDX-License-Identifier: Apache-2.0
"""options/endoscopy.yaml: frames are cropped to the endoscope's picture, and masks are put back into whole frames."""

import numpy as np
import torch
from monai.data import MetaTensor

from unetv2_monai.bundle.carried import options_to_carry, take_over

from ..data.folders import write_image
from ..support.workflow import INFERENCE, TRAIN, overlays, parsed

FILES = [*TRAIN, *overlays("options/endoscopy")]
TOP, BOTTOM, LEFT, RIGHT = 6, 78, 24, 96  # of the picture in a frame of 84 x 100; find_view adds a pixel on each side


def draw(folder) -> dict[str, str]:
    """A frame with a bright picture, whose left half is brighter; the mask is this half, and a dot on the border."""
    image, mask = np.zeros((84, 100, 3), np.uint8), np.zeros((84, 100), np.uint8)
    image[TOP:BOTTOM, LEFT:RIGHT] = 100
    image[TOP:BOTTOM, LEFT:60] = 200
    mask[TOP:BOTTOM, LEFT:60] = mask[2, 2] = 255
    return {"image": str(write_image(folder / "a.png", image)), "label": str(write_image(folder / "b.png", mask))}


def test_training_crops_image_and_mask_alike(tmp_path):
    parser = parsed(FILES, image_size=[74, 74])  # the size of the crop, so that nothing is resized
    cached = parser.get_parsed_content("transforms#cached")
    item = draw(tmp_path)
    for step in cached:
        item = step(item)
    assert item["image"].shape == (3, 74, 74)
    assert item["label"].shape == (1, 74, 74)
    bright = item["image"][0] > item["image"][0, 40, 60]
    torch.testing.assert_close(item["label"][0].bool(), bright.as_tensor())
    assert "foreground_start_coord" not in item


def test_evaluation_and_inference_keep_whole_masks(tmp_path):
    parser = parsed(FILES, image_size=[74, 74])
    item = parser.get_parsed_content("validate#preprocessing")(draw(tmp_path))
    assert item["label"].sum() == (BOTTOM - TOP) * (60 - LEFT) + 1  # with the dot on the border
    inference = parsed(INFERENCE, image_size=[74, 74])
    carried = options_to_carry(parser.config)
    assert {"transforms#view", "transforms#view_label"} <= carried.keys()
    take_over(inference, carried, "model.pt")
    assert "view_label" not in inference["transforms"]
    item = inference.get_parsed_content("preprocessing")(draw(tmp_path))
    item["pred"] = MetaTensor(torch.ones(1, 74, 74))
    found = inference.get_parsed_content("transforms#to_native_size")(item)["pred"][0].T
    expected = np.zeros((84, 100))
    expected[TOP - 1 : BOTTOM + 1, LEFT - 1 : RIGHT + 1] = 1
    np.testing.assert_array_equal(found.numpy(), expected)
