# SPDX-License-Identifier: Apache-2.0
"""DICOM Segmentation: the labels of frames, and masks of frames written as such files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unetv2_monai import InputError
from unetv2_monai.core.dicom import LABELMAP, Source, class_name, find_sources, list_dicom, read_header
from unetv2_monai.core.dicom_seg import SegFiles
from unetv2_monai.core.errors import refuse_broken
from unetv2_monai.data.dicoms import masks_of

from .formats import Entry

SEG = ("Segmentation Storage", LABELMAP[1])


def read_segs(folder: Path) -> list[tuple[Path, Entry]]:
    """Return the address and the labels of each frame that a SEG below a folder covers; an empty list without SEG.

    A SEG covers all frames of a source if it refers to one of them, as files leave empty frames out. Frames without a
    SEG are counted.

    Raises:
        InputError: when a SEG or an image cannot be read, or when they do not fit each other.
    """
    files = [file for file in list_dicom(folder) if (header := read_header(file)) and class_name(header) in SEG]
    if not files or not (found := find_sources(folder)):
        return []
    import highdicom

    refuse_broken(found.broken)
    entries = dict[str, Entry]()
    sources = {source.name: source for source in found.sources}
    uids = {name: _uids(source) for name, source in sources.items()}
    for file in files:
        try:
            seg = highdicom.seg.segread(file)
            referred = {str(uid) for *_, uid in seg.get_source_image_uids()}
            covered = [source for name, source in sources.items() if referred & {*uids[name]}]
            for source in covered:
                names = [seg.get_segment_description(number).segment_label for number in seg.segment_numbers]
                for address, masks in zip(source.addresses(), _masks(seg, source, uids[source.name])):
                    entry = entries.setdefault(address, Entry(address, None, []))
                    parts = zip(seg.segment_numbers, names, np.moveaxis(masks, -1, 0) > 0)
                    entry.labels.extend((name, part) for number, name, part in parts if number and part.any())
        except Exception as error:  # of headers that lack what the standard asks for, highdicom raises almost anything
            raise InputError(f"{file}: cannot be read ({error}). Remove it, or write it again.") from error
        if not covered:
            raise InputError(f"{file}: refers to none of the images in {folder}. Add them, or remove it.")
    if rest := sum(len(source.places) for source in sources.values()) - len(entries):
        print(f"{rest} frames without a SEG are left out")
    return [(Path(address), entry) for address, entry in entries.items()]


def write_segs(masks: Path, dicom: Path, classes: Sequence[str], codes: str | None, folder: Path) -> int:
    """Write ``seg/NAME.dcm`` for each source of DICOM whose frames have masks, and return their number.

    Raises:
        InputError: when a source has masks for some frames alone, when none has, or when a SEG cannot be written.
    """
    found, count = find_sources(dicom), 0
    if not found:
        raise InputError(f"{dicom} holds no DICOM files. Name those that the masks are of by --dicom.")
    seg = SegFiles(classes, len(classes), None, codes)
    for source in found.sources:
        if found_masks := masks_of(source, masks, len(classes) == 1):
            seg.write(source, found_masks, folder, found.broken)
            count += 1
            continue
        names = [Path(address).stem for address in source.addresses()]
        if len(missing := [name for name in names if not (masks / f"{name}.png").is_file()]) < len(names):
            found.broken.append(f"{source.name}: {len(missing)} frames have no mask, such as {missing[0]}. Add them")
    refuse_broken(found.broken)
    if not count:
        raise InputError(
            f"{masks} holds no mask of a frame in {dicom}: masks have the names that `unetv2 label` gives."
        )
    return count


def _masks(seg: Any, source: Source, uids: Sequence[str]) -> np.ndarray:
    """Return masks of shape (frames, height, width, segments), in the order of the frames."""
    # dcmqi does not state that pixels lie on those of the source; highdicom then asks for this
    options = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True, "dtype": np.uint8}
    if len({*uids}) == len(source.places):
        return seg.get_pixels_by_source_instance(uids, **options)
    return seg.get_pixels_by_source_frame(uids[0], [index + 1 for _, index in source.places], **options)


def _uids(source: Source) -> list[str]:
    """Return the SOPInstanceUID of each file of a source, in the order of its frames."""
    return [str(read_header(file).SOPInstanceUID) for file in dict.fromkeys(file for file, _ in source.places)]
