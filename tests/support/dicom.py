# SPDX-License-Identifier: Apache-2.0
"""Draw DICOM files of every class that is read, of one patient whose name and number must come out nowhere."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from unetv2_monai.core.files import encoded

from .segmenting import write_video

NAME, NUMBER, HEIGHT, WIDTH = "Quixote^Alonso", "4711-0815", 48, 64
STORAGE = "1.2.840.10008.5.1.4.1.1."
AXIAL, OBLIQUE = (1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, 0, 0, -1)
SERIES = {"CT": ("2", AXIAL), "MR": ("4", OBLIQUE)}  # the modality's storage class and orientation
VIDEOS = {"libx264": ("102", "mp4"), "mpeg2video": ("100", "ts"), "libx265": ("107", "mp4")}


def picture(index: int = 0) -> np.ndarray:
    """A bright square on smooth colours; it moves with the index."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.stack([x, 2 * y, 90 - x], axis=-1)
    image[10:30, 12 + index : 34 + index] = 230, 200, 180
    return image.astype(np.uint8)


def new(kind: str, modality: str, syntax: str = uid.ExplicitVRLittleEndian, **values: object) -> FileDataset:
    """A data set with everything but an image; of the same study, and of a series of its own unless stated."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = uid.UID(STORAGE + kind), uid.UID(syntax)
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = NAME, NUMBER, "16050116", "M"
    data.StudyInstanceUID, data.SeriesInstanceUID = uid.generate_uid(entropy_srcs=["study"]), uid.generate_uid()
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260102", "101112", "1", ""
    data.ReferringPhysicianName, data.Modality, data.SeriesNumber, data.InstanceNumber = "", modality, 7, 1
    return filled(data, **values)


def filled(data: Dataset, **values: object) -> Any:
    for key, value in values.items():
        setattr(data, key, value)
    return data


def item(**values: object) -> list[Dataset]:
    """A sequence of one item."""
    return [filled(Dataset(), **values)]


def with_pixels(data: FileDataset, frames: np.ndarray, kind: str = "RGB", bits: int = 8) -> FileDataset:
    """Frames (number, height, width[, 3]) of stored values, uncompressed."""
    data.Rows, data.Columns = frames.shape[1:3]
    data.SamplesPerPixel, data.PhotometricInterpretation = 3 if frames.ndim == 4 else 1, kind
    if frames.ndim == 4:
        data.PlanarConfiguration = 0
    if len(frames) > 1:
        data.NumberOfFrames = len(frames)
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * frames.itemsize, bits, bits - 1
    data.PixelRepresentation = int(frames.dtype.kind == "i")
    data.PixelData = frames.tobytes()
    return data


def jpeg(data: FileDataset, frames: np.ndarray) -> FileDataset:
    """JPEG baseline, its colours halved in width."""
    with_pixels(data, frames, "YBR_FULL_422")
    files = [encoded(Image.fromarray(frame), "jpeg", quality=95, subsampling=1) for frame in frames]
    data.PixelData, data.file_meta.TransferSyntaxUID = encapsulate(files), uid.JPEGBaseline8Bit
    data["PixelData"].VR = "OB"
    data.LossyImageCompression = "01"
    return data


def compressed(syntax: str, kind: str = "RGB") -> Callable[..., FileDataset]:
    def draw(data: FileDataset, frames: np.ndarray) -> FileDataset:
        with_pixels(data, frames, "RGB").compress(syntax, generate_instance_uid=False)
        data.PhotometricInterpretation = kind
        return data

    return draw


def jpeg_lossless(data: FileDataset, frames: np.ndarray) -> FileDataset:
    """JPEG Lossless (process 14, selection value 1), which GDCM alone writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(save(with_pixels(data, frames), Path(folder) / "file"))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(path)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(path)
        assert writer.Write()
        return pydicom.dcmread(path)


def planar(data: FileDataset, frames: np.ndarray) -> FileDataset:
    with_pixels(data, frames)
    data.PlanarConfiguration, data.PixelData = 1, frames.transpose(0, 3, 1, 2).tobytes()
    return data


def in_ybr(data: FileDataset, frames: np.ndarray) -> FileDataset:
    ybr = np.stack([np.asarray(Image.fromarray(frame).convert("YCbCr")) for frame in frames])
    return with_pixels(data, ybr, "YBR_FULL")


