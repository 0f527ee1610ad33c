# SPDX-License-Identifier: Apache-2.0
"""Inference on large volumes, in bounded memory."""

from __future__ import annotations

import resource
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch

from ..support.workflow import CONFIGS, INFERENCE
from .test_volume_geometry import RECIPE, VARIANTS, expected, infer, write

SLABS = str(CONFIGS / "options" / "inference_slabs.yaml")


def test_slabs_give_the_same_labels(tmp_path):
    for variant in VARIANTS[:5]:
        write(tmp_path / "in", *variant)
    out = infer(tmp_path, SLABS)
    for name, values, affine, _ in VARIANTS[:5]:
        label = nibabel.load(out / f"{name.partition('.')[0]}.nii.gz")
        assert label.shape == values.shape
        np.testing.assert_allclose(label.affine, affine, atol=1e-6)
        assert np.array_equal(np.asarray(label.dataobj), expected(values.astype(float)))


def test_slabs_return_to_the_grid_of_the_file(tmp_path):
    """Of the finer grid, the voxels that the file has too."""
    values = np.round(np.random.default_rng(0).normal(0, 50, (12, 10, 9)))
    affine = nibabel.affines.from_matvec(np.diag([-1.0, 1.0, 2.0]), (5, 6, 7))
    write(tmp_path / "in", "a.nii.gz", values, affine)
    label = nibabel.load(infer(tmp_path, SLABS, spacing=[1, 1, 1]) / "a.nii.gz")
    finer = np.empty((12, 10, 17))
    finer[..., ::2] = values
    finer[..., 1::2] = (values[..., :-1] + values[..., 1:]) / 2
    assert label.shape == values.shape
    assert (np.asarray(label.dataobj) == expected(finer)[..., ::2]).mean() > 0.999


def peak_of_inference(folder, shape, *overlays: str) -> float:
    """GiB that a process holds at most while it segments one volume of noise, by a network of a single layer."""
    (folder / "in").mkdir()
    volume = np.random.default_rng(0).integers(-1000, 1000, shape, np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0])), folder / "in" / "large.nii")
    del volume
    torch.save(torch.nn.Conv3d(1, 3, 1).state_dict(), folder / "model.pt")
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    options = {"dataset_dir": folder / "in", "output_dir": folder / "out", "checkpoint": folder / "model.pt"}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    files = str([*INFERENCE, RECIPE, *overlays])
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inference", "--config_file", files, *words]
    subprocess.run([*command, "--network_def", str(definition)], check=True, capture_output=True)
    assert nibabel.load(folder / "out" / "large.nii.gz").shape == shape
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


@pytest.mark.slow
def test_memory_for_a_large_volume(tmp_path):
    """512 x 512 x 400 voxels: 0.4 GiB for the image in float32; logits of three classes would be 1.2 GiB."""
    peak = peak_of_inference(tmp_path, (512, 512, 400), SLABS)
    print(f"peak: {peak:.2f} GiB")
    assert peak < 4
