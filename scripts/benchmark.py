#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Size and speed of the network on this machine.

For every backbone: parameters, multiply-accumulates (half of torch's FLOP count), the time of one image and of one
training step. Variants take turns within each round; printed are medians and the ratio to the first variant.

    python scripts/benchmark.py --backbones pvt_v2_b0 pvt_v2_b2 --image_size 256
    python scripts/benchmark.py --count     # parameters and multiply-accumulates of all variants, nothing timed
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from unetv2_monai import UNetV2

VARIANTS: dict[str, dict] = {
    "U-Net v2, pvt_v2_b0": {"backbone": "pvt_v2_b0"},
    "U-Net v2, pvt_v2_b1": {"backbone": "pvt_v2_b1"},
    "U-Net v2, pvt_v2_b2": {},
    "U-Net v2, pvt_v2_b4": {"backbone": "pvt_v2_b4"},
    "b2 without SDI": {"sdi": False},
    "b2 without attention": {"attention": "none"},
    "b2, fusion cat": {"fusion": "cat"},
    "b2, interpolation": {"upsample": "interp"},
    "b2, 16 channels": {"channels": 16},
    "b2, 64 channels": {"channels": 64},
    "b2, 128 channels": {"channels": 128},
    "U-Net v2, convnextv2_tiny": {"backbone": "convnextv2_tiny"},
    "U-Net v2, resnet34": {"backbone": "resnet34"},
}


def print_counts(image_size: int) -> None:
    print(f"| variant | parameters (M) | GMACs at {image_size} x {image_size} |\n|---|---|---|")
    for name, arguments in VARIANTS.items():
        net = UNetV2(**arguments)
        parameters = sum(parameter.numel() for parameter in net.parameters())
        operations = macs(net, torch.rand(1, 3, image_size, image_size))
        print(f"| {name} | {parameters / 1e6:.3f} | {operations / 1e9:.3f} |")


def macs(net: torch.nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention products for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(x[:1])
    return counter.get_total_flops() // 2


def training_step(net: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        sum(head.square().mean() for head in net.train()(x)).backward()
        optimizer.step()

    return step


def prediction(net: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def predict() -> None:
        with torch.inference_mode():
            net.eval()(x)

    return predict


def medians(variants: dict[str, Callable[[], None]], device: torch.device, rounds: int) -> dict[str, float]:
    """Median seconds of each variant; all take one turn a round, after two rounds of warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds + 2):
        for name, call in variants.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["pvt_v2_b0", "pvt_v2_b2"])
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=4, help="of the training step (default: 4)")
    parser.add_argument("--rounds", type=int, default=10, help="default: 10")
    parser.add_argument("--count", action="store_true", help="only count parameters and operations of all variants")
    arguments = parser.parse_args()
    if arguments.count:
        print_counts(arguments.image_size)
        return

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {where}, {arguments.image_size} x {arguments.image_size}")
    for backbone in arguments.backbones:
        net = UNetV2(backbone=backbone, deep_supervision=True).to(device)
        size = arguments.image_size
        image, batch = (torch.rand(n, 3, size, size, device=device) for n in (1, arguments.batch_size))
        count = sum(parameter.numel() for parameter in net.parameters())
        print(f"\n{backbone}: {count / 1e6:.3f} M parameters, {macs(net, image) / 1e9:.3f} GMACs")
        plain, last = (UNetV2(backbone=backbone, deep_supervision=True).to(device) for _ in range(2))
        last.to(memory_format=torch.channels_last)
        inference = {"1 image": prediction(plain, image), "1 image, channels_last": prediction(last, image)}
        training = {f"training step of {arguments.batch_size}": training_step(net, batch)}
        for variants in (inference, training):
            found = medians(variants, device, arguments.rounds)
            first = next(iter(found.values()))
            for name, seconds in found.items():
                print(f"  {name:28s} {1000 * seconds:8.1f} ms  {seconds / first:5.2f}")


if __name__ == "__main__":
    main()
