# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from unetv2_monai import InputError, StrictCheckpointLoader, UNetV2, last_checkpoint


def test_nothing_to_resume(tmp_path):
    with pytest.raises(InputError, match=r"last\.pt does not exist"):
        last_checkpoint(str(tmp_path))
    torch.save({"trainer": {"epoch": 3}}, tmp_path / "last.pt")
    assert last_checkpoint(str(tmp_path)) == str(tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"last\.pt cannot be read"):
        last_checkpoint(str(tmp_path))


def test_weights_of_this_network(tmp_path):
    net = UNetV2(backbone="pvt_v2_b0", channels=8)
    for name, content in (("plain", net.state_dict()), ("nested", {"model": net.state_dict()})):
        torch.save(content, tmp_path / name)
        other = UNetV2(backbone="pvt_v2_b0", channels=8)
        loader = StrictCheckpointLoader(str(tmp_path / name), {"model": other}, map_location="cpu")
        loader(Engine(lambda engine, batch: None))
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in other.state_dict().items())


def test_weights_of_another_network(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(UNetV2(backbone="pvt_v2_b0", channels=8).state_dict(), path)
    with pytest.raises(InputError, match=r"model\.pt holds weights of another network.*another shape, such as reduce"):
        StrictCheckpointLoader(str(path), {"model": UNetV2(backbone="pvt_v2_b0", channels=16)})
    with pytest.raises(InputError, match="missing, such as encoder"):
        StrictCheckpointLoader(str(path), {"model": UNetV2(backbone="pvt_v2_b2", channels=8)})


def test_no_weights(tmp_path):
    net = UNetV2(backbone="pvt_v2_b0", channels=8)
    with pytest.raises(InputError, match="no weights at"):
        StrictCheckpointLoader(str(tmp_path / "absent.pt"), {"model": net})
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(InputError, match=r"text\.pt holds no PyTorch weights"):
        StrictCheckpointLoader(str(tmp_path / "text.pt"), {"model": net})
