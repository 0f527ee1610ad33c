# SPDX-License-Identifier: Apache-2.0
"""labels.py: each format there and back, files that the tools' own libraries wrote, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from exchange.formats import brush, draw_coco, write_cvat
from PIL import Image
from pycocotools.coco import COCO

from unetv2_monai import load_datalist

from ..conftest import script
from ..data.folders import write_image
from ..support.workflow import refusal

GIVEN = Path(__file__).parent / "labels"
WIDTH, HEIGHT = 24, 20
TRIANGLE = [2, 2, 12, 2, 2, 12]
# TRIANGLE as polyp, RING as tool, and an image without a label, as packages wrote them. The pixels of TRIANGLE are by
# labelme 6.3.1 (shapes_to_label) and datumaro 1.13.12 (rles_to_mask); label-studio-sdk 2.1.2 fills none, so 66 are
# Pillow's. All three, and cvat-sdk 2.80.0, read RING as below, and masks with noise from our files, to the pixel.
OWN = [("labelme_a.json labelme_empty.json", 66), ("cvat.xml", 45), ("labelstudio.json", 66)]
RING = np.zeros((HEIGHT, WIDTH), bool)  # with a hole, and a pixel of its own
RING[3:9, 14:22], RING[5:7, 16:19], RING[0, 0] = True, False, True


def convert(*words: object) -> None:
    script("labels").main([*map(str, words)])


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def data(tmp_path) -> Path:
    """Two classes with holes, noise and pixels in the corners, and an image without a label."""
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    for name, (height, width) in {"one": (20, 24), "zwei ü": (31, 17), "empty": (9, 8)}.items():
        mask = np.zeros((height, width), np.uint8)
        if name != "empty":
            mask[2:12, 3:14], mask[5:8, 6:9] = 1, 0
            mask[rng.random((height, width)) < 0.1] = 2
            mask[0, 0], mask[-1, -1] = 1, 2
        write_image(folder / "images" / f"{name}.jpg", rng.integers(0, 255, (height, width, 3)).astype(np.uint8))
        write_image(folder / "masks" / f"{name}.png", mask)
    return folder


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with the images of GIVEN."""
    for name in ("a.png", "empty.png"):
        write_image(tmp_path / "given" / name, np.full((HEIGHT, WIDTH, 3), 99, np.uint8))
    return tmp_path / "given"


def coco(folder: Path, *shapes: object, names: tuple[str, ...] = ("polyp", "tool"), image: str = "a.png") -> Path:
    """A COCO file of one image; each shape is of the next category, or of the first if it is the only one."""
    annotations = [{"image_id": 7, "category_id": 10 + i, "segmentation": one} for i, one in enumerate(shapes)]
    categories = [{"id": 10 + i, "name": name} for i, name in enumerate(names)]
    one = {"id": 7, "file_name": image, "width": WIDTH, "height": HEIGHT}
    path = folder / "labels.txt"  # its content tells what it is
    path.write_text(json.dumps({"images": [one], "annotations": annotations, "categories": categories}))
    return path


@pytest.mark.parametrize("kind", ["masks", "folders", "coco", "labelme", "cvat", "labelstudio"])
def test_there_and_back(kind, data, tmp_path, capsys):
    folder = data
    for name, form in (("there", kind), ("back", "masks")):
        convert(folder, tmp_path / name, "--to", form, "--classes", "polyp,tool")
        folder = tmp_path / name
        said = f"3 images as {form}, 1 of them without a label; classes: 1 polyp, 2 tool"
        assert capsys.readouterr().out == f"{tmp_path / name}: {said}\n"
    pairs = load_datalist(str(tmp_path / "back"), ["test"], out_channels=3)["test"]
    assert [Path(pair["image"]).name for pair in pairs] == ["empty.jpg", "one.jpg", "zwei ü.jpg"]
    for pair in pairs:
        assert Path(pair["image"]).read_bytes() == (data / "images" / Path(pair["image"]).name).read_bytes()
        np.testing.assert_array_equal(read(Path(pair["label"])), read(data / "masks" / Path(pair["label"]).name))


def test_coco_reads_our_file(data, tmp_path):
    convert(data, tmp_path / "out", "--to", "coco", "--classes", "polyp,tool")
    found = COCO(tmp_path / "out" / "annotations.json")
    for image in found.imgs.values():
        truth = read(data / "masks" / f"{Path(image['file_name']).stem}.png")
        assert (image["height"], image["width"]) == truth.shape
        ones = found.loadAnns(found.getAnnIds(imgIds=image["id"]))
        assert [one["area"] for one in ones] == [n for n in np.bincount(truth.ravel(), minlength=3)[1:] if n]
        for one in ones:
            np.testing.assert_array_equal(found.annToMask(one) > 0, truth == one["category_id"])


