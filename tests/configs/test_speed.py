# SPDX-License-Identifier: Apache-2.0
"""Fast paths are on where they should be and give the same answer. How fast: docs/results/performance.md."""

import subprocess
import sys

import pytest
import torch
from monai.data import MetaTensor

from ..conftest import ROOT
from ..support.workflow import EVALUATE, INFERENCE, TINY, TRAIN, workflow

FAULTS = """
import resource, sys, torch
from unetv2_monai import keep_memory
if "keep" in sys.argv and not keep_memory():
    sys.exit("unsupported")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(4):  # until the heap has grown to what is needed
    faults()
print(faults())
"""


def test_kept_memory_is_not_faulted_in_again():
    """Five times 64 MB: 80,000 pages of 4 kB or 160 of 2 MB, each faulted in anew, or none."""
    command = [sys.executable, "-W", "ignore", "-c", FAULTS]
    kept, given_back = (
        subprocess.run([*command, *mode], cwd=ROOT, capture_output=True, text=True) for mode in (["keep"], [])
    )
    if "unsupported" in kept.stderr:
        pytest.skip("no mallopt in this C library")
    assert int(given_back.stdout) >= 160
    assert int(kept.stdout) < 40


@pytest.mark.parametrize(
    ("files", "run_id", "inferer", "without_weights"),
    [
        (TRAIN, "training", "validate#inferer", {}),
        (EVALUATE, "evaluating", "validate#inferer", {"validate#handlers": []}),
        (INFERENCE, "inference", "inferer", {"handlers": []}),
    ],
)
def test_the_network_is_prepared(files, run_id, inferer, without_weights, pairs, tmp_path):
    """Weights in channels_last, plain tensors as input: both cost time elsewhere and change nothing."""
    flow = workflow(files, run_id, dataset_dir=pairs, output_dir=tmp_path, **TINY, **without_weights)
    network, inferer = (flow.parser.get_parsed_content(name) for name in ("network", inferer))
    for name, weight in network.named_parameters():
        assert weight.ndim != 4 or weight.is_contiguous(memory_format=torch.channels_last), name
    seen = []
    with torch.no_grad():
        expected = network.eval()(torch.ones(1, 3, 32, 32))
        found = inferer(MetaTensor(torch.ones(1, 3, 32, 32)), lambda x: seen.append(type(x)) or network(x))
    assert seen == [torch.Tensor]
    assert torch.equal(found, expected)
