#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Plan a training from its data: measure the images and masks of the training split, and write a small config with the
reason of each choice, for --with. What the data give no reason to change stays as the recipe has it.

    python scripts/plan.py --dataset_dir data/polyp --hours 2
    unetv2 train data/polyp --with recommended ema output/plan.yaml

The command to train with is printed, and stands at the top of the file: it names the options that the data ask for.
With --hours, the number of epochs comes from a trial of some steps, which also measures the memory.
"""

import argparse
import json
import logging
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.bundle import CONFIGS, read_config, run_bundle
from common.command import new_parser, run
from common.facts import Facts, Lists, add_data_options, gather
from monai.utils import ensure_tuple

from unetv2_monai import InputError
from unetv2_monai.core.files import read_csv, write_atomic
from unetv2_monai.core.listing import is_volume

SMALL, LARGE = 5, 95  # percentiles of the lesions' diameters that stand for the smallest and the largest
SPECK = 0.01  # of the largest region of a mask: what is smaller is a slip of the hand
CELLS = 4  # of the network's finest features along a small lesion: two are the least for any shape (Nyquist)
MOST_PIXELS = 512  # along a side: four times the cost of the default
CONTEXT = 2  # a crop is as many times as wide as a large lesion
FRAMED, MOSTLY = 0.9, 1 / 3  # a picture within a wide border covers less of its frame, in at least this share of frames
TISSUE = 0.4  # a lesion covers less of an endoscope's picture
FREED = 0.15  # share of lesion-free images that options/lesion_free.yaml makes
RARE = 1 / 20  # of the most frequent class: below, a class is seen too seldom
ANISOTROPIC = 3  # the coarsest spacing over the finest from which on nnU-Net treats a data set so
VOXELS = 80**3  # of a patch of a volume
AIR, WATER = -900, 0  # Hounsfield units that only CT reaches from one to the other
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 2, 4, 300  # steps of an epoch of the trial; epochs of a plan
MARGIN = 0.9  # share of the time, and of the memory, that is planned


@dataclass
class Plan:
    """The choices: overlays, lines of the config, its values, and the pixels of an image that is not resized."""

    overlays: list[str] = field(default_factory=lambda: ["recommended", "ema"])
    lines: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    pixels: float = 0

    def use(self, overlay: str, why: str) -> None:
        """Add an overlay."""
        self.overlays.append(overlay)
        self.lines.append(f"# --with {overlay}: {why}")

    def set(self, key: str, value: Any, why: str) -> None:
        """Set an option."""
        self.values[key] = value
        self.lines += [f"# {why}", f'"{key}": {json.dumps(value)}']

    def keep(self, what: str, why: str) -> None:
        """Note what stays as it is."""
        self.lines.append(f"# {what} stays: {why}")

    def files(self) -> list[str]:
        """Return the configs of a training by this plan, without its own file."""
        paths = (next(CONFIGS.glob(f"*/{name}.yaml")) for name in self.overlays)
        return ["train.json", *(path.relative_to(CONFIGS).as_posix() for path in paths)]


def plan_of(facts: Sequence[Facts], given: argparse.Namespace) -> Plan:
    """Plan a training by the facts of its pairs, and by what is given to read them."""
    plan, volumes, out_channels = Plan(), is_volume(facts[0].image), given.out_channels
    for overlay, keys in (
        ("folders", ("images_dir", "masks_dir", "mask_suffix")),
        ("mask_colors", ("mask_colors",)),
        ("ignore", ("ignore_label",)),
    ):
        if getattr(given, keys[0]) is not None:
            plan.use(overlay, "the data set is read so.")
            for key in keys:
                plan.set(key, getattr(given, key), "as given")
    if volumes:
        plan_volumes(plan, facts)
    else:
        plan_images(plan, facts)
    plan_classes(plan, facts, out_channels)
    free = float(np.mean([fact.lesion == 0 for fact in facts]))
    if free == 0:
        plan.keep("the share of lesion-free images", "all have a lesion. If yours may have none, add lesion_free.")
    elif volumes or out_channels > 1:
        plan.keep("the share of lesion-free images", f"{free:.1%} have none, and lesion_free is for one structure.")
    elif "sliding" in plan.overlays:
        plan.keep("the share of lesion-free images", "half of the crops are beside the lesion anyway.")
    else:
        plan.use("lesion_free", f"{free:.1%} have no lesion, so false alarms count.")
        part = max(0.0, 1 - free / FREED)
        for key, value in (("lesion_free_crops", 0.1), ("lesion_free_covers", 0.05)):
            plan.set(key, round(value * part, 3), f"makes the share {max(free, FREED):.0%}, as in our own recipe")
    return plan


def plan_images(plan: Plan, facts: Sequence[Facts]) -> None:
    """Choose the view, and resized images or crops of large ones."""
    framed = float(np.mean([fact.seen < FRAMED for fact in facts]))
    inside = float(np.median([fact.lesion / fact.seen for fact in facts]))  # where the ground is dark, much of the box
    views = framed >= MOSTLY and max(fact.cut for fact in facts) == 0 and inside < TISSUE
    if views:
        plan.use("endoscopy", f"{framed:.0%} of the frames have a wide dark border, and no lesion lies on it.")
    else:
        plan.keep("the whole frame", f"{framed:.0%} have a wide dark border, or it is not an endoscope's.")
    stride = read_config(plan.files(), {"pretrained": False}).get_parsed_content("network_def").strides[0]
    sides, sizes = [], []  # of the regions: the diameter of a disc of their area in pixels, and per side of the image
    for fact in facts:
        whole = math.prod(fact.size) * (fact.seen if views else 1)
        for pixels in (size for size in fact.regions if size >= SPECK * max(fact.regions)):
            sides.append(2 * math.sqrt(pixels / math.pi))
            sizes.append(sides[-1] / math.sqrt(whole))
    default = read_config(plan.files())["image_size"][0]
    if not sizes:
        plan.keep(f"image_size {default}", "no mask marks anything.")
        return
    native = float(np.median([math.sqrt(math.prod(fact.size) * (fact.seen if views else 1)) for fact in facts]))
    small, large = (float(np.percentile(sizes, rank)) for rank in (SMALL, LARGE))
    needed = up(CELLS * stride / small)
    why = f"the smallest lesions ({SMALL}th percentile) are {small:.1%} of a side wide"
    crop = min(up(CONTEXT * float(np.percentile(sides, LARGE))), MOST_PIXELS)
    if needed <= default:
        plan.keep(f"image_size {default}", f"{why}: {small * default:.0f} pixels, {CELLS * stride} are enough.")
    elif needed <= MOST_PIXELS and needed <= native:
        plan.set("image_size", needed, f"{why}, and have {CELLS} cells of the finest features (stride {stride}) at it")
    elif native > 2 * max(crop, default) and large < 0.5:
        crop = max(crop, default)
        plan.use("sliding", f"{why}: resizing would take {needed} pixels. Crops keep the own scale.")
        plan.pixels = native**2
        plan.set("image_size", crop, f"the crops: {CONTEXT} times as wide as large lesions, at least the default")
    else:
        size = max(min(up(native), MOST_PIXELS), default)
        plan.set("image_size", size, f"{why}: {needed} pixels would be better; images have {native:.0f}, cost rises")


def plan_volumes(plan: Plan, facts: Sequence[Facts]) -> None:
    """Choose spacing, intensities, patch and rotations, by the rules of nnU-Net (Isensee 2021) where it has some."""
    plan.overlays.insert(1, "volumes")
    plan.set("in_channels", int(facts[0].traits["several numbers of channels"]), "channels of a volume")
    every = np.array([fact.spacing for fact in facts])
    spacing = np.median(every, axis=0)
    if spacing.max() >= ANISOTROPIC * spacing.min():
        axis = int(spacing.argmax())
        spacing[axis] = np.percentile(every[:, axis], 10)
        plan.set(
            "transforms#affine#rotate_range", [0.2 if one == axis else 0.0 for one in range(3)],
            f"voxels are {spacing.max() / spacing.min():.1f} times as long along axis {axis}: turned about it alone",
        )  # fmt: skip
    if np.ptp(every, axis=0).max() <= 0.05 * spacing.min():
        spacing = every[0]
        plan.keep("spacing null", "all volumes have the same.")
    else:
        why = "the median of the data in mm, and along anisotropic axes the 10th percentile (nnU-Net)"
        plan.set("spacing", [round(float(one), 3) for one in spacing], why)
    marked = np.concatenate([fact.marked for fact in facts if fact.marked is not None])
    low, high = (float(np.percentile(marked, rank)) for rank in (0.5, 99.5)) if len(marked) else (0.0, 0.0)
    if min(fact.lowest for fact in facts) <= AIR and high > WATER:
        plan.set("intensity", "ct", f"values go down to {min(fact.lowest for fact in facts):.0f}, as of CT")
        plan.set("window_level", round((low + high) / 2), "the percentiles 0.5 and 99.5 of what is marked (nnU-Net)")
        plan.set("window_width", max(round(high - low), 1), "of the same window")
    else:
        plan.keep("intensity mr", "values are no Hounsfield units.")
    grids = [np.array(fact.grid) * fact.spacing / spacing for fact in facts]
    plan.pixels = float(np.mean([math.prod(grid) for grid in grids]))
    patch = np.array([up(side, 8) for side in np.median(grids, axis=0)])
    while patch.prod() > VOXELS:
        patch[patch.argmax()] -= 8
    plan.set("image_size", patch.tolist(), f"the patch: the median volume in multiples of 8, up to {VOXELS} voxels")


def plan_classes(plan: Plan, facts: Sequence[Facts], out_channels: int) -> None:
    """Choose the number of classes, and weights of rare ones."""
    plan.set("out_channels", out_channels, "one structure" if out_channels == 1 else "classes, background included")
    counts = np.array([sum(fact.counts.get(one, 0) for fact in facts) for one in range(max(out_channels, 2))])
    if out_channels > 1 and (absent := np.flatnonzero(counts == 0)).size:
        raise InputError(f"class {absent[0]} is in no mask of the training split. Check --out_channels and the masks.")
    marked = counts[1:]
    shares = ", ".join(f"{count / counts.sum():.2%}" for count in marked)
    if len(marked) < 2 or marked.min() >= RARE * marked.max():
        plan.keep("the loss without weights", f"the classes cover {shares}, and Dice counts each class alike.")
        return
    weights = np.sqrt(np.median(marked) / counts).clip(0.5, 4)  # the root tempers the balance by medians
    text = f"$torch.tensor({[round(float(one), 2) for one in weights]}, device=@device)"
    why = f"the classes cover {shares}: roots of median over own frequency (Eigen 2015), from 0.5 to 4"
    plan.set("loss#loss#weight", text, why)


def up(size: float, step: int = 32) -> int:
    """Round up to a multiple of the encoder's largest stride."""
    return max(math.ceil(size / step), 1) * step


