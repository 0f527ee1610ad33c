# SPDX-License-Identifier: Apache-2.0
"""Inference on large volumes, in bounded memory."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch

from ..data.folders import write_volume
from ..support.workflow import INFERENCE, command, overlays
from .test_volume_geometry import ONE_LAYER, SLABS

# runs Python by a small process, since a peak begins at the memory of the process that starts another one
MEASURE = """\
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
MEASURED = [sys.executable, "-c", MEASURE]


@pytest.mark.slow
def test_memory_for_a_large_volume(tmp_path):
    """512 x 512 x 400 voxels: 0.4 GiB for the image in float32; logits of three classes would be 1.2 GiB."""
    shape = (512, 512, 400)
    volume = np.random.default_rng(0).integers(-1000, 1000, shape, np.int16)
    write_volume(tmp_path / "in" / "large.nii", volume, np.diag([-1.0, -1.0, 1.0, 1.0]))
    torch.save(torch.nn.Conv3d(1, 3, 1).state_dict(), tmp_path / "model.pt")
    options = {"dataset_dir": tmp_path / "in", "output_dir": tmp_path / "out", "checkpoint": tmp_path / "model.pt"}
    words = command([*INFERENCE, *overlays("recipes/volumes", SLABS)], "inference", network_def=ONE_LAYER, **options)
    done = subprocess.run([*MEASURED, "-W", "ignore", *words], check=True, capture_output=True, text=True)
    assert nibabel.load(tmp_path / "out" / "large.nii.gz").shape == shape
    peak = int(done.stdout.split()[-1]) / 2**20
    print(f"peak: {peak:.2f} GiB")
    assert peak < 4
