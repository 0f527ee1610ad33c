# SPDX-License-Identifier: Apache-2.0
"""Files that come with a call: taken out of its body, and read before anything is stored."""

from __future__ import annotations

import secrets
import tempfile
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from values import MAX_JSON, Refused

from unetv2_monai import InputError
from unetv2_monai.core.listing import IMAGE_ENDINGS, VOLUME_ENDINGS
from unetv2_monai.data.checks import image_size, mask_size
from unetv2_monai.data.volumes import check_grids, read_volume

__all__ = ["Form", "check_image", "check_label", "check_png", "ending_of", "read_form", "renumbered"]

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")  # others of Pillow's are not read: one of them starts a program


@dataclass
class Form:
    """A multipart body: JSON text, and at most one file with the name that the client gave it."""

    params: bytes = b""
    file_name: str = ""
    content: bytes | None = None

    def encoded(self, part: str, params: bytes, ending: str) -> tuple[str, bytes]:
        """Content type and body of the same form with checked values and a plain file name."""
        boundary = secrets.token_hex(16)
        parts = [b'Content-Disposition: form-data; name="params"\r\n\r\n' + params]
        if self.content is not None:
            head = f'Content-Disposition: form-data; name="{part}"; filename="upload{ending}"\r\n'
            parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + self.content)
        body = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), each) for each in parts)
        return f"multipart/form-data; boundary={boundary}", body + b"--%s--\r\n" % boundary.encode()


async def read_form(content_type: str, body: bytes, part: str) -> Form:
    """
    Args:
        content_type: with the boundary.
        body: of the call.
        part: name of the part that may hold a file.

    Raises:
        Refused: when it is no multipart body, or has other parts.
    """

    async def stream() -> AsyncIterator[bytes]:
        yield body
        yield b""

    headers = Headers({"content-type": content_type})
    parser = MultiPartParser(headers, stream(), max_files=1, max_fields=1, max_part_size=MAX_JSON)
    try:
        parsed = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refused(400, f"The multipart body cannot be read: {error}".rstrip(".") + ".") from None
    form = Form()
    for name, value in parsed.multi_items():
        if name == "params" and isinstance(value, str):
            form.params = value.encode()
        elif name == part and isinstance(value, UploadFile):
            form.file_name = Path((value.filename or "").replace("\\", "/")).name
            form.content = await value.read()
            await value.close()
        else:
            raise Refused(422, f"The body has a part other than 'params' and a file in '{part}'.")
    return form


def ending_of(name: str, volumes: bool) -> str:
    """The ending of a file of a known kind."""
    known = VOLUME_ENDINGS if volumes else IMAGE_ENDINGS
    for ending in sorted(known, key=len, reverse=True):
        if name.lower().endswith(ending):
            return ending
    raise Refused(415, f"'{printable(name)}' has none of the endings {', '.join(known)}.")


def check_image(name: str, content: bytes, volumes: bool) -> tuple[int, ...]:
    """
    Decode an image or a volume that was sent.

    Returns:
        Its size.

    Raises:
        Refused: when it cannot be read.
    """
    with Received(content, ending_of(name, volumes)) as path:
        try:
            if not volumes:
                identify(content, FORMATS)
            return image_size(str(path))
        except InputError as error:
            raise Refused(400, f"'{printable(name)}' cannot be segmented: {sentence(error, path)}") from None


def check_label(name: str, content: bytes, image: str, out_channels: int, volumes: bool) -> None:
    """
    Decode a label that was sent, and compare it with its image.

    Args:
        name: of the file, as the client calls it.
        content: of the file.
        image: path of the image.
        out_channels: of the network, which decide the values that the label may have.
        volumes: whether files are volumes.

    Raises:
        Refused: when it cannot be read, has another size, holds values that are no classes, or as a volume lies
            elsewhere than its image.
    """
    with Received(content, ending_of(name, volumes)) as path:
        try:
            if not volumes:
                identify(content, FORMATS)
            size, expected = mask_size(str(path), out_channels), image_size(image)
            if size != expected:
                by, image_by = (" x ".join(map(str, each)) for each in (size, expected))
                raise Refused(422, f"'{printable(name)}' is {by}, but its image is {image_by}.")
            if volumes:
                check_grids(image, str(path))
        except InputError as error:
            raise Refused(422, f"'{printable(name)}' is no label: {sentence(error, path)}") from None