def palette(data: FileDataset, frames: np.ndarray) -> FileDataset:
    """The table is of 16 bits."""
    images = [Image.fromarray(frame).quantize(64) for frame in frames]
    with_pixels(data, np.stack([np.asarray(image) for image in images]), "PALETTE COLOR")
    colors = np.resize(np.array(images[0].getpalette(), np.uint16).reshape(-1, 3), (256, 3)) * 257
    for channel, color in enumerate(("Red", "Green", "Blue")):
        setattr(data, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(data, f"{color}PaletteColorLookupTableData", colors[:, channel].astype("<u2").tobytes())
    return data


def grey12(kind: str = "MONOCHROME2", function: str = "LINEAR") -> Callable[..., FileDataset]:
    def draw(data: FileDataset, frames: np.ndarray) -> FileDataset:
        data.WindowCenter, data.WindowWidth, data.VOILUTFunction = 1000, 1499, function  # no value ends in .5
        data.RescaleSlope, data.RescaleIntercept = 1, -100
        return with_pixels(data, frames[..., 0].astype(np.uint16) * 10 + 100, kind, 12)

    return draw


PICTURES: dict[str, tuple[str, str, Callable[..., FileDataset]]] = {
    "endoscopic": ("77.1.1", "ES", jpeg),
    "photographic": ("77.1.4", "XC", planar),
    "dermoscopic": ("77.1.7", "DMS", compressed(uid.JPEG2000Lossless, "YBR_RCT")),
    "secondary_ybr": ("7", "OT", in_ybr),
    "secondary_palette": ("7", "OT", palette),
    "secondary_lossless": ("7", "OT", jpeg_lossless),
    "secondary_jpegls": ("7", "OT", compressed(uid.JPEGLSLossless)),
    "secondary_rle": ("7", "OT", compressed(uid.RLELossless)),
    "secondary_grey12": ("7", "OT", grey12()),
    "secondary_inverse": ("7", "OT", grey12("MONOCHROME1")),
    "secondary_exact": ("7", "OT", grey12(function="LINEAR_EXACT")),
    "secondary_sigmoid": ("7", "OT", grey12(function="SIGMOID")),
}
LOOPS = {"loop_raw": with_pixels, "loop_jpeg": jpeg}


def draw_picture(folder: Path, name: str, file: str = "") -> Path:
    kind, modality, draw = PICTURES[name]
    data = new(kind, modality)
    if name == "dermoscopic":
        data.PixelSpacing = [0.05, 0.04]
    return save(draw(data, picture()[None]), folder / (file or f"{name}.dcm"))


def draw_loop(folder: Path, name: str, count: int = 4) -> Path:
    data = new("7.4", "ES", FrameTime="40", FrameIncrementPointer=0x00181063)
    return save(LOOPS[name](data, np.stack([picture(index) for index in range(count)])), folder / f"{name}.dcm")


def draw_video(folder: Path, codec: str = "libx264", count: int = 5) -> Path:
    syntax, ending = VIDEOS[codec]
    folder.mkdir(parents=True, exist_ok=True)
    written = write_video(folder / f"video.{ending}", [picture(index) for index in range(count)], codec=codec)
    data = new("77.1.1.1", "ES", f"1.2.840.10008.1.2.4.{syntax}", FrameTime="40", FrameIncrementPointer=0x00181063)
    with_pixels(data, np.zeros((count, HEIGHT, WIDTH, 3), np.uint8), "YBR_PARTIAL_420")
    data.PixelData = encapsulate([written.read_bytes()])
    data["PixelData"].VR = "OB"
    written.unlink()
    return save(data, folder / f"video_{codec}.dcm")


def volume(count: int = 5) -> np.ndarray:
    """Stored values (slice, row, column)."""
    return np.stack([picture(index)[..., 0] * 4 for index in range(count)]).astype(np.int16)


def draw_series(folder: Path, modality: str, order: Sequence[int] = (3, 1, 0, 4, 2), **values: object) -> list[Path]:
    """Slices whose numbers and names are in another order than their positions, 2.5 mm apart."""
    kind, across = SERIES[modality]
    normal, series, paths = np.cross(across[:3], across[3:]), uid.generate_uid(), []
    values = {"FrameOfReferenceUID": uid.generate_uid(), "SeriesInstanceUID": series, **values}
    for number, index in enumerate(order):
        data = new(kind, modality, PixelSpacing=[0.9, 0.7], SliceThickness=3, InstanceNumber=number + 1)
        data.ImagePositionPatient = [round(float(way), 4) for way in np.array([-20, 30, 5]) + 2.5 * index * normal]
        data.ImageOrientationPatient = list(across)
        data.RescaleSlope, data.RescaleIntercept, data.WindowCenter, data.WindowWidth = 1, -200, 300, 800
        filled(data, **values)
        with_pixels(data, volume(index + 1)[index][None], "MONOCHROME2", 16)
        paths.append(save(data, folder / f"{modality}_{number}"))
    return paths


def draw_enhanced(folder: Path, order: Sequence[int] = (3, 1, 0, 4, 2)) -> Path:
    """An enhanced MR file whose frames are not in the order of their positions."""
    data = new("4.1", "MR", FrameOfReferenceUID=uid.generate_uid(), ImageType=["DERIVED", "PRIMARY", "VOLUME", "NONE"])
    with_pixels(data, volume(len(order))[list(order)], "MONOCHROME2", 16)
    data.SharedFunctionalGroupsSequence = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=list(AXIAL)),
        PixelMeasuresSequence=item(PixelSpacing=[0.9, 0.7], SliceThickness=2.5),
        PixelValueTransformationSequence=item(RescaleSlope=1, RescaleIntercept=-200, RescaleType="US"),
    )
    data.PerFrameFunctionalGroupsSequence = []
    for index in order:
        position = item(ImagePositionPatient=[-20, 30, 5 + 2.5 * index])
        content = item(DimensionIndexValues=[index + 1])
        data.PerFrameFunctionalGroupsSequence += item(PlanePositionSequence=position, FrameContentSequence=content)
    return save(data, folder / "enhanced.dcm")


def draw_all(folder: Path) -> Path:
    """One of every class, in folders as an archive exports them, beside files that are no images."""
    for name in PICTURES:
        draw_picture(folder / "pictures", name, "" if "jpegls" not in name else "Quixote_4711.dcm")
    for name in LOOPS:
        draw_loop(folder / "loops", name)
    for codec in VIDEOS:
        draw_video(folder / "videos", codec)
    for modality in SERIES:
        draw_series(folder / modality, modality, SeriesNumber=len(modality) + (modality == "MR"))
    draw_enhanced(folder / "enhanced")
    save(new("88.11", "SR"), folder / "report.dcm")
    (folder / "README").write_text("viewer")
    return folder


def save(data: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def changed(path: Path, **values: object) -> Path:
    """Change a file in place; None removes an element."""
    data = pydicom.dcmread(path)
    for key, value in values.items():
        if value is None:
            del data[key]
        elif key == "TransferSyntaxUID":
            data.file_meta.TransferSyntaxUID = value
        else:
            setattr(data, key, value)
    return save(data, path)
