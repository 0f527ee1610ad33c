# SPDX-License-Identifier: Apache-2.0
"""Export the network for other runtimes, and measure how far their outputs differ from the network's."""

import importlib.util
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser, ckpt_export
from monai.metrics import DiceMetric
from monai.utils import ensure_tuple_rep

from unetv2_monai import InputError, __version__
from unetv2_monai.core.description import BIN_KEY, KEY, Description
from unetv2_monai.core.files import sha256_of

from .bundle import CONFIGS, read_config
from .quantisation import quantise

LEAST_DICE = 0.98  # between int8's masks and the network's
FREE = torch.export.Dim.DYNAMIC
DYNAMIC_SHAPES = ({0: FREE, 2: FREE, 3: FREE},)  # batch, height, width

Options = Mapping[str, Any]
Run = Callable[[torch.Tensor], torch.Tensor]


class Job(NamedTuple):
    """What to export: a network in eval mode, its options and description and, for int8, preprocessed images."""

    network: torch.nn.Module
    options: Options
    description: Description
    calibration: Sequence[torch.Tensor] = ()


class Format(NamedTuple):
    """An export format. ``export`` writes the network of a job to a path, and returns the ONNX opset or "-".

    ``options/inference_<overlay>.yaml`` runs its file. A ``calibrated`` format needs training images, and is compared
    by its masks instead of its logits.
    """

    runtime: str
    file: str
    overlay: str
    export: Callable[[Job, Path], str]
    packages: tuple[str, ...] = ()
    calibrated: bool = False

    def missing_packages(self) -> list[str]:
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


class Agreement(NamedTuple):
    """The largest difference of the logits, the largest logit, and the mean Dice of the masks."""

    difference: float
    largest: float
    dice: float


def export_torchscript(job: Job, target: Path) -> str:
    """Let MONAI script the network, and pack configs and metadata into the file, for MONAI Deploy."""
    with tempfile.TemporaryDirectory() as folder:
        config, weights = Path(folder) / "inference.json", Path(folder) / "model.pt"
        config.write_text(json.dumps({**ConfigParser.load_config_file(str(CONFIGS / "inference.json")), **job.options}))
        torch.save(job.network.state_dict(), weights)
        ckpt_export(
            net_id="network_def", filepath=str(target), ckpt_file=str(weights), config_file=str(config),
            meta_file=str(CONFIGS / "metadata.json"),
        )  # fmt: skip
    return "-"


def export_program(job: Job, target: Path) -> str:
    program = torch.export.export(job.network, (_example(job.network),), dynamic_shapes=DYNAMIC_SHAPES)
    torch.export.save(program, target)
    return "-"


