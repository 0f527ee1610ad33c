# SPDX-License-Identifier: Apache-2.0
"""The formats of labels: each has functions that read content, draw the mask of a shape, and write.

Reading and drawing raise any error for what they do not understand.
"""

import base64
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from monai.utils import optional_import
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects

from unetv2_monai.core.errors import InputError
from unetv2_monai.core.files import encoded
from unetv2_monai.core.listing import PICTURE_ENDINGS, stem
from unetv2_monai.data.checks import read_mask

cocotools, HAS_COCOTOOLS = optional_import("pycocotools.mask")
FARTHEST = 100_000  # pixels; for points far outside, pycocotools fills the memory
UPLOADED = re.compile(r"/data/upload/.*/[0-9a-f]{8}-")  # what Label Studio puts before the name of an image

Size = tuple[int, ...]  # width and height in pixels
Classes = Mapping[str, Sequence[int]]  # their names, and the values of masks that include each
Items = Iterable[tuple[Path, np.ndarray]]  # images, and masks of shape (height, width)
Files = Iterator[tuple[str, str | bytes]]  # names below OUT, and contents


class Entry(NamedTuple):
    """An image by the name and size in a file, and its labels, the topmost last: names, and shapes to draw."""

    image: str
    size: Size | None
    labels: list[tuple[str, Any]]


Read = tuple[list[str], list[Entry]] | None  # the classes that a file lists; None for a file of another format


def outline(points: Iterable[Any]) -> list[float]:
    """Return x, y, x, y, ... as numbers; ValueError for fewer than three points, or one that is far away."""
    values = [*map(float, points)]
    if len(values) < 6 or not all(abs(value) <= FARTHEST for value in values):
        raise ValueError(f"an outline has three points or more, within {FARTHEST} pixels")
    return values


def fill(polygons: Sequence[Iterable[Any]], size: Size) -> np.ndarray:
    """Return the union of polygons as pycocotools fills them."""
    runs = cocotools.frPyObjects([*map(outline, polygons or [[]])], size[1], size[0])
    return cocotools.decode(cocotools.merge(runs)) > 0


def fill_by_pillow(points: Iterable[Any], size: Size) -> np.ndarray:
    image = Image.new("L", (size[0], size[1]))
    ImageDraw.Draw(image).polygon(outline(points), fill=1, outline=1)
    return np.asarray(image) > 0


