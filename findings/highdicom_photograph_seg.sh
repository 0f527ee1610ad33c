#!/bin/sh
# highdicom 0.28.2, pydicom 3.0.2: highdicom does not read its own SEG of a photograph that states its pixel spacing.
# A dermoscopic photograph has PixelSpacing, and no SliceThickness, which its class does not have. highdicom copies the
# spacing into the pixel measures of the SEG, without a thickness, and saves the file. Its reader then asks for both.
# Seen: segread raises AttributeError "Sequence does not have the required attributes for a Pixel Measures Sequence.".
# Without PixelSpacing in the source, the SEG is read.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def photograph(**values):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.7", generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.PatientID = data.PatientName = data.PatientBirthDate = data.PatientSex = data.StudyID = ""
    data.StudyDate = data.StudyTime = data.AccessionNumber = data.ReferringPhysicianName = ""
    data.Modality, data.Rows, data.Columns = "DMS", 8, 9
    for name, value in values.items():
        setattr(data, name, value)
    return data


def read_again(source):
    algorithm = hd.AlgorithmIdentificationSequence("a", hd.sr.CodedConcept("123110", "DCM", "AI"), "1")
    lesion = hd.sr.CodedConcept("95324001", "SCT", "Skin lesion")
    segment = hd.seg.SegmentDescription(1, "lesion", lesion, lesion, "AUTOMATIC", algorithm)
    mask = np.ones((1, 8, 9), np.uint8)
    made = hd.seg.Segmentation(
        [source], mask, "BINARY", [segment], hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "0"
    )
    made.save_as("seg.dcm")
    try:
        return str(hd.seg.segread("seg.dcm").pixel_array.sum())
    except AttributeError as error:
        return str(error)


found = [read_again(photograph()), read_again(photograph(PixelSpacing=[0.05, 0.04]))]
print(*found, sep="\n")
assert found == ["72", "Sequence does not have the required attributes for a Pixel Measures Sequence."], found
PYTHON
