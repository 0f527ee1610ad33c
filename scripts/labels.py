#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Convert labels between masks and the files of COCO, labelme, CVAT (for images 1.1), Label Studio and DICOM SEG.

    python scripts/labels.py IN OUT --to cvat --classes polyp,tool
    python scripts/labels.py OUT MASKS --to masks
    python scripts/labels.py MASKS OUT --to seg --dicom EXPORT --classes polyp

IN is a data set with masks as for training, a folder of images with the files of one tool, such a file beside its
images, or images/ with a folder of masks for each class, masks/CLASS/. The content of the files tells their format. OUT
gets copies of the images, and the labels in the format of --to. Masks stay the same to the pixel. Polygons are read,
but labels are always written as pixels.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml
from common.command import new_parser, run
from exchange.formats import DRAW, HAS_COCOTOOLS, READERS, WRITERS, Classes, Entry, Items
from exchange.seg import read_segs, write_segs
from monai.utils import ensure_tuple
from PIL import Image

from unetv2_monai import InputError
from unetv2_monai.core.dicom import located
from unetv2_monai.core.dicom_pixels import read_frame
from unetv2_monai.core.files import encoded, write_atomic
from unetv2_monai.core.listing import PICTURE_ENDINGS, is_volume, list_files, list_folders, stem, unique_stems
from unetv2_monai.core.overlaps import combination_names, combinations, number_combinations, overlap_table, to_values
from unetv2_monai.data.checks import check_each, check_pair, image_size, list_problems, palette_problems, read_mask
from unetv2_monai.data.layouts import SPLITS, Item
from unetv2_monai.data.sections import read_sections

Drawn = tuple[Path, np.ndarray, list[tuple[str, int, np.ndarray]]]
OVERLAPS = "overlaps.yaml"  # beside masks: what their values mean


def read_files(source: Path) -> list[tuple[Path, str, list[str], list[Entry]]]:
    """Return a file, or those of a folder and of the folders in it, with format, classes and images."""
    found, below = [], sorted([*source.glob("*.*"), *source.glob("*/*.*")])
    for path in [source] if source.is_file() else [one for one in below if one.suffix.lower() in (".json", ".xml")]:
        text = path.read_bytes()
        try:
            content = ElementTree.fromstring(text) if text.lstrip()[:1] == b"<" else json.loads(text)
            found += [(path, kind, *some) for kind, read in READERS.items() if (some := read(content))]
        except Exception as error:  # it may lack anything
            raise InputError(f"{path}: cannot be read ({error!r}). Export it again, or correct it.") from error
    return found


