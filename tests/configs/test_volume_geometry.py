# SPDX-License-Identifier: Apache-2.0
"""Labels that inference writes are on the grid of their image, however a NIfTI file states it."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from unetv2_monai import LabelWriter, list_images
from unetv2_monai.core.overlay import PREDICTION_COLOR, outlined
from unetv2_monai.data.pictures import picture

from ..support.workflow import INFERENCE, overlays, run

SLABS = "options/inference_slabs"
RNG = np.random.default_rng(0)
VALUES = np.round(100 * gaussian_filter(RNG.normal(0, 9, (20, 22, 19)), 2)).astype(np.int16)
TURN = nibabel.eulerangles.euler2mat(0.3, -0.2, 0.15)  # radians
ORIGIN = (-31.5, 12.25, 7.0)


def affine_of(matrix) -> np.ndarray:
    return nibabel.affines.from_matvec(np.asarray(matrix, float), ORIGIN)


RAS = affine_of(np.eye(3))
# name of the file, values, affine, slope and intercept in the header
VARIANTS = [
    ("ras.nii.gz", VALUES, RAS, None),
    ("plain.nii", VALUES, RAS, None),
    ("lps.nii.gz", VALUES[::-1, ::-1], affine_of(np.diag([-1, -1, 1])), None),
    ("turned.nii.gz", VALUES.transpose(2, 0, 1)[:, :, ::-1], affine_of([[0, 1, 0], [0, 0, -1], [1, 0, 0]]), None),
    ("oblique.nii.gz", VALUES, affine_of(TURN), None),
    ("anisotropic.nii.gz", VALUES, affine_of(np.diag([0.7, 0.7, 4.0])), None),
    ("one_channel.nii.gz", VALUES[..., None], RAS, None),
    ("float32.nii.gz", VALUES.astype(np.float32), RAS, None),
    ("float64.nii.gz", VALUES.astype(np.float64), RAS, None),
    ("uint8.nii.gz", (VALUES - VALUES.min()).astype(np.float64) / 4, RAS, None),  # rounded below
    ("scaled.nii.gz", VALUES.astype(np.float64) * 0.5 - 1024, RAS, (0.5, -1024)),
]
# programs differ in which of two forms in the header they read
STATED = {"both.nii.gz": affine_of(np.diag([2, 2, 2])), "quaternion.nii.gz": None}  # by the sform
THIN = {f"thin_{shape}.nii.gz": shape for shape in ((1, 22, 19), (20, 1, 19), (20, 22, 1), (20, 1, 1), (1, 1, 1))}
ONE_LAYER = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
DTYPES = {"uint8.nii.gz": np.uint8, "scaled.nii.gz": np.int16}


def write(folder: Path, name: str, values: np.ndarray, affine: np.ndarray, scaling=None) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_data_dtype(DTYPES.get(name, values.dtype))
    image.header.set_slope_inter(*(scaling or (None, None)))
    nibabel.save(image, folder / name)


def infer(folder: Path, *names: str, **options) -> Path:
    """Labels of ``folder/in``, in ``folder/out``, by a network that looks at each voxel alone: :py:func:`expected`."""
    network = torch.nn.Conv3d(1, 3, 1)
    network.weight.data = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1, 1)
    network.bias.data = torch.tensor([0.0, 0.5, 0.0])
    torch.save(network.state_dict(), folder / "model.pt")
    options |= {"checkpoint": folder / "model.pt", "dataset_dir": folder / "in", "output_dir": folder / "out"}
    files = [*INFERENCE, *overlays("recipes/volumes", *names)]
    run(files, "inference", image_size=[16, 16, 16], num_workers=0, network_def=ONE_LAYER, **options)
    return folder / "out"


def expected(values: np.ndarray) -> np.ndarray:
    """0 below half a standard deviation under the volume's mean, 2 above half a one over it, else 1."""
    score = (values - values.mean()) / values.std()
    return np.digitize(score, (-0.5, 0.5))


