#!/bin/sh
# SimpleITK 2.5.7: of a DICOM Segmentation with two segments, the image has the frames of one segment after those of the
# other as slices, and loses the spacing. Nothing says so.
# The source is a series of 4 slices of 8 x 6 pixels, 0.4 x 0.5 mm, 3 mm apart. highdicom 0.28.2 writes its masks.
# Seen: with one segment 8 x 6 x 4 of 0.4 x 0.5 x 3 mm; with two 8 x 6 x 8 of 1 x 1 x 1 mm, all values 0 or 255.
# Right: read the segments apart, by highdicom's get_volume or dcmqi's segimage2itkimage.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check SimpleITK==2.5.7 highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import highdicom as hd
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

EMPTY = "PatientName PatientID PatientBirthDate PatientSex StudyID StudyDate StudyTime AccessionNumber"
UIDS = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}


def ct_slice(number):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, generate_uid(), "CT"
    for name in [*EMPTY.split(), "ReferringPhysicianName", "PositionReferenceIndicator"]:
        setattr(data, name, "")
    for name, value in UIDS.items():
        setattr(data, name, value)
    data.Rows, data.Columns, data.PixelSpacing, data.SliceThickness = 6, 8, [0.5, 0.4], 3
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * number]
    return data


def seen(mask, segments):
    tissue = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [hd.seg.SegmentDescription(n, f"s{n}", tissue, tissue, "MANUAL") for n in range(1, segments + 1)]
    made = hd.seg.Segmentation(
        SLICES, mask, "BINARY", described, hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "0", omit_empty_frames=False
    )
    made.save_as("seg.dcm")
    volume = [hd.seg.segread("seg.dcm").get_volume(segment_numbers=[n]) for n in range(1, segments + 1)]
    assert all(one.spacing == (3.0, 0.5, 0.4) and one.spatial_shape == (4, 6, 8) for one in volume)
    image = sitk.ReadImage("seg.dcm")
    marked = (sitk.GetArrayFromImage(image) > 0).sum(axis=(1, 2))
    return image.GetSize(), image.GetSpacing(), marked.tolist()


SLICES = [ct_slice(number) for number in range(4)]
mask = np.zeros((4, 6, 8), np.uint8)
mask[1:3, 1:3, 1:4] = 1
one = seen(mask, 1)
mask[1:, 4, 2:6] = 2
two = seen(mask, 2)
print(one, two, sep="\n")
assert one == ((8, 6, 4), (0.4, 0.5, 3.0), [0, 6, 6, 0]), one
assert two == ((8, 6, 8), (1.0, 1.0, 1.0), [0, 6, 6, 0, 4, 4, 4, 0]), two
PYTHON
