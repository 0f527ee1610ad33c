# SPDX-License-Identifier: Apache-2.0
"""The released network's weights."""

import pytest
import torch

from unetv2_monai import convert_released_state_dict

from . import golden


@pytest.mark.parametrize("change", [{"seg_outs.4.weight": torch.zeros(1)}, {"encoder.conv1.weight": torch.zeros(1)}])
def test_conversion_refuses_what_it_does_not_know(change):
    with pytest.raises(ValueError, match=f"unknown entries.*{next(iter(change))}"):
        convert_released_state_dict(golden.released_state_dict(1) | change)
    with pytest.raises(ValueError, match="empty"):
        convert_released_state_dict({})
