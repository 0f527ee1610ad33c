# SPDX-License-Identifier: Apache-2.0
"""The endoscope's picture in drawn layouts of frames, and in the frames of eleven real sets."""

import numpy as np
import pytest
from PIL import Image

from unetv2_monai.core.overlay import boxed
from unetv2_monai.core.view import find_view

HEIGHT, WIDTH = 270, 480
rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]


def tissue(color=(190, 100, 85), light: float = 1.0) -> np.ndarray:
    """Mucosa with folds and grain, brightest in the middle of the frame."""
    rng = np.random.default_rng(0)
    folds = 1 + 0.25 * np.sin(columns / 17 + 3 * np.sin(rows / 31)) - 0.3 * np.hypot(rows - 135, columns - 240) / 280
    image = np.array(color) * light * folds[..., None] + rng.normal(0, 3, (HEIGHT, WIDTH, 3))
    return image.clip(0, 255)


def octagon(top: int, bottom: int, left: int, right: int, corner: int = 40) -> np.ndarray:
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    down, across = np.minimum(rows - top, bottom - 1 - rows), np.minimum(columns - left, right - 1 - columns)
    return inside & (down + across >= corner)


def frame(picture: np.ndarray, seen: np.ndarray, border: float = 0, **drawn: bool) -> np.ndarray:
    """A frame as a processor draws it: text always, the rest as asked."""
    image = np.where(seen[..., None], picture, np.random.default_rng(1).normal(border, 1, picture.shape))
    for row in range(20, 90, 12):
        image[row : row + 5, 6:50:3][~seen[row : row + 5, 6:50:3]] = 230
    if drawn.get("diagram"):  # of the endoscope's position, attached to the picture, with lines
        image[190:270, 20:142] = (44, 184, 142)
        image[200:262, 60:62] = image[230:232, 60:110] = 20
    if drawn.get("thumbnail"):
        image[4:44, 60:110] = tissue((200, 120, 90))[4:44, 60:110]
    if drawn.get("instrument"):
        image[150:270, 300:330] = 240
    if drawn.get("lumen"):  # darkness that cuts through the picture
        image[:, 250:290] *= 0.02
    return image.clip(0, 255).astype(np.uint8)


LEFT, ROUND = octagon(0, 270, 130, 470), np.hypot(rows - 135, columns - 280) < 130
WHOLE = np.ones((HEIGHT, WIDTH), bool)
LAYOUTS = {
    "octagon": frame(tissue(), LEFT),
    "round": frame(tissue(), ROUND),
    "grey border": frame(tissue(), octagon(12, 258, 40, 440), 24),
    "diagram, thumbnail": frame(tissue(), LEFT, 15, diagram=True, thumbnail=True),
    "instrument, lumen": frame(tissue(), LEFT, instrument=True, lumen=True),
    "narrow band": frame(tissue((90, 130, 120)), ROUND),
    "dye": frame(tissue((60, 120, 170)), LEFT),
    "dark": frame(tissue(light=0.2), LEFT),
    "no border": frame(tissue(), WHOLE),
    "no border, lumen": frame(tissue(), WHOLE, lumen=True),
}
SEEN = {"round": ROUND, "narrow band": ROUND, "grey border": octagon(12, 258, 40, 440)}


def box(seen: np.ndarray) -> np.ndarray:
    found = np.zeros_like(seen)
    found[np.ix_(seen.any(1), seen.any(0))] = True
    return found


@pytest.mark.parametrize("scale", [1, 3])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_picture_is_found_in_drawn_layouts(name, scale):
    image = LAYOUTS[name].repeat(scale, 0).repeat(scale, 1)
    true = box(WHOLE if "no border" in name else SEEN.get(name, LEFT)).repeat(scale, 0).repeat(scale, 1)
    found = np.zeros_like(true)
    found[find_view(image)] = True
    assert (found & true).sum() >= 0.98 * true.sum()
    assert (found & true).sum() >= 0.95 * found.sum()
    assert "no border" not in name or found.all()


@pytest.mark.parametrize("image", [np.zeros((50, 40, 3), np.uint8), np.full((3, 2, 3), 9, np.uint8)])
def test_a_frame_without_a_picture_stays_whole(image):
    assert find_view(image) == (slice(0, image.shape[0]), slice(0, image.shape[1]))


def test_the_box_is_drawn_unless_it_is_the_whole_image():
    image = np.zeros((6, 8, 3), np.uint8)
    drawn = np.argwhere(boxed(image, (slice(1, 5), slice(2, 7)))[..., 0])
    assert (drawn.min(0).tolist(), drawn.max(0).tolist(), len(drawn)) == ([1, 2], [4, 6], 14)  # the rim of 4 x 5
    assert not boxed(image, (slice(0, 6), slice(0, 8))).any()


SETS = [f"polypgen/C{n}/{kind}" for n in range(1, 5) for kind in ("lesions", "lesion_free")]


@pytest.mark.parametrize("name", [*SETS, "polyp/train", "polyp/test/kvasir", "polyp/test/clinicdb"])
def test_no_lesion_is_cut_off(real_data, name):
    areas = []
    for path in sorted((real_data / name / "images").iterdir()):
        with Image.open(path) as image, Image.open(real_data / name / "masks" / f"{path.stem}.png") as mask:
            lesion = np.asarray(mask.convert("L")) > 127
            view = find_view(np.asarray(image.convert("RGB")))
        assert lesion[view].sum() == lesion.sum(), path
        areas.append(lesion[view].size / lesion.size)
    if "C4" in name:  # a diagram fills the left quarter
        assert 0.7 < np.min(areas) < np.max(areas) < 0.8
    if "C1" in name:  # the picture fills the frame
        assert np.min(areas) == 1