@pytest.mark.parametrize(("files", "pixels"), OWN)
def test_files_of_other_libraries(files, pixels, images, tmp_path):
    for name in files.split():  # of any name
        shutil.copy(GIVEN / name, images / f"any.{name}")
    convert(images, tmp_path / "out", "--to", "masks", "--classes", "polyp,tool")
    found = read(tmp_path / "out" / "masks" / "a.png")
    np.testing.assert_array_equal(found == 2, RING)
    assert (found == 1).sum() == pixels
    assert not read(tmp_path / "out" / "masks" / "empty.png").any()


def test_run_lengths_by_hand():
    part = np.zeros((2, 3), np.uint8)
    part[0, 1:], part[1, 0] = 1, 1  # 0 1 1 / 1 0 0
    ((_, text),) = write_cvat({"a": [1]}, iter([(Path("x.png"), np.pad(part, ((1, 0), (2, 1))))]))
    assert b'left="2" top="1" height="2" width="3" rle="1, 3, 2"' in text
    # columns 0 1, 1 0, 1 0; in text the 4th less the 2nd, the 5th less the 3rd
    for counts in ([1, 2, 1, 1, 1], "121O0"):
        np.testing.assert_array_equal(draw_coco({"size": [2, 3], "counts": counts}, (3, 2)), part)
    # 24 words; words of 8 bits; lengths of 3, 4, 8, 16 bits; then 4 x 0, 12 x 255, 8 x 0
    bits = f"{24:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    bits += "".join(f"111{length - 1:016b}{value:08b}" for length, value in ((4, 0), (12, 255), (8, 0)))
    assert brush(part > 0) == [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]


def test_polygons_and_what_covers(images, tmp_path, capsys):
    """Parts of a polygon are joined, also one within another. The later label counts; the first one is lost."""
    small, square, inner = [3, 3, 5, 3, 5, 5, 3, 5], [2, 2, 12, 2, 12, 12, 2, 12], [5, 5, 8, 5, 8, 8, 5, 8]
    convert(coco(images, [small], [square, inner], names=("polyp", "tool")), tmp_path / "out", "--to", "masks")
    found = read(tmp_path / "out" / "masks" / "a.png")
    assert np.bincount(found.ravel()).tolist() == [HEIGHT * WIDTH - 100, 0, 100]
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first == "1 images without an entry are left out: empty.png"
    assert second == "4 pixels lie below another label, 1 labels are lost: polyp of a.png"


def test_combinations_of_classes(images, tmp_path, capsys):
    """Each combination gets a value; the files of tools, and a folder for each class, give the same masks again."""
    square, part = [2, 2, 12, 2, 12, 12, 2, 12], [7, 2, 17, 2, 17, 12, 7, 12]
    convert(coco(images, [square], [part]), tmp_path / "out", "--to", "masks", "--overlaps")
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.endswith("1 images as masks, 0 of them without a label; classes: 1 polyp, 2 tool, 3 polyp + tool")
    found = read(tmp_path / "out" / "masks" / "a.png")
    assert [found[2, 2], found[2, 12], found[2, 7]] == [1, 2, 3]
    assert np.bincount(found.ravel()).tolist() == [HEIGHT * WIDTH - 150, 50, 50, 50]
    meaning = {"out_channels": 4, "overlaps": {"polyp": [1, 3], "tool": [2, 3]}}
    assert yaml.safe_load((tmp_path / "out" / "overlaps.yaml").read_text()) == meaning
    for form in ("folders", "coco", "labelme", "cvat", "labelstudio"):
        convert(tmp_path / "out", tmp_path / form, "--to", form)
        classes = ["--classes", "polyp,tool"]
        convert(tmp_path / form, tmp_path / f"{form}_back", "--to", "masks", "--overlaps", *classes)
        np.testing.assert_array_equal(read(tmp_path / f"{form}_back" / "masks" / "a.png"), found)
    by_class = [read(tmp_path / "folders" / "masks" / name / "a.png") for name in ("polyp", "tool")]
    assert [one.sum() for one in by_class] == [100, 100]
    (tmp_path / "folders" / "masks" / "tool" / "a.png").rename(tmp_path / "folders" / "masks" / "tool" / "b.png")
    said = refusal(convert, tmp_path / "folders", tmp_path / "x", "--to", "masks", "--overlaps", *classes)
    assert "b.png: no image" in said


