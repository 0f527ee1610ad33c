# SPDX-License-Identifier: Apache-2.0
"""
The options of the configs in one table: type, range and meaning. ``check_options`` refuses other values, and
``scripts/document_options.py`` writes docs/reference/options.md from it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["DEVICE", "OPTIONS", "Kind", "Option"]


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name for messages, such as "a positive integer", and whether a value is of it."""

    name: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Option:
    """What a value may be, and what the reference says of it, in Markdown."""

    kind: Kind
    meaning: str
    default: str = ""  # where the config computes it
    files: tuple[str, ...] = ()  # the overlays that have it, if it is one of overlays


def is_integer(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_list(value: Any, kind: Kind) -> bool:
    return isinstance(value, list | tuple) and all(map(kind.accepts, value))


def or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.name}, or null", lambda value: value is None or kind.accepts(value))


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
PATH = Kind("a path", lambda value: isinstance(value, str) and bool(value))
POSITIVE = Kind("a positive integer", lambda value: is_integer(value, 1))
NATURAL = Kind("an integer of 0 or more", lambda value: is_integer(value, 0))
NUMBER = Kind("a number", lambda value: is_number(value) and math.isfinite(value))
RATE = Kind("a number of 0 or more", lambda value: is_number(value, 0) and math.isfinite(value))
ABOVE_ZERO = Kind("a number above 0", lambda value: is_number(value, 0) and 0 < value < math.inf)
SHARE = Kind("a number from 0 to 1", lambda value: is_number(value, 0, 1))
PART = Kind("a number above 0 and below 1", lambda value: is_number(value, 0, 1) and 0 < value < 1)
SIZE = Kind(
    "a positive integer, or a list of two or three",
    lambda value: POSITIVE.accepts(value) or (is_list(value, POSITIVE) and len(value) in (2, 3)),
)
WEIGHTS = Kind("auto, true, false, or a file", lambda value: isinstance(value, bool | str))
BACKBONE = Kind("the name of a backbone", lambda value: isinstance(value, str) and bool(value))
DEVICE = Kind("a device such as cpu, cuda or cuda:1", lambda value: isinstance(value, str | torch.device | int))
SECTION = Kind("training, validation or test", lambda value: value in ("training", "validation", "test"))
SCALES = Kind("a list of numbers above 0", lambda value: is_list(value, ABOVE_ZERO) and bool(value))
SPACING = Kind("a list of three numbers above 0", lambda value: is_list(value, ABOVE_ZERO) and len(value) == 3)
AXIS = Kind("an axis from 0 to 2", lambda value: is_integer(value, 0) and value < 3)
AXES = Kind("a list of different axes from 0 to 2", lambda value: is_list(value, AXIS) and len({*value}) == len(value))

DATA = Option(PATH, "the data set, see [your own data](../how-to/data.md)")
WORKERS = Option(NATURAL, "processes that load and augment images", "4 with a GPU, else 0")
ON = Option(DEVICE, "`cpu`, `cuda` or `cuda:1`", "a GPU if there is one")
CHANNELS = Option(POSITIVE, "channels of an image: 3, since all images are converted to RGB; others for volumes only")

VOLUMES, LESION_FREE = ("recipes/volumes",), ("options/lesion_free",)
CERTAINTY = Option(
    SHARE,
    "a marked region is kept only if its probability reaches this somewhere; 0.5 keeps all. For one structure only",
)