def from_runs(runs: Sequence[int], height: int, width: int) -> np.ndarray:
    """Return the rows that runs of 0 and 1 in turn make, the first of 0; ValueError if they are not as long."""
    if sum(runs) != height * width:
        raise ValueError(f"run lengths of {sum(runs)} pixels, not {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def place(part: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """Return a mask of an image with a part at a column and row; ValueError if the part reaches out of it."""
    return np.pad(part, ((top, size[1] - top - part.shape[0]), (left, size[0] - left - part.shape[1])))


def parts_of(mask: np.ndarray, classes: Classes) -> Iterator[tuple[str, np.ndarray, int, int, np.ndarray]]:
    """Yield each class of a mask: its name and pixels, first column and row, and the pixels from there to the last."""
    for name, values in classes.items():
        part = np.isin(mask, values)
        for box in find_objects(part.astype(np.uint8)):
            yield name, part, box[1].start, box[0].start, part[box]


def write_folders(classes: Classes, items: Items) -> Files:
    if wrong := [name for name in classes if Path(name).name != name]:
        raise InputError(f"{wrong[0]}: no folder can have the name of this class. Rename it.")
    for path, mask in items:
        for name, values in classes.items():
            yield f"masks/{name}/{stem(path)}.png", encoded(Image.fromarray(np.isin(mask, values)), "PNG")


def write_masks(classes: Classes, items: Items) -> Files:
    of_one = np.uint8(255 if len(classes) == 1 else 1)
    for path, mask in items:
        yield f"masks/{stem(path)}.png", encoded(Image.fromarray(mask * of_one), "PNG")


def read_coco(content: Any) -> Read:
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        return None
    names = {one["id"]: one["name"] for one in content["categories"]}
    entries = {one["id"]: Entry(one["file_name"], (one["width"], one["height"]), []) for one in content["images"]}
    if (len(names), len(entries)) != (len(content["categories"]), len(content["images"])):
        raise ValueError("several images or categories have one id")
    for one in content["annotations"]:
        entries[one["image_id"]].labels.append((names[one["category_id"]], one["segmentation"]))
    return list(names.values()), list(entries.values())


def draw_coco(shape: Any, size: Size) -> np.ndarray:
    """Return the mask of polygons, or of run lengths of the whole image, column by column, as numbers or as text."""
    if isinstance(shape, list):
        return fill(shape, size)
    if shape["size"] != [*size[::-1]]:
        raise ValueError(f"run lengths of an image of {shape['size']} (height, width)")
    if isinstance(shape["counts"], list):
        return from_runs(shape["counts"], *size).T
    mask = cocotools.decode(shape)
    if cocotools.encode(mask)["counts"].decode() != shape["counts"]:
        raise ValueError("too few run lengths")  # pycocotools fills the rest with any memory
    return mask > 0


def write_coco(classes: Classes, items: Items) -> Files:
    images, annotations = list[Any](), list[Any]()
    for number, (path, mask) in enumerate(items, 1):
        images.append({"id": number, "file_name": path.name, "width": mask.shape[1], "height": mask.shape[0]})
        for label, part, left, top, box in parts_of(mask, classes):
            runs = cocotools.encode(np.asfortranarray(part, np.uint8))
            about: dict[str, Any] = {"image_id": number, "category_id": [*classes].index(label) + 1, "iscrowd": 0}
            about |= {"id": len(annotations) + 1, "area": int(part.sum()), "bbox": [left, top, *box.shape[::-1]]}
            annotations.append({**about, "segmentation": {**runs, "counts": runs["counts"].decode()}})
    categories = [{"id": index, "name": name} for index, name in enumerate(classes, 1)]
    yield "annotations.json", json.dumps({"images": images, "annotations": annotations, "categories": categories})


def read_labelme(content: Any) -> Read:
    if not isinstance(content, dict) or not {"shapes", "imagePath"} <= content.keys():
        return None
    width, height = content.get("imageWidth"), content.get("imageHeight")
    size, name = (width, height) if width and height else None, PureWindowsPath(content["imagePath"]).as_posix()
    return [], [Entry(name, size, [(one["label"], one) for one in content["shapes"]])]


def draw_labelme(shape: Mapping[str, Any], size: Size) -> np.ndarray:
    """Return the mask of a polygon, or of a PNG file at the first of its points."""
    kind = shape.get("shape_type") or "polygon"
    if kind == "polygon":
        return fill_by_pillow(itertools.chain(*shape["points"]), size)
    if kind != "mask":
        raise ValueError(f"a {kind}; polygons and masks are read")
    with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as opened:
        left, top = map(int, shape["points"][0])
        return place(np.asarray(opened) > 0, left, top, size)


def write_labelme(classes: Classes, items: Items) -> Files:
    for path, mask in items:
        shapes = list[Any]()
        for label, _, left, top, part in parts_of(mask, classes):
            points = [[left, top], [left + part.shape[1] - 1, top + part.shape[0] - 1]]
            about = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": "mask"}
            content = encoded(Image.fromarray(part.astype(np.uint8)), "PNG")
            shapes.append({**about, "flags": {}, "mask": base64.b64encode(content).decode()})
        image = {"imagePath": path.name, "imageData": None, "imageHeight": mask.shape[0], "imageWidth": mask.shape[1]}
        yield f"images/{stem(path)}.json", json.dumps({"version": "6.3.1", "flags": {}, "shapes": shapes, **image})


def read_cvat(content: Any) -> Read:
    if not isinstance(content, Element) or content.tag != "annotations":
        return None
    if content.find("track") is not None:
        raise ValueError("it has tracks of a video: export it as CVAT for images")
    entries = []
    for image in content.iter("image"):
        shapes = sorted((one for one in image if one.tag != "tag"), key=lambda one: int(one.get("z_order", 0)))
        size = int(image.attrib["width"]), int(image.attrib["height"])
        entries.append(Entry(image.attrib["name"], size, [(one.attrib["label"], one) for one in shapes]))
    return [name.text or "" for name in content.findall("meta/*/labels/label/name")], entries


def draw_cvat(shape: Element, size: Size) -> np.ndarray:
    """Return the mask of a polygon, or of run lengths of a box, row by row."""
    if shape.tag == "polygon":
        return fill([re.split("[,;]", shape.attrib["points"])], size)
    if shape.tag != "mask":
        raise ValueError(f"a {shape.tag}; polygons and masks are read")
    left, top, width, height = (int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
    return place(from_runs([*map(int, shape.attrib["rle"].split(","))], height, width), left, top, size)


def write_cvat(classes: Classes, items: Items) -> Files:
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name in classes:
        SubElement(SubElement(labels, "label"), "name").text = name
    for number, (path, mask) in enumerate(items):
        size = dict(zip(("height", "width"), map(str, mask.shape)))
        image = SubElement(root, "image", {"id": str(number), "name": path.name, **size})
        for label, _, left, top, part in parts_of(mask, classes):
            runs = np.diff(np.flatnonzero(np.diff(part.ravel().astype(int), prepend=0)), prepend=0, append=part.size)
            box = dict(zip(("left", "top", "height", "width"), map(str, (left, top, *part.shape))))
            about = {"label": label, "source": "manual", "occluded": "0", "z_order": "0", **box}
            SubElement(image, "mask", {**about, "rle": ", ".join(map(str, runs))})
    yield "annotations.xml", ElementTree.tostring(root, "utf-8", xml_declaration=True)


def read_labelstudio(content: Any) -> Read:
    if not isinstance(content, list) or not content or not all({"data", "annotations"} <= {*one} for one in content):
        return None
    entries = []
    for task in content:
        (image,) = (one for one in task["data"].values() if str(one).lower().endswith(PICTURE_ENDINGS))
        done = [one["result"] for one in task["annotations"] if not one.get("was_cancelled")]
        if len(done) > 1:
            raise ValueError(f"{image} has {len(done)} annotations: leave one")
        for result in done:  # a task without any is not labelled yet
            regions = [one for one in result if "original_width" in one]
            size = next(((one["original_width"], one["original_height"]) for one in regions), None)
            labels = [(name, one) for one in regions for (name,) in [one["value"][one["type"]]]]
            entries.append(Entry(unquote(UPLOADED.sub("", image).split("?d=")[-1]), size, labels))
    return [], entries


def draw_labelstudio(region: Mapping[str, Any], size: Size) -> np.ndarray:
    """Return the mask of a polygon in percent, or of a brush: run lengths of RGBA values."""
    if region["type"] not in ("brushlabels", "polygonlabels") or region.get("image_rotation"):
        raise ValueError(f"{region['type']}; brushlabels and polygonlabels of images that are not turned are read")
    if region["type"] == "polygonlabels":  # Pillow cuts decimals off, so 1.9999999999999998 must be 2 before
        return fill_by_pillow((np.array(region["value"]["points"]) * size / 100).round(6).ravel(), size)
    bits = iter("".join(f"{byte:08b}" for byte in region["value"]["rle"]))

    def number(length: int) -> int:
        return int("".join(itertools.islice(bits, length)), 2)

    count, word, sizes = number(32), number(5) + 1, [number(4) + 1 for _ in range(4)]
    if count != 4 * size[0] * size[1]:
        raise ValueError(f"a brush of {count} values, not {4 * size[0] * size[1]}")
    words: list[int] = []
    while len(words) < count:
        same, length = number(1), number(sizes[number(2)]) + 1
        words += [number(word)] * length if same else [number(word) for _ in range(length)]
    return np.reshape(words, (size[1], size[0], 4))[..., 3] > 0


def brush(part: np.ndarray) -> list[int]:
    """Return the bytes of a brush: a head, then runs of 1, 3 (a length of 16 bits), the length - 1, and the value."""
    values = np.repeat(part.ravel() * np.uint8(255), 4)
    starts = np.union1d(np.flatnonzero(np.diff(values)) + 1, np.arange(0, len(values), 65536))
    runs = 7 << 24 | np.diff(starts, append=len(values)) - 1 << 8 | values[starts].astype(np.int64)
    head = f"{len(values):032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    body = np.unpackbits(runs.astype(">u4").view(np.uint8)).reshape(-1, 32)[:, 5:]
    return np.packbits([*map(int, head), *body.ravel()]).tolist()


def write_labelstudio(classes: Classes, items: Items) -> Files:
    tasks = []
    for number, (path, mask) in enumerate(items, 1):
        about = {"type": "brushlabels", "from_name": "label", "to_name": "image", "image_rotation": 0}
        about |= {"original_width": mask.shape[1], "original_height": mask.shape[0]}
        values = {label: {"format": "rle", "rle": brush(part)} for label, part, *_ in parts_of(mask, classes)}
        result = [{**about, "id": f"{number}_{n}", "value": {**one, "brushlabels": [n]}} for n, one in values.items()]
        data = {"image": f"/data/local-files/?d={quote(f'images/{path.name}')}"}
        tasks.append({"id": number, "data": data, "annotations": [{"result": result}]})
    yield "labelstudio.json", json.dumps(tasks)


READERS = {"coco": read_coco, "labelme": read_labelme, "cvat": read_cvat, "labelstudio": read_labelstudio}
DRAW: dict[str, Any] = {"coco": draw_coco, "labelme": draw_labelme, "cvat": draw_cvat, "labelstudio": draw_labelstudio}
DRAW["seg"] = lambda mask, _: mask
DRAW["folders"] = lambda path, _: read_mask([str(path)], {"out_channels": 1}) > 0
WRITERS = {"masks": write_masks, "folders": write_folders, "coco": write_coco, "labelme": write_labelme}
WRITERS |= {"cvat": write_cvat, "labelstudio": write_labelstudio}
