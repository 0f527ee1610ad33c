# SPDX-License-Identifier: Apache-2.0
"""Forward passes and training steps: this network, its fast paths and exports, and other networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from common.bundle import read_config
from common.exports import FORMATS, export, images_of, inference_config
from common.quantisation import CALIBRATION_IMAGES

from unetv2_monai import UNetV2, load_weights

from .machine import BFLOAT16, CUDA, Row, count, floor, show
from .stopwatch import Timing, Variant, start

DEFAULT: str = read_config(["inference.json"])["backbone"]
BACKBONES = ("pvt_v2_b2", DEFAULT)  # the paper's and the configs'
SMP = {"encoder_weights": None, "in_channels": 3, "classes": 1}
PLANE = {"spatial_dims": 2, "in_channels": 3, "out_channels": 1}


def ours(backbone: str) -> Row:
    return {"_target_": "unetv2_monai.UNetV2", "backbone": backbone}


def smp(name: str, encoder: str) -> Row:
    return {"_target_": f"segmentation_models_pytorch.{name}", "encoder_name": encoder, **SMP}


NETWORKS: dict[str, Row] = {
    "U-Net v2, pvt_v2_b2": ours("pvt_v2_b2"),
    f"U-Net v2, {DEFAULT}": ours(DEFAULT),
    "smp Unet, pvt_v2_b2": smp("Unet", "tu-pvt_v2_b2"),
    f"smp Unet, {DEFAULT}": smp("Unet", f"tu-{DEFAULT}"),
    "smp UnetPlusPlus, pvt_v2_b2": smp("UnetPlusPlus", "tu-pvt_v2_b2"),
    "smp FPN, pvt_v2_b2": smp("FPN", "tu-pvt_v2_b2"),
    "smp Segformer, mit_b2": smp("Segformer", "mit_b2"),
    "MONAI FlexibleUNet, efficientnet-b4": {
        "_target_": "FlexibleUNet", "in_channels": 3, "out_channels": 1, "backbone": "efficientnet-b4",
    },
    "MONAI SegResNet, 16": {"_target_": "SegResNet", "init_filters": 16, **PLANE},
    "MONAI SwinUNETR, 24": {"_target_": "SwinUNETR", "feature_size": 24, **PLANE},
    "MONAI AttentionUnet, 64 to 1024": {
        "_target_": "AttentionUnet", "channels": [64, 128, 256, 512, 1024], "strides": [2, 2, 2, 2], **PLANE,
    },
}  # fmt: skip
OF_OURS: dict[str, Row] = {
    f"U-Net v2, {DEFAULT}": {"backbone": DEFAULT},
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


@dataclass(frozen=True)
class InferencePath:
    """
    A way to compute the masks.

    Args:
        overlay: file in configs/options without its ending. Defaults to None: inference.json alone.
        file: that the overlay runs, in the folder of :py:func:`exported`. Defaults to None: it runs PyTorch's network.
        options: of the config. Defaults to none.
        dtype: whose limits of the machine count. Defaults to ``"float32"``.
    """

    overlay: str | None = None
    file: str | None = None
    options: Row = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def overlays(self) -> list[str]:
        return [f"{self.overlay}.yaml"] if self.overlay else []

    def options_in(self, folder: Path) -> Row | None:
        """Options that name the file in ``folder``; None where it is missing, or the processor has no such type."""
        if self.dtype == "bfloat16" and not BFLOAT16:
            return None
        if self.file is None:
            return self.options
        return {**self.options, "checkpoint": str(folder / self.file)} if (folder / self.file).is_file() else None


PATHS = {
    "default": InferencePath(),
    "TorchScript": InferencePath("inference_torchscript", "model.ts"),
    "torch.export": InferencePath("inference_export", "model.pt2"),
    "ONNX Runtime": InferencePath("inference_onnx", "model.onnx"),
    "OpenVINO": InferencePath("inference_openvino", "model.xml"),
    "bfloat16": InferencePath("inference_bf16", dtype="bfloat16"),
    "OpenVINO, bfloat16": InferencePath("inference_openvino", "model.xml", {"precision": "bf16"}, "bfloat16"),
    "OpenVINO, int8": InferencePath("inference_openvino", "model_int8.xml"),  # where there are images to calibrate on
}


def trained(name: str, work: str) -> Row:
    """A network's config for this work; ours has all its heads in training, as in train.json."""
    heads = {"deep_supervision": True} if work == "training" and "U-Net v2" in name else {}
    return {**NETWORKS[name], **heads}


