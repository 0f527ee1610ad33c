#!/bin/sh
# SimpleITK 2.5.7: DICOM files of the class Dermoscopic Photography Image Storage cannot be read.
# That class, 1.2.840.10008.5.1.4.1.1.77.1.7, has the image modules of VL Photographic Image Storage, ...77.1.4. The same
# pixels are read when the file states that class.
# Seen: RuntimeError "Unable to determine ImageIO reader" for 77.1.7, and size 9 x 8 for 77.1.4.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def size_of(kind):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = f"1.2.840.10008.5.1.4.1.1.{kind}", generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "XC"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 8, 9, 3, "RGB"
    data.PlanarConfiguration = data.PixelRepresentation = 0
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelData = 8, 8, 7, bytes(8 * 9 * 3)
    data.save_as(f"{kind}.dcm", enforce_file_format=True)
    try:
        return str(sitk.ReadImage(f"{kind}.dcm").GetSize())
    except RuntimeError as error:
        return "Unable" if "Unable to determine ImageIO reader" in str(error) else str(error)


found = {kind: size_of(kind) for kind in ("77.1.4", "77.1.7")}
print(found)
assert found == {"77.1.4": "(9, 8, 1)", "77.1.7": "Unable"}, found
PYTHON