def write_onnx(network: torch.nn.Module, description: Description, target: Path) -> str:
    """Write a network for images, in eval mode, with its description. Return the version of the opset."""
    import onnx

    torch.onnx.export(
        network, (_example(network),), target, dynamo=True, external_data=False, verbose=False,
        input_names=["image"], output_names=["pred"], dynamic_shapes=DYNAMIC_SHAPES,
    )  # fmt: skip
    model = onnx.load(target)
    for part in (*model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # paths of source files on this machine
    onnx.helper.set_model_props(model, {KEY: description.to_json()})
    onnx.save(model, target)
    return str(model.opset_import[0].version)


def export_openvino(job: Job, target: Path) -> str:
    """Convert by way of ONNX, to keep dynamic shapes and metadata; convert to int8 if there are training images."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        opset = write_onnx(job.network, job.description, Path(folder) / "model.onnx")
        made = openvino.convert_model(Path(folder) / "model.onnx")
        openvino.save_model(made, Path(folder) / "model.xml", compress_to_fp16=False)
        # read again: only in the file do weights have the names by which quantisation finds layers
        model = openvino.Core().read_model(Path(folder) / "model.xml")
        model = quantise(model, job.calibration) if job.calibration else model
        openvino.save_model(model, target, compress_to_fp16=False)
        model.set_rt_info(sha256_of(target.with_suffix(".bin")), ["framework", BIN_KEY])
        openvino.save_model(model, target, compress_to_fp16=False)  # the same .bin
    return opset


OPENVINO = ("onnx", "onnxscript", "openvino")
FORMATS = {
    "torchscript": Format("TorchScript", "model.ts", "torchscript", export_torchscript),
    "export": Format("torch.export", "model.pt2", "export", export_program),
    "onnx": Format(
        "ONNX Runtime", "model.onnx", "onnx", lambda job, target: write_onnx(job.network, job.description, target),
        ("onnx", "onnxscript", "onnxruntime"),
    ),
    "openvino": Format("OpenVINO", "model.xml", "openvino", export_openvino, OPENVINO),
    "openvino_int8": Format(
        "OpenVINO, int8", "model_int8.xml", "openvino", export_openvino, (*OPENVINO, "nncf"), calibrated=True
    ),
}  # fmt: skip


def _example(network: torch.nn.Module) -> torch.Tensor:
    """Return images whose shape no export can specialise on: no size is 1, equal to another or divisible by 32."""
    return torch.rand(2, next(network.parameters()).shape[1], 97, 75)


def inference_config(options: Options, *overlays: str, folder: Path = CONFIGS) -> ConfigParser:
    """Read inference.json, for the CPU, with overlays of ``configs/options``."""
    files = ["inference.json", *(f"options/{name}" for name in overlays)]
    return read_config(files, {**options, "device": torch.device("cpu")}, folder)


def describe(options: Options, checkpoint: Path | None = None, configs: Path = CONFIGS) -> Description:
    """Collect what inference.json and metadata.json say of a network, and the SHA-256 of its file of weights.

    Raises InputError when images are normalised otherwise than by constants, or cropped otherwise than by
    options/endoscopy.yaml: a description cannot state it.
    """
    parser = inference_config(options, folder=configs)
    if not {"subtrahend", "divisor"} <= parser["transforms#normalize"].keys():
        raise InputError("transforms#normalize of inference.json has no subtrahend and divisor, as an export needs.")
    cropping = ConfigParser.load_config_file(str(configs / "options" / "endoscopy.yaml"))["transforms#view"]
    step = parser["transforms#view"]
    if step["_target_"] != "Identityd" and step != cropping:
        advice = "An export can state only Identityd and the step of options/endoscopy.yaml."
        raise InputError(f"transforms#view of inference.json is {step}. {advice}")
    outputs = ConfigParser.load_config_file(str(configs / "metadata.json"))["network_data_format"]["outputs"]
    names, channels = outputs["pred"]["channel_def"], parser["out_channels"]
    stated = (names.get(str(index), f"class {index}") for index in range(max(channels, 2)))
    mean, std = (
        ensure_tuple_rep(parser.get_parsed_content(f"transforms#normalize#{key}"), parser["in_channels"])
        for key in ("subtrahend", "divisor")
    )
    height, width = parser["image_size"]
    return Description(
        version=__version__,
        weights_sha256=sha256_of(checkpoint) if checkpoint else "",
        backbone=str(parser["backbone"]),
        in_channels=parser["in_channels"],
        out_channels=channels,
        image_size=(height, width),
        mean=mean,
        std=std,
        classes=tuple(options.get("class_names", stated)),
        threshold=parser.get_parsed_content("transforms#threshold").low if channels == 1 else None,
        certainty=parser["certainty"],
        view="endoscope" if step == cropping else "",
    )


def images_of(items: Sequence[Mapping[str, Any]], parser: ConfigParser, most: int | None = None) -> list[torch.Tensor]:
    """Preprocess images, each into a batch of one: ``most`` of them, spread evenly over all, or all."""
    preprocessing = parser.get_parsed_content("preprocessing")
    count = min(len(items), most or len(items))
    chosen = [items[index * len(items) // count] for index in range(count)]
    return [preprocessing(item)["image"].as_tensor()[None] for item in chosen]


@torch.no_grad()
def compare(
    run: Run, network: torch.nn.Module, noise: Sequence[torch.Tensor], images: Sequence[torch.Tensor]
) -> Agreement:
    """Compare logits on all batches, masks on images or else on noise; raise InputError when shapes differ."""
    difference, largest, dice = 0.0, 0.0, DiceMetric(ignore_empty=False)
    for index, x in enumerate([*noise, *images]):
        expected, found = network(x), torch.as_tensor(run(x))
        if found.shape != expected.shape:
            raise InputError(f"input {tuple(x.shape)} gave {tuple(found.shape)} instead of {tuple(expected.shape)}.")
        difference = max(difference, (found - expected).abs().max().item())
        largest = max(largest, expected.abs().max().item())
        if index >= len(noise) or not images:
            dice(_to_mask(found), _to_mask(expected))
    return Agreement(difference, largest, float(torch.as_tensor(dice.aggregate())))


def _to_mask(logits: torch.Tensor) -> torch.Tensor:
    """Return masks of shape (Batch, classes without background, height, width)."""
    if logits.shape[1] == 1:
        return (logits >= 0).float()
    return torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1)[:, 1:].float()


def export(
    one: Format, job: Job, folder: Path, noise: Sequence[torch.Tensor], images: Sequence[torch.Tensor] = ()
) -> tuple[str, Agreement]:
    """Export a network to one of ``FORMATS``. Run the file with its overlay, and compare it with the network.

    An existing file is replaced after the comparison. Without images, int8 is compared on those of its calibration.
    Returns the ONNX opset or "-", and the agreement. Raises InputError when the logits differ by more than 1e-4 (times
    the largest logit, if that is above 1), or when the Dice of int8's masks is below ``LEAST_DICE``.
    """
    job = job if one.calibrated else job._replace(calibration=())
    target = folder / one.file
    with tempfile.TemporaryDirectory(prefix=".export_", dir=folder) as unchecked:
        made = Path(unchecked) / one.file
        opset = one.export(job, made)
        exported = inference_config({**job.options, "checkpoint": str(made)}, f"inference_{one.overlay}.yaml")
        inferer, runtime = (exported.get_parsed_content(f"evaluator#{key}") for key in ("inferer", "network"))
        runtime.eval()
        found = compare(lambda x: inferer(x, runtime), job.network, noise, images or job.calibration)
        refused = "it is not written, and the one of before stays." if target.exists() else "it is not written."
        if one.calibrated and not found.dice >= LEAST_DICE:
            raise InputError(
                f"the masks of {target} would have a Dice of {found.dice:.3f} with the network's, below {LEAST_DICE}: "
                f"{refused} Calibrate on more images, or such as the network was trained on."
            )
        if not one.calibrated and not found.difference < 1e-4 * max(1.0, found.largest):
            raise InputError(f"{target} would differ from the network by {found.difference:.1e}: {refused}")
        for path in sorted(Path(unchecked).iterdir()):  # OpenVINO's .bin before its .xml
            path.replace(folder / path.name)
    return opset, found