def test_the_higher_z_order_is_on_top(images, tmp_path):
    text = (GIVEN / "cvat.xml").read_text().replace("2.00,2.00;12.00,2.00;2.00,12.00", "13,4;23,4;13,14")
    for order in ("1", "-1"):  # the polygon's, which comes first; the ring has 0
        (images / "x.xml").write_text(text.replace('z_order="1"', f'z_order="{order}"'))
        convert(images, tmp_path / order, "--to", "masks")
    above, below = (read(tmp_path / order / "masks" / "a.png") for order in ("1", "-1"))
    both = (above == 1) & (below == 2)
    assert both.sum() == RING.sum() - (above == 2).sum() > 0
    np.testing.assert_array_equal(below == 2, RING)


def test_splits_and_one_class(tmp_path):
    for section in ("train", "test"):
        write_image(tmp_path / "in" / section / "images" / f"{section}_1.png", RING)
        write_image(tmp_path / "in" / section / "masks" / f"{section}_1.png", RING)
    convert(tmp_path / "in", tmp_path / "out", "--to", "masks")
    assert np.unique(read(tmp_path / "out" / "masks" / "test_1.png")).tolist() == [0, 255]
    (pair,) = load_datalist(str(tmp_path / "out"), ["test"])["test"]
    assert Path(pair["image"]).name == "test_1.png"


def test_what_is_refused(images, tmp_path, monkeypatch):
    def why(source: Path, *words: str) -> str:
        said = refusal(convert, source, tmp_path / "out", "--to", "masks", *words)
        assert [path.name for path in tmp_path.iterdir()] == ["given"]  # nothing half made is left
        return said

    runs = {"size": [HEIGHT, WIDTH]}
    for shape, message in (
        ([], "polyp cannot be drawn (an outline has three points or more"),
        ([[2, 2, float("nan"), 2, 2, 12]], "an outline has three points or more, within 100000 pixels"),
        ({**runs, "counts": [27, 2, 5]}, "polyp cannot be drawn (run lengths of 34 pixels, not 480)"),
        ({**runs, "counts": "k025"}, "polyp cannot be drawn (too few run lengths)"),  # 27, 2, 5 pixels
        ({"size": [WIDTH, HEIGHT], "counts": "P?"}, "run lengths of an image of [24, 20] (height, width)"),
    ):
        assert message in why(coco(images, shape))
    assert "b.png: 0 images have that name; each entry" in why(coco(images, [TRIANGLE], image="b.png"))
    path = coco(images, [TRIANGLE])
    assert "the labels are ['polyp'], the classes ['tool']. State all" in why(path, "--classes", "tool")
    write_image(images / "a.png", RING.T)
    assert "an image of (20, 24), but its labels are for (24, 20) (width, height)" in why(path)
    write_image(images / "a.png", RING)
    for text, message in (
        ("{}", "holds none of coco, labelme, cvat, labelstudio"),
        ("{", "cannot be read (JSONDecode"),
    ):
        path.write_text(text)
        assert f"{path}: {message}" in why(path)
    region = {"original_width": WIDTH, "original_height": HEIGHT, "type": "brushlabels"}
    region["value"] = {"rle": [255] * 9, "brushlabels": ["polyp"]}  # of 2 ** 32 - 1 values
    path.write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [region]}]}]))
    assert "polyp cannot be drawn (a brush of 4294967295 values, not 1920)" in why(path)
    assert "found 2 image files, none with a mask beside it" in why(images)
    labelme, two = (GIVEN / "labelme_a.json").read_text(), ("--classes", "polyp,tool")
    for name in ("x.json", "y.json"):
        (images / name).write_text(labelme)
    assert "nothing states the order of the classes. Add, in your order, --classes polyp,tool." in why(images)
    assert "a.png: 1 images have that name; each entry takes one of its own" in why(images, *two)
    (images / "y.json").unlink()
    (images / "x.json").write_text(labelme.replace('"mask",', '"circle",'))
    assert "tool cannot be drawn (a circle; polygons and masks are read)" in why(images, *two)
    shutil.copy(GIVEN / "cvat.xml", images)
    assert f"{images} holds {images / 'cvat.xml'} (cvat), {images / 'x.json'} (labelme). Name one file" in why(images)
    assert f"{images} exists" in refusal(convert, images, images, "--to", "masks")
    monkeypatch.setattr("exchange.formats.HAS_COCOTOOLS", False)
    assert 'pip install "unetv2-monai[labels]"' in why(images)