def exported(
    backbone: str,
    folder: Path,
    state: Mapping[str, torch.Tensor] | None = None,
    calibration: Sequence[torch.Tensor] = (),
) -> Path:
    """
    Weights (random ones unless given) in all formats that can be made here, kept for the next call; in int8 if there
    are images to calibrate on.
    """
    target = folder / "exports" / backbone
    target.mkdir(parents=True, exist_ok=True)
    if state is not None or not (target / "model.pt").is_file():
        network = UNetV2(backbone=backbone).eval()
        if state is not None:
            network.load_state_dict(state)
        torch.save(network.state_dict(), target / "model.pt")
        for name, one in FORMATS.items():
            (target / one.file).unlink(missing_ok=True)
            if not CUDA and (calibration or not one.calibrated) and not one.missing_packages():
                noise = [torch.randn(2, 3, 97, 75)]
                export(name, network, {"backbone": backbone}, target, noise, calibration=calibration)
    return target


def exported_weights(
    checkpoint: Path, size: int, folder: Path, training_images: Sequence[Mapping[str, str]] = ()
) -> tuple[torch.nn.Module, Path]:
    """
    The default network with trained weights, and the folder of it in all formats that can be made here; in int8 if
    there are ``{"image": path}`` of training images.
    """
    config = inference_config({"image_size": size})
    network: torch.nn.Module = config.get_parsed_content("network_def").eval()
    load_weights(network, checkpoint)
    calibration = images_of(training_images, config, CALIBRATION_IMAGES)
    return network, exported(DEFAULT, folder, network.state_dict(), calibration)


def variants_of(backbone: str, folder: Path, names: Sequence[str]) -> dict[str, Variant]:
    """Variants of the paths in ``names`` that can run here, after "released"."""
    own = {"backbone": backbone, "load_pretrain": False}
    found = {"released": Variant(options=own, released=True)}
    for name in names:
        path = PATHS[name]
        options = path.options_in(folder)
        if options is not None and not (CUDA and path.overlay):
            overlays = tuple(f"options/{overlay}" for overlay in path.overlays)
            found[name] = Variant(overlays=overlays, options={**own, **options})
    return found


def cells(timing: Timing, first: Timing, images: int) -> Row:
    return {
        "ms an image": 1000 * timing.median / images, "±": 1000 * timing.spread / images,
        "speed-up": first.median / timing.median, "peak MB": round(timing.peak),
    }  # fmt: skip