# config -> option, in the order of the config
OPTIONS: dict[str, dict[str, Option]] = {
    "train": {
        "bundle_root": Option(
            PATH,
            "the bundle's folder. Where it is set, as MONAI Label does, training writes its weights to "
            "`<bundle_root>/models/` and replaces those that are there",
        ),
        "dataset_dir": DATA,
        "output_dir": Option(PATH, "everything that a run writes", "`<bundle_root>/output`"),
        "ckpt_dir": Option(
            PATH, "`model.pt` (best validation Dice) and `last.pt` (to resume)", "`<output_dir>/models`"
        ),
        "log_dir": Option(PATH, "curves and images for TensorBoard", "`<output_dir>/tensorboard`"),
        "backbone": Option(BACKBONE, "any timm model with a feature pyramid; `pvt_v2_b2` is the paper's"),
        "pretrained": Option(
            WEIGHTS,
            "what the encoder starts from. `auto`: the ImageNet weights in `bundle/models/<backbone>.safetensors` if "
            "there are some, else random ones; the log says which. `true`: the library's, which are downloaded. "
            "`false`: random ones. Or a file of weights",
        ),
        "in_channels": CHANNELS,
        "out_channels": Option(POSITIVE, "1 for one structure; for several the number of classes, background included"),
        "image_size": Option(SIZE, "images are resized to it; `[height, width]` for other than square"),
        "certainty": CERTAINTY,
        "max_epochs": Option(POSITIVE, "epochs to train"),
        "batch_size": Option(POSITIVE, "images of one step, in each process"),
        "learning_rate": Option(RATE, "of AdamW, falling to 0 by a polynomial of power 0.9"),
        "encoder_lr_factor": Option(
            RATE,
            "the encoder learns at `learning_rate` times this; 0.1 is usual for a pretrained one. A network without an "
            "`encoder` learns at it as a whole; recipes with an optimiser of their own do not have this option",
        ),
        "val_interval": Option(POSITIVE, "epochs between validations; without one there is no `model.pt`"),
        "val_fraction": Option(PART, "share of the training pairs held out where there is no validation split"),
        "max_train_images": Option(or_null(POSITIVE), "train on a subset of so many images, drawn by `seed`"),
        "check_data": Option(FLAG, "decode every file before training and report all problems together"),
        "cache_rate": Option(SHARE, "share of the loaded and resized images kept in memory"),
        "num_workers": WORKERS,
        "compile": Option(FLAG, "train through `torch.compile`, which takes minutes to start"),
        "seed": Option(NATURAL, "of weights, augmentation, order and splits"),
        "deterministic": Option(
            FLAG,
            "`false` lets cuDNN choose its fastest kernels and keeps loader processes from epoch to epoch: faster, but "
            "a run is no longer repeated exactly",
        ),
        "overwrite": Option(FLAG, "replace a run that is in `output_dir`; without it training refuses"),
        "resume": Option(FLAG, "continue the run in `output_dir`"),
        "device": ON,
    },
    "evaluate": {
        "eval_section": Option(SECTION, "which pairs to score; a plain folder of pairs is all test"),
        "eval_dir": Option(
            PATH,
            "`scores.csv` with a row per image, `summary.json` with means, medians and intervals per data set, "
            "`config.json` as run",
            "`<output_dir>/evaluation`",
        ),
        "surface_tolerance": Option(RATE, "mm that outlines of volumes may be apart for the surface Dice"),
        "checkpoint": Option(PATH, "the weights", "`<ckpt_dir>/model.pt`"),
    },
    "inference": {
        "bundle_root": Option(PATH, "the bundle's folder"),
        "dataset_dir": Option(PATH, "a folder of images (or its `images/`), or one image"),
        "output_dir": Option(
            PATH, "one PNG per image, of its name and size: 0 and 255, or class indices", "`<bundle_root>/output/masks`"
        ),
        "checkpoint": Option(PATH, "the weights", "`<bundle_dir>/models/model.pt`"),
        "backbone": Option(BACKBONE, "as trained"),
        "in_channels": CHANNELS,
        "out_channels": Option(POSITIVE, "as trained"),
        "image_size": Option(SIZE, "as trained"),
        "certainty": CERTAINTY,
        "check_data": Option(FLAG, "decode every image first: broken ones are left out"),
        "skip_finished": Option(FLAG, "leave out images that have a complete mask of their size in `output_dir`"),
        "save_probabilities": Option(
            FLAG, "also write `NAME_prob.png`, 16 bits, 65535 for probability 1 (one structure only)"
        ),
        "num_workers": Option(NATURAL, "processes that load images", "4 with a GPU, else 0"),
        "device": ON,
    },
    "overlays": {
        "weights": Option(PATH, "the weights to start from", "those of the bundle", ("options/finetune",)),
        "patience": Option(
            POSITIVE, "validations without a better score before training stops", files=("options/early_stop",)
        ),
        "max_hours": Option(RATE, "hours before training stops", files=("options/time_limit",)),
        "swa_start": Option(
            POSITIVE, "the first epoch of the mean", "three quarters of `max_epochs`", files=("options/swa",)
        ),
        "lesion_free_crops": Option(SHARE, "share of the training images cropped beside the lesion", files=LESION_FREE),
        "lesion_free_covers": Option(SHARE, "share of the training images whose lesion is covered", files=LESION_FREE),
        "mask_colors": Option(
            Kind("a table of classes by colour", lambda value: isinstance(value, dict) and bool(value)),
            'the class of each colour of the masks: `{"black": 0, "#ff0000": 1, "0,128,0": 2}`',
            files=("options/mask_colors",),
        ),
        "scales": Option(SCALES, "factors of `image_size`", files=("options/multi_scale", "recipes/released_polyp")),
        "bce_weighting": Option(
            FLAG,
            "weight the cross-entropy near outlines, as the papers mean",
            files=("options/loss_structure", "recipes/released_polyp"),
        ),
        "spacing": Option(
            or_null(SPACING),
            "mm along left to right, back to front and below to above, to which volumes are resampled; null keeps each "
            "volume's own",
            files=VOLUMES,
        ),
        "intensity": Option(
            Kind("mr or ct", lambda value: value in ("mr", "ct")),
            "`mr`: each volume to mean 0 and standard deviation 1 (z-score); `ct`: the window below to -1 to 1",
            files=VOLUMES,
        ),
        "window_level": Option(NUMBER, "middle of the CT window, in Hounsfield units", files=VOLUMES),
        "window_width": Option(ABOVE_ZERO, "width of the CT window, in Hounsfield units", files=VOLUMES),
        "flip_axes": Option(
            or_null(AXES),
            "dimensions along which images are flipped, alone and in all combinations; null: all. 0 flips images up "
            "and down, volumes left and right",
            "`[0]` for volumes, else null",
            files=("options/tta", "options/inference_tta"),
        ),
        "precision": Option(
            Kind("f32 or bf16", lambda value: value in ("f32", "bf16")),
            "of the computation",
            files=("options/inference_openvino",),
        ),
        "weight_decay": Option(RATE, "of the optimiser", files=("recipes/recommended",)),
        "warmup_epochs": Option(RATE, "epochs in which the learning rate rises", files=("recipes/recommended",)),
        "select_on_test": Option(
            FLAG, "choose the best epoch on the test images, as released", files=("recipes/released_polyp",)
        ),
        "gradient_clamp": Option(
            ABOVE_ZERO, "each gradient is cut to plus or minus this", files=("recipes/released_polyp",)
        ),
        "gradient_norm": Option(ABOVE_ZERO, "longer gradients are shortened to this", files=("recipes/released_isic",)),
    },
}
