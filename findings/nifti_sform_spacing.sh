#!/bin/sh
# nibabel 5.4.2, SimpleITK 2.5.7: after nibabel's set_sform a volume has two voxel sizes, and each library takes one.
# set_sform writes the matrix and leaves pixdim alone. nibabel reads the voxel size of the sform. ITK takes directions
# and origin of the sform, but the spacing of pixdim, and says so in a warning at most. A label that ITK's tools write
# for such an image has another grid by nibabel than the image, though every voxel matches.
# Seen for a sform of 2 mm on a volume that was made with 1 mm: nibabel 2 mm, SimpleITK 1 mm; the label written by
# SimpleITK has 1 mm by nibabel. set_sform followed by header.set_zooms gives 2 mm in both.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import nibabel
import numpy as np
import SimpleITK as sitk


def spacings(path):
    by_nibabel = nibabel.affines.voxel_sizes(nibabel.load(path).affine)
    return [round(float(by_nibabel[0]), 3), round(sitk.ReadImage(path).GetSpacing()[0], 3)]


image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4))
image.set_sform(np.diag([2.0, 2, 2, 1]), 1)
nibabel.save(image, "image.nii")
sitk.WriteImage(sitk.ReadImage("image.nii") > 0, "label.nii")
image.header.set_zooms((2, 2, 2))
nibabel.save(image, "both.nii")
found = {name: spacings(f"{name}.nii") for name in ("image", "label", "both")}
for name, (by_nibabel, by_itk) in found.items():
    print(f"{name}: nibabel {by_nibabel} mm, SimpleITK {by_itk} mm")
assert found == {"image": [2.0, 1.0], "label": [1.0, 1.0], "both": [2.0, 2.0]}, found
PYTHON