def inference(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """A forward pass of inference.json and of its overlays."""
    names = list(PATHS)
    groups = [(names, [(1, 352), (8, 352)])]
    if full:  # the larger the case, the fewer processes have room beside each other
        groups = [(names, [(1, 256), (1, 352), (1, 512), (8, 256), (8, 352)])]
        groups += [(half, [(1, 1024), (8, 512)]) for half in (names[:4], names[4:])]
        groups += [(["default", "bfloat16"], [(8, 1024)])]
    for backbone in BACKBONES:
        target = exported(backbone, folder) if full else folder / "no exports"
        for some, shapes in groups:
            with start(variants_of(backbone, target, some)) as workers:
                for batch, size in shapes:
                    timings, own = workers.take_turns(batch, size, 15), []
                    least = {kind: floor(ours(backbone), size, here, kind) for kind in ("float32", "bfloat16")}
                    for name, timing in timings.items():
                        kind = PATHS[name].dtype if name in PATHS else "float32"
                        row = {"network": backbone, "batch": batch, "size": size, "path": name}
                        row |= cells(timing, timings["released"], batch)
                        own.append({**row, "x floor": timing.median / batch / least[kind]})
                    show(f"{backbone}, batch {batch}, {size} x {size}", own)
                    yield own


def training(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """A step of train.json: forward, loss, backward, optimiser."""
    cases = [(16, 352)] if CUDA else [(4, 256), (4, 352), (16, 256)] if full else [(4, 256)]
    fast = "options/gpu_fast.yaml" if CUDA else "options/bf16_cpu.yaml"
    rows: list[Row] = []
    for backbone in BACKBONES if full else BACKBONES[1:]:
        own: Row = {"backbone": backbone}
        variants = {
            "released": Variant("training", options=own, released=True),
            "default": Variant("training", options=own),
        }
        if BFLOAT16:
            variants[fast] = Variant("training", (fast,), own)
        if full:
            again = {**own, "network_def#grad_checkpointing": True}
            variants["grad_checkpointing"] = Variant("training", options=again)
        with start(variants) as workers:
            for batch, size in cases:
                timings = workers.take_turns(batch, size, 20)
                for name, timing in timings.items():
                    row = {"network": backbone, "batch": batch, "size": size, "path": name}
                    rows.append(row | cells(timing, timings["released"], batch))
    show("A training step", rows)
    yield rows


@dataclass(frozen=True)
class Case:
    """What other networks are timed at; see :py:class:`Variant` for ``work`` and ``released``."""

    work: str
    released: bool
    batch: int
    size: int


def peers(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """Other networks: with PyTorch's defaults, prepared like ours, and in a training step prepared like ours."""
    size = 352 if full else 256
    columns = {"unprepared": Case("inference", True, 1, size), "prepared": Case("inference", False, 1, size)}
    if full:
        columns["training step"] = Case("training", False, 4, 256)
    first, *others = NETWORKS
    for begin in range(0, len(others), 5):  # a handful of processes at a time, ours in each
        names = [first, *others[begin : begin + 5]]
        found: dict[str, Row] = {name: {} for name in names}
        for title, case in columns.items():
            variants = {
                name: Variant(case.work, (), {"network_def": trained(name, case.work)}, case.released) for name in names
            }
            with start(variants) as workers:
                timings = workers.take_turns(case.batch, case.size, 20)
            for name, timing in timings.items():
                found[name][f"{title}, ms an image"] = 1000 * timing.median / case.batch
                found[name][f"{title}, to ours"] = timing.median / timings[first].median
                found[name][f"{title}, peak MB"] = round(timing.peak)
        rows = []
        for name in names[bool(begin) :]:
            parameters, macs, _ = count(NETWORKS[name], size)
            rows.append({"network": name, "M parameters": parameters / 1e6, "GMACs": macs / 1e9, **found[name]})
        show(f"Other networks: one image of {size} x {size}; a step of 4 images of 256 x 256", rows)
        yield rows


def sizes(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """One image from small to large."""
    rows: list[Row] = []
    for backbone in BACKBONES if full else BACKBONES[1:]:
        with start({"default": Variant(options={"backbone": backbone, "load_pretrain": False})}) as workers:
            for size in (256, 512, 1024, 2048) if full else (256, 512):
                timing = workers.take_turns(1, size, 15)["default"]
                row = {"network": backbone, "size": size, "ms an image": 1000 * timing.median}
                row |= {"±": 1000 * timing.spread, "ms a megapixel": 1000 * timing.median / size**2 * 2**20}
                rows.append({**row, "peak MB": round(timing.peak)})
    show("Size of the image", rows)
    yield rows


def counts(full: bool, folder: Path, here: Row) -> Iterator[list[Row]]:
    """Parameters and multiply-accumulates of our variants, nothing timed."""
    rows = []
    for name, arguments in OF_OURS.items():
        parameters, macs, _ = count({"_target_": "unetv2_monai.UNetV2", **arguments}, 256)
        rows.append({"variant": name, "parameters (M)": f"{parameters / 1e6:.3f}", "GMACs": f"{macs / 1e9:.3f}"})
    show("Variants at 256 x 256", rows)
    yield rows
