# SPDX-License-Identifier: Apache-2.0
"""List the images of a folder for inference, check them before use, and report at the end."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from ..core import listing
from ..core.dicom import SKIPPED, Source, find_sources
from ..core.dicom_seg import SegFiles
from ..core.errors import InputError, refuse_broken
from ..core.files import write_csv
from .checks import check_each, examined, image_size, list_problems, mask_size
from .dicoms import dicom_items, masks_of
from .layouts import Item, join_channels, one_or_all


class ImageList(list[Item]):
    """The images to segment, for a ``Dataset``; a sentence for each ``broken`` one, and the ``sources`` of DICOM."""

    def __init__(self, items: Iterable[Item] = (), broken: Iterable[str] = (), sources: Iterable[Source] = ()) -> None:
        super().__init__(items)
        self.broken, self.sources = list(broken), list(sources)

    def write_segs(self, output_dir: str, seg: SegFiles) -> None:
        """Write the masks of DICOM as SEG; ``broken`` names what cannot be written."""
        folder, one_class = Path(output_dir), len(seg.codes) == 1
        for source in self.sources:
            if masks := masks_of(source, folder, one_class):
                seg.write(source, masks, folder, self.broken)
            else:
                self.broken.append(f"{source.name}: has no SEG, since a mask is missing")

    def report(self, output_dir: str, class_names: Sequence[str] | None = None) -> None:
        """Print the number of masks, write classes.csv of several classes, and raise InputError for broken files."""
        print(len(self), "masks written to", output_dir)
        if class_names and len(class_names) > 2:
            rows = [{"value": value, "class": name} for value, name in enumerate(class_names)]
            write_csv(Path(output_dir) / "classes.csv", rows, ["value", "class"])
        refuse_broken(self.broken)


def list_images(
    dataset_dir: str,
    check: bool = True,
    output_dir: str | None = None,
    skip_broken: bool = False,
    skip_finished: bool = False,
    in_channels: int | None = None,
    overlay_dir: str | None = None,
) -> ImageList:
    """Find the images to segment: those in ``dataset_dir/images`` (``image``, ``original``) if it exists, else in
    ``dataset_dir``.

    Masks beside their images, such as ``a_mask.png`` beside ``a.jpg``, are left out.

    Args:
        dataset_dir: the folder, a single image, or a folder of DICOM files with its sub-folders.
        check: decode every file first.
        output_dir: folder of the masks, which have the images' names; None, or another folder than the images'.
        skip_broken: list files that cannot be used in ``broken``, where else an InputError names them.
        skip_finished: leave out images that have a complete mask of their size in ``output_dir``; not of DICOM.
        in_channels: channels that volumes must have if files are checked; None: any number. So many files ``a_0000``,
            ``a_0001``, ... are one image (of pictures, other numbers than 3). Of DICOM, 3 or None takes single frames
            as pictures, other numbers take volumes.
        overlay_dir: folder of overlays, which ``skip_finished`` then takes too.

    Returns:
        A list of ``{"image": path}``, sorted; of several files, a list of paths. Of DICOM, these are addresses, and for
        volumes tuples of them.

    Raises:
        InputError: when there is no image, when two images would give masks of the same name, when masks would
            overwrite images, or when files cannot be used; one message then names all of them.
    """
    root = Path(dataset_dir)
    if not root.exists():
        raise InputError(f"dataset_dir {root} does not exist. It is the folder of the images, or one image.")
    sources: list[Source] = []
    if dicom := find_sources(root):
        items, sources, broken = dicom_items(dicom, in_channels not in (None, 3), check)
    else:
        items, broken = _items(root, check, output_dir, in_channels)
    if broken and not skip_broken:
        raise InputError(list_problems(root, broken))
    if skip_finished and sources:
        raise InputError(SKIPPED)
    if skip_finished and output_dir is not None:
        unfinished = check_each(items, lambda item: _check_outputs(item["image"], Path(output_dir), overlay_dir))
        items = [item for item, reason in zip(items, unfinished) if reason]
    return ImageList(items, broken, sources)


def _items(root: Path, check: bool, output_dir: str | None, in_channels: int | None) -> tuple[list[Item], list[str]]:
    """Return the images of a folder, or one image, and sentences of those that are broken."""
    paths = listing.list_images(root) if root.is_dir() else [root]
    if output_dir is not None and Path(output_dir).resolve() == paths[0].parent.resolve():
        raise InputError(f"output_dir {output_dir} holds the images, which masks would overwrite: set another one.")
    if problems := listing.unique_stems(paths)[1]:
        raise InputError(list_problems(paths[0].parent, problems))
    items = [{"image": one_or_all(files)} for files in join_channels(paths, in_channels)]
    if not check:
        return items, []
    errors = check_each(items, lambda item: examined(item["image"], in_channels)[1])
    return [item for item, error in zip(items, errors) if not error], [error for error in errors if error]


def _check_outputs(paths: Any, output_dir: Path, overlay_dir: str | None) -> None:
    """Raise InputError unless inference has written a readable mask of the image's size, and such an overlay."""
    image = Path(ensure_tuple(paths)[0])
    masks = [output_dir / f"{listing.stem(image)}{ending}" for ending in (".png", ".nii.gz")]
    mask = next((path for path in masks if path.is_file()), None)
    if mask is None or mask_size(str(mask)) != image_size(str(image)):
        raise InputError(f"{image}: no mask yet")
    if overlay_dir:
        overlay = image_size(f"{overlay_dir}/{listing.stem(image)}.jpg")
        if overlay != image_size(str(image)) and not listing.is_volume(image):  # of a volume it shows slices
            raise InputError(f"{image}: no overlay yet")