def plan_resources(plan: Plan, lists: Lists, hours: float | None) -> None:
    """Choose epochs, batch and cache, by a trial if there is a limit of time."""
    config = read_config(plan.files(), plan.values)
    batch, epochs, images, peak = config["batch_size"], config["max_epochs"], len(lists["training"]), 0.0
    memory = free_megabytes()
    if hours is None:
        plan.keep(f"max_epochs {epochs}, with batch_size {batch},", "there is no trial without --hours.")
    else:
        few = min(batch, 4, images // STEPS or 1)
        step, validation, peak = trial(plan, lists, few)
        fits, found = batch, f"a trial of {few} took {peak:.0f} of {memory:.0f} MB that are free"
        while fits > 2 and peak * fits / few > MARGIN * memory and not torch.cuda.is_available():
            fits //= 2
        if fits < batch:
            plan.set("batch_size", fits, found)
            plan.set("learning_rate", config["learning_rate"] * math.sqrt(fits / batch), "by the root of the batch")
        else:
            plan.keep(f"batch_size {batch}", f"{found}; that of a GPU is not measured.")
        epoch = images * step + len(lists["validation"]) * validation
        fitting = int(MARGIN * 3600 * hours / epoch)
        if fitting < LEAST_EPOCHS:
            need = LEAST_EPOCHS * epoch / 3600 / MARGIN
            raise InputError(f"--hours {hours:g}: {LEAST_EPOCHS} epochs, the least, take {need:.1f} hours here.")
        why = f"{epoch:.0f} s each ({1000 * step:.0f} ms for an image) in {MARGIN:.0%} of {hours:g} hours"
        plan.set("max_epochs", min(fitting, MOST_EPOCHS), f"{why}, at most {MOST_EPOCHS}")
    pixels = plan.pixels or math.prod(config["image_size"])
    cached = images * pixels * (config["in_channels"] + 1) * (4 if "volumes" in plan.overlays else 1) / 1e6
    if cached + peak > MARGIN * memory:
        plan.use("disk_cache", f"decoded images take {cached:.0f} MB, and {memory:.0f} are free.")
    else:
        plan.keep("the cache in memory", f"it takes {cached:.0f} of {memory:.0f} MB that are free.")


def free_megabytes() -> float:
    """Return the memory that programs may take, in MB: half of all where the system does not say."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024 / 1e6
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2e6


def trial(plan: Plan, lists: Lists, batch: int) -> tuple[float, float, float]:
    """Train for a few steps. Return seconds for an image of training and of validation, and the peak in MB."""
    few = {"training": lists["training"][: STEPS * batch], "validation": lists["validation"][: STEPS * batch]}
    paths = {
        name: [{key: [*map(os.path.abspath, ensure_tuple(item[key]))] for key in ("image", "label")} for item in some]
        for name, some in few.items()
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "datalist.json").write_text(json.dumps(paths))
        (folder / "own.yaml").write_text("\n".join(plan.lines) + "\n")
        options = {"dataset_dir": name, "output_dir": f"{name}/out", "batch_size": batch, "check_data": "false"}
        options |= {"datalist#folders": None, "warmup_epochs": 1}
        options |= {"max_epochs": 4, "val_interval": 4}  # the first one warms up, the last one validates
        peak = run_bundle("training", [*plan.files(), f"{name}/own.yaml"], options, folder / "log.txt")
        seconds = [float(row["seconds"]) for row in read_csv(folder / "out" / "metrics.csv")]
    train = min(seconds[1:3])
    return train / len(few["training"]), max(seconds[3] - train, 0) / len(few["validation"]), peak


def main(argv: Sequence[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_data_options(parser)
    parser.add_argument("--output", type=Path, default=Path("output/plan.yaml"), help="default: output/plan.yaml")
    parser.add_argument("--hours", type=float, help="time for the training (default: as many epochs as the recipe)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.hours is not None and arguments.hours <= 0:
        raise InputError(f"--hours must be above 0, got {arguments.hours}.")
    lists, facts, problems = gather(arguments, "Measuring", ("training", "validation"))
    if problems:
        raise InputError(f"{len(problems)} problems, the first: {problems[0].rstrip('.')}. unetv2 check lists all.")
    training = [fact for fact in facts if fact.split == "training"]
    plan = plan_of(training, arguments)
    plan_resources(plan, lists, arguments.hours)
    command = f"unetv2 train {arguments.dataset_dir} --with {' '.join(plan.overlays)} {arguments.output}"
    text = "\n".join(
        [f"# A plan from {len(training)} training pairs, by unetv2 plan. Train with", f"# {command}", *plan.lines]
    )
    write_atomic(arguments.output, text + "\n")
    print(f"{text}\n\nwritten to {arguments.output}; train with\n{command}")


if __name__ == "__main__":
    run(main)
