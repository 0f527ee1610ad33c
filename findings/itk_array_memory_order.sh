#!/bin/sh
# itk 5.4.7: image_from_array swaps the axes of an array, or keeps them, by the array's order in memory.
# Arrays in C order get reversed axes, as SimpleITK and the documentation have it. An array with the same shape and
# values in Fortran order keeps its axes. nibabel 5.4.2 returns arrays in Fortran order, so a volume that nibabel has
# read becomes an image of its own shape, and after arithmetic that returns C order one of the reversed shape.
# SimpleITK 2.5.7 reverses both.
# Seen: C order (4, 3, 2); Fortran order (2, 3, 4); nibabel's array (2, 3, 4); a copy in C order (4, 3, 2);
# SimpleITK (4, 3, 2) twice.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check itk==5.4.7 nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import itk
import nibabel
import numpy as np
import SimpleITK as sitk

values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), "a.nii")
read = np.asarray(nibabel.load("a.nii").dataobj)
found = {
    "C order": values,
    "Fortran order": np.asfortranarray(values),
    "nibabel's array": read,
    "a copy of it in C order": np.ascontiguousarray(read),
}
sizes = {}
for name, array in found.items():
    assert (array == values).all()
    sizes[name] = tuple(itk.size(itk.image_from_array(array)))
    print(f"{name}: array {array.shape}, itk {sizes[name]}, SimpleITK {sitk.GetImageFromArray(array).GetSize()}")
    assert sitk.GetImageFromArray(array).GetSize() == (4, 3, 2)
assert [*sizes.values()] == [(4, 3, 2), (2, 3, 4), (2, 3, 4), (4, 3, 2)], sizes
PYTHON