def renumbered(name: str, content: bytes, segments: Sequence[Mapping[str, Any]], classes: Mapping[str, int]) -> bytes:
    """
    A label volume whose values are those of the server's classes.

    3D Slicer numbers segments in their order in its list, which its user can change.

    Args:
        name: of the file, as the client calls it.
        content: of the file.
        segments: the client's, ``{"name": ..., "idx": value in the file}``.
        classes: values by names, which are in lower case.

    Returns:
        The content of the file; the one that was sent, if its values are right.

    Raises:
        Refused: when it cannot be read, or holds a value of no segment, or a segment that is no class.
    """
    names = {segment["idx"]: segment["name"] for segment in segments}
    with Received(content, ending_of(name, volumes=True)) as path:
        try:
            values = read_volume(str(path))
        except InputError as error:
            raise Refused(422, f"'{printable(name)}' is no label: {sentence(error, path)}") from None
        wanted = {}
        for value in np.unique(values[values != 0]).tolist():
            if value not in names:
                raise Refused(422, f"'{printable(name)}' holds the value {value:g}, which no segment has.")
            segment = names[value].lower()
            if segment not in classes:
                raise Refused(
                    422, f"The segment '{printable(names[value])}' is no class. There is: {', '.join(classes)}."
                )
            wanted[value] = classes[segment]
        if all(value == to for value, to in wanted.items()):
            return content
        label = np.zeros(values.shape, np.uint8)
        for value, to in wanted.items():
            label[values == value] = to
        opened: Any = nibabel.load(path)
        written = nibabel.Nifti1Image(label, opened.affine, opened.header)
        written.set_data_dtype(np.uint8)
        nibabel.save(written, path)
        return path.read_bytes()


def check_png(content: bytes, size: tuple[int, ...], classes: int) -> Image.Image:
    """
    Decode a label of the page: PNG of the image's size, class indices in its only or its red channel.

    Returns:
        The label in mode L.

    Raises:
        Refused: when it is anything else.
    """
    try:
        identify(content, ("PNG",))
        with Image.open(BytesIO(content), formats=("PNG",)) as opened:
            if opened.size != size:
                by, image_by = (" x ".join(map(str, each)) for each in (opened.size, size))
                raise Refused(422, f"The label is {by}, but its image is {image_by}.")
            if opened.mode not in ("L", "RGB", "RGBA"):
                raise Refused(422, f"The label has the mode {opened.mode}, not L, RGB or RGBA.")
            label = opened.getchannel(0) if opened.mode != "L" else opened.copy()
    except (InputError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise Refused(415, "The label is no PNG.") from None
    highest = label.getextrema()[1]
    if highest > classes:  # type: ignore[operator]
        raise Refused(422, f"The label holds the value {highest}, but the classes are 0 to {classes}.")
    return label


def identify(content: bytes, formats: tuple[str, ...]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(BytesIO(content), formats=formats).close()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        big = isinstance(error, Image.DecompressionBombError)
        raise InputError("it has too many pixels" if big else "it is no image in PNG, JPEG, BMP or TIFF") from None


class Received:
    """A file of the content while it is checked, in the server's own folder of temporary files."""

    def __init__(self, content: bytes, ending: str) -> None:
        self.content, self.ending = content, ending

    def __enter__(self) -> Path:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / f"upload{self.ending}"
        path.write_bytes(self.content)
        return path

    def __exit__(self, *error: Any) -> None:
        self.folder.cleanup()


def sentence(error: Exception, path: Path) -> str:
    text = str(error).removeprefix(f"{path}: ").replace(str(path), "it")
    return text.splitlines()[0].rstrip(".") + "."


def printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:100])