@pytest.fixture(scope="module", params=[(), (SLABS,)], ids=["windows", "slabs"])
def inferred(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("geometry")
    for variant in VARIANTS:
        write(folder / "in", *variant)
    for name, (x, y, z) in THIN.items():
        write(folder / "in", name, VALUES[:x, :y, :z], affine_of(TURN))
    for name, sform in STATED.items():
        image = nibabel.Nifti1Image(VALUES, RAS)
        image.set_sform(sform, code=0 if sform is None else "aligned")
        image.set_qform(affine_of(TURN * 2), code="scanner")
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder / "in" / name)
    return infer(folder, *request.param)


@pytest.mark.parametrize("name", [*(name for name, *_ in VARIANTS), *STATED, *THIN])
def test_labels_are_on_the_grid_of_their_image(inferred, name):
    image = nibabel.load(inferred.parent / "in" / name)
    label = nibabel.load(inferred / f"{name.partition('.')[0]}.nii.gz")
    assert label.shape == image.shape[:3]
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-5 if name in STATED else 1e-6)
    for form in ("get_sform", "get_qform"):
        found, wanted = (getattr(one, form)(coded=True) for one in (label, image))
        assert found[1] == wanted[1]
        assert wanted[0] is None or found[0] == pytest.approx(wanted[0], abs=1e-5)
    assert label.header.get_xyzt_units() == image.header.get_xyzt_units()
    assert label.header.get_zooms() == pytest.approx(image.header.get_zooms()[:3])
    assert label.get_data_dtype() == np.uint8
    if name not in THIN:
        truth = expected(np.asarray(image.dataobj, dtype=float).reshape(label.shape))
        assert np.bincount(truth.ravel()).min() > 1000
        assert (np.asarray(label.dataobj) == truth).all()


def test_a_quaternion_that_is_none(tmp_path):
    """The label is where the sform of its image says."""
    image = nibabel.Nifti1Image(np.zeros((6, 7, 8), np.int16), affine_of(TURN))
    image.header["qform_code"] = 1
    for name in "bcd":
        image.header[f"quatern_{name}"] = 0.9
    nibabel.save(image, tmp_path / "image.nii.gz")
    writer = LabelWriter()
    writer.set_data_array(np.ones((1, 6, 7, 8)))
    writer.set_metadata({"filename_or_obj": str(tmp_path / "image.nii.gz"), "affine": affine_of(TURN)}, resample=False)
    writer.write(tmp_path / "label.nii.gz")
    label = nibabel.load(tmp_path / "label.nii.gz")
    assert np.allclose(label.affine, affine_of(TURN), atol=1e-5)
    assert label.header["qform_code"] == 0


def test_probabilities_overlays_and_names_of_classes(tmp_path):
    """On the grid of a turned file; the logits are minus the score, a half, and the score."""
    values = VALUES.transpose(2, 0, 1)[:, :, ::-1]
    write(tmp_path / "in", "a.nii.gz", values, affine_of([[0, 1, 0], [0, 0, -1], [1, 0, 0]]))
    names = ["background", "front", "back"]
    out = infer(tmp_path, "options/inference_overlays", save_probabilities=True, class_names=names)
    found, label = (nibabel.load(out / name) for name in ("probabilities/a.nii.gz", "a.nii.gz"))
    assert (found.shape, found.get_data_dtype()) == ((*values.shape, 3), np.float32)
    np.testing.assert_array_equal(found.affine, label.affine)
    score = (values - values.mean()) / values.std()
    logits = np.exp(np.stack([-score, np.full_like(score, 0.5, dtype=float), score], axis=-1))
    np.testing.assert_allclose(found.get_fdata(), logits / logits.sum(-1, keepdims=True), atol=1e-4)
    np.testing.assert_array_equal(found.get_fdata().argmax(-1), np.asarray(label.dataobj))
    image, (mask,) = picture(str(tmp_path / "in" / "a.nii.gz"), np.asarray(label.dataobj) > 0)
    drawn = np.asarray(Image.open(out / "overlays" / "a.jpg")).astype(int)
    assert np.abs(drawn - outlined(image, mask, PREDICTION_COLOR, 0.3)).mean() < 5  # JPEG
    assert (out / "classes.csv").read_text().split() == ["value,class", "0,background", "1,front", "2,back"]
    assert not list_images(f"{tmp_path}/in", output_dir=str(out), skip_finished=True, overlay_dir=f"{out}/overlays")