def locate(entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Return the image of each entry, from below a folder. Say which images no entry names."""
    files: dict[str, list[Path]] = {}
    for path in (path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(PICTURE_ENDINGS)):
        files.setdefault(path.name, []).append(path)
    found: dict[Path, None] = {}
    problems = []
    for entry in entries:
        same = files.get(Path(entry.image).name, [])
        some = [path for path in same if path.as_posix().endswith(f"/{entry.image}")] or same
        if len(some) != 1 or some[0] in found:
            problems.append(f"{entry.image}: {len(some)} images have that name; each entry takes one of its own")
        elif entry.size not in (size := image_size(str(some[0])), None):
            problems.append(f"{some[0]}: an image of {size}, but its labels are for {entry.size} (width, height)")
        found |= dict.fromkeys(some)
    if problems:
        raise InputError(list_problems(folder, problems))
    if rest := [path.name for some in files.values() for path in some if path not in found]:
        print(f"{len(rest)} images without an entry are left out: {', '.join(rest)}")
    return list(found)


def draw_all(kind: str, entries: Sequence[Entry], paths: Sequence[Path], classes: Sequence[str]) -> Iterator[Drawn]:
    """Yield images with an empty mask, and the labels of each: name, number of the class from 1, and pixels."""
    for entry, path in zip(entries, paths):
        size = image_size(str(path))
        parts = []
        for label, shape in entry.labels:
            try:
                parts.append((label, classes.index(label) + 1, DRAW[kind](shape, size)))
            except Exception as error:  # decoders raise almost anything
                raise InputError(f"{path}: {label} cannot be drawn ({error}). Correct or remove it.") from error
            if (drawn := parts[-1][-1].shape[::-1]) != size:
                raise InputError(f"{path}: {label} has {drawn} pixels (width, height), but the image has {size}.")
        yield path, np.zeros(size[::-1], np.int64), parts


def on_top(drawn: Iterable[Drawn]) -> Items:
    """Yield images with their class indices. Say how much of the labels lies below others, and which are lost."""
    covered, lost = 0, []
    for path, mask, parts in drawn:
        for _, index, part in parts:
            covered += int(((mask[part] != 0) & (mask[part] != index)).sum())
            mask[part] = index
        lost += [
            f"{label} of {path.name}" for label, index, part in parts if part.any() and not (mask == index)[part].any()
        ]
        yield path, mask.astype(np.uint8)
    if covered or lost:
        print(f"{covered} pixels lie below another label, {len(lost)} labels are lost: {', '.join(lost) or 'none'}")


def combined(drawn: Iterable[Drawn]) -> Items:
    """Yield images with the code of each pixel's combination of classes, as ``number_combinations`` takes them."""
    for path, mask, parts in drawn:
        for _, index, part in parts:
            mask[part] |= 1 << index - 1
        yield path, mask


def read_class_folders(source: Path) -> list[tuple[Path, str, list[str], list[Entry]]]:
    """Return the images of a folder with the masks of each class in ``masks/CLASS``, in the form of ``read_files``."""
    if not (source / "images").is_dir() or not (source / "masks").is_dir():
        return []
    images, problems = unique_stems(list_files(source / "images", PICTURE_ENDINGS))
    folders = {path.name: unique_stems(list_files(path, PICTURE_ENDINGS))[0] for path in list_folders(source / "masks")}
    if not any(one in images for files in folders.values() for one in files):
        return []
    every = [(one, files.get(one)) for files in folders.values() for one in images]
    problems += [f"{path}: no image" for files in folders.values() for one, path in files.items() if one not in images]
    if problems:
        raise InputError(list_problems(source, problems))
    if missing := [one for one, path in every if path is None]:
        print(f"{len(missing)} of {len(every)} masks are missing, so the class is not in the image: {missing[0]}, ...")
    found = [[(name, files[one]) for name, files in folders.items() if one in files] for one in images]
    entries = [Entry(path.name, None, labels) for path, labels in zip(images.values(), found)]
    return [(source / "masks", "folders", [], entries)]


def from_masks(pairs: Sequence[Item], values: int, colors: Any) -> Items:
    """Return images with masks of values from 0 on; raise InputError for all masks that have others."""
    reading = {"out_channels": 1 if values == 2 else values, "colors": colors}
    problems = [f"{one['image']}: a volume" for one in pairs if is_volume(ensure_tuple(one["image"])[0])]
    problems = problems or [*filter(None, check_each(pairs, partial(check_pair, **reading)))]
    if problems := problems + ([] if colors else palette_problems(pairs, values)):
        raise InputError(f"{list_problems(Path(), problems)}\nName the classes after background by --classes a,b.")
    return ((Path(one["image"]), read_mask(ensure_tuple(one["label"]), reading)) for one in pairs)


def ordered(given: Sequence[str], listed: Sequence[str], entries: Sequence[Entry]) -> Sequence[str]:
    """Return the names of the classes 1, 2, ...; raise InputError if nothing states their order."""
    used = sorted({label for entry in entries for label, _ in entry.labels})
    classes = given or listed or used
    if classes is used and len(used) > 1:
        raise InputError(f"nothing states the order of the classes. Add, in your order, --classes {','.join(used)}.")
    if {*used} - {*classes} or not 0 < len({*classes}) == len(classes) < 256:
        raise InputError(f"the labels are {used}, the classes {[*classes]}. State all, in order, by --classes a,b.")
    return classes


def read_source(arguments: argparse.Namespace) -> tuple[list[Path], Items, Classes, dict[str, list[Item]]]:
    """Return the images of IN, the same with their masks, the values of each class, and the splits of masks."""
    source = arguments.source
    found = read_files(source)
    if source.is_file() and not found:
        raise InputError(f"{source}: holds none of {', '.join(READERS)}. Name such a file, or a folder of masks.")
    by_class, framed = read_class_folders(source), read_segs(source)
    try:
        sections, problems = ({}, []) if source.is_file() or by_class or framed else read_sections(source, {*SPLITS})
    except InputError:  # without masks
        if not found:
            raise
        sections = {}
    found += by_class + ([(source, "seg", [], [entry for _, entry in framed])] if framed else [])
    names = [f"{path} ({kind})" for path, kind, *_ in found] + ["masks"] * bool(sections)
    if len(names) > 1 and (sections or {kind for _, kind, *_ in found} != {"labelme"}):
        raise InputError(f"{source} holds {', '.join(names)}. Name one file, or a folder with one of these.")
    entries = [entry for *_, some in found for entry in some]
    beside, overlaps = source / OVERLAPS, {}
    if not found and beside.is_file():
        overlaps = yaml.safe_load(beside.read_text())["overlaps"]
        overlap_table(overlaps, combinations(overlaps))
    if (overlaps and arguments.classes) or (arguments.overlaps and (arguments.to != "masks" or not found)):
        raise InputError(
            f"--classes is not for masks with {OVERLAPS}, and --overlaps only for --to masks of other labels."
        )
    classes = ordered(arguments.classes, found[0][2] if found else ["lesion"], entries)
    values: Classes = overlaps or {name: [index] for index, name in enumerate(classes, 1)}
    if found:
        folder = source / "images" if by_class else source if source.is_dir() else source.parent
        paths = [address for address, _ in framed] or locate(entries, folder)
        drawn = partial(draw_all, found[0][1], entries, paths, classes)
        items = on_top(drawn())
        if arguments.overlaps:
            codes, values = number_combinations(
                (code for _, mask in combined(drawn()) for code in np.unique(mask)), classes
            )
            items = ((path, to_values(mask, codes)) for path, mask in combined(drawn()))
    elif problems:
        raise InputError(list_problems(source, problems))
    else:
        pairs = [pair for some in sections.values() for pair in some]
        paths = [Path(ensure_tuple(pair["image"])[0]) for pair in pairs]
        items = from_masks(pairs, combinations(values), arguments.mask_colors)
    return paths, items, values, sections


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """Give a folder that becomes OUT at the end, so that OUT is never half made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".labels_", dir=out.parent) as folder:
        (made := Path(folder) / "made").mkdir()
        yield made
        made.replace(out)


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("source", type=Path, metavar="IN", help="folder, or file of a tool beside its images")
    parser.add_argument("output_dir", type=Path, metavar="OUT", help="new folder to write")
    parser.add_argument(
        "--to", choices=[*WRITERS, "seg"], required=True, help="format; masks are PNG files to train on"
    )
    parser.add_argument("--dicom", type=Path, help="for --to seg: the DICOM images of the masks in IN")
    parser.add_argument(
        "--seg_codes", metavar="FILE", help="for --to seg: your own codes of classes, see segments.yaml"
    )
    parser.add_argument("--overlaps", action="store_true", help="masks get a value for each combination of classes")
    parser.add_argument("--classes", type=lambda text: text.split(","), default=[], help="A,B: names of classes 1, 2")
    parser.add_argument(
        "--mask_colors", type=json.loads, metavar="JSON", help='classes of colours: {"black": 0, "#ff0000": 1}'
    )
    arguments = parser.parse_args(argv)
    if (arguments.to == "seg") != bool(arguments.dicom):
        raise InputError("--to seg and --dicom are given together: SEG refers to the DICOM images of the masks.")
    source, out = arguments.source, arguments.output_dir
    if not HAS_COCOTOOLS:
        raise InputError('pycocotools is missing: pip install "unetv2-monai[labels]"')
    if out.exists():
        raise InputError(f"{out} exists. Name another folder, or remove it.")
    if arguments.dicom:
        classes = arguments.classes or ["lesion"]
        with unfinished(out) as made:
            count = write_segs(source, arguments.dicom, classes, arguments.seg_codes, made)
        print(f"{out}: SEG of {count} images, loops or series; classes: {', '.join(classes)}")
        return
    paths, items, values, sections = read_source(arguments)
    if same := unique_stems(paths)[1]:
        raise InputError(list_problems(source, same))

    with unfinished(out) as made:
        empty = []

        def copied() -> Items:
            for path, mask in items:
                name = f"{stem(path)}.png" if located(path) else path.name
                image = encoded(Image.fromarray(read_frame(path)[0]), "PNG") if located(path) else path.read_bytes()
                write_atomic(made / "images" / name, image)
                empty.append(not mask.any())
                yield Path(name), mask

        for name, content in WRITERS[arguments.to](values, copied()):
            write_atomic(made / name, content)
        if arguments.to == "masks" and max(map(len, values.values())) > 1:
            meaning = {"out_channels": combinations(values), "overlaps": dict(values)}
            write_atomic(made / OVERLAPS, yaml.safe_dump(meaning, sort_keys=False))
        for section in sections.keys() & SPLITS.keys():  # as files that training reads
            listed = [f"{Path(ensure_tuple(pair['image'])[0]).name}\n" for pair in sections[section]]
            write_atomic(made / f"{SPLITS[section][0]}.txt", "".join(listed))
    numbered = ", ".join(f"{index} {name}" for index, name in enumerate(combination_names(values)[1:], 1))
    print(f"{out}: {len(empty)} images as {arguments.to}, {sum(empty)} of them without a label; classes: {numbered}")


if __name__ == "__main__":
    run(main)
