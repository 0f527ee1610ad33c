# SPDX-License-Identifier: Apache-2.0
"""
This table gives the type, range and meaning of the configs' options. ``check_options`` refuses other values, and
``scripts/document_options.py`` writes docs/reference/options.md from the table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name in messages, such as "a positive integer", and a test whether a value is of it."""

    name: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Option:
    """The kind of an option's value, and the option's meaning, in Markdown for the reference."""

    kind: Kind
    meaning: str
    default: str = ""  # in words, if the config computes it
    files: tuple[str, ...] = ()  # the overlays that define it; empty if the main configs do


def is_integer(value: Any, least: float = -math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_list(value: Any, kind: Kind) -> bool:
    return isinstance(value, list | tuple) and all(map(kind.accepts, value))


def or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.name}, or null", lambda value: value is None or kind.accepts(value))


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", lambda value: isinstance(value, str))
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
SECTION = Kind("training, validation, test or all", lambda value: value in ("training", "validation", "test", "all"))
SCALES = Kind("a list of numbers above 0", lambda value: is_list(value, ABOVE_ZERO) and bool(value))
SPACING = Kind("a list of three numbers above 0", lambda value: is_list(value, ABOVE_ZERO) and len(value) == 3)
AXIS = Kind("an axis from 0 to 2", lambda value: is_integer(value, 0) and value < 3)
AXES = Kind("a list of different axes from 0 to 2", lambda value: is_list(value, AXIS) and len({*value}) == len(value))

DATA = Option(PATH, "the data set, see [your own data](../how-to/data.md)")
WORKERS = Option(NATURAL, "number of processes that load and augment images", "4 with a GPU, else 0")
ON = Option(DEVICE, "`cpu`, `cuda` or `cuda:1`", "a GPU if there is one")
CHANNELS = Option(POSITIVE, "channels of an image. Images are converted to RGB, hence 3; only volumes may have others")

VOLUMES, LESION_FREE, CALIBRATE = ("recipes/volumes",), ("options/lesion_free",), ("options/calibrate",)
SEG = ("options/inference_seg",)
CERTAINTY = Option(
    SHARE,
    "a region is kept only if its probability reaches this value somewhere; 0.5 keeps all. For one structure only",
)

# config -> name of an option -> option, in the order of the config
OPTIONS: dict[str, dict[str, Option]] = {
    "train": {
        "bundle_root": Option(
            PATH,
            "the bundle's folder. If it is set, as by MONAI Label, training writes its weights to "
            "`<bundle_root>/models/` and replaces existing ones",
        ),
        "dataset_dir": DATA,
        "output_dir": Option(PATH, "folder for everything that a run writes", "`<bundle_root>/output`"),
        "ckpt_dir": Option(
            PATH, "folder for `model.pt` (best validation Dice) and `last.pt` (to resume)", "`<output_dir>/models`"
        ),
        "log_dir": Option(PATH, "folder for the curves and images of TensorBoard", "`<output_dir>/tensorboard`"),
        "backbone": Option(BACKBONE, "any timm model with a feature pyramid; `pvt_v2_b2` is the paper's"),
        "pretrained": Option(
            WEIGHTS,
            "initial weights of the encoder. `auto`: the ImageNet weights in `bundle/models/<backbone>.safetensors`, "
            "else random ones; the log says which. `true`: the library's weights, which are downloaded. "
            "`false`: random weights. A path: the weights in that file",
        ),
        "in_channels": CHANNELS,
        "out_channels": Option(POSITIVE, "1 for one structure; for several the number of classes, background included"),
        "image_size": Option(SIZE, "images are resized to this size; `[height, width]` if it is not square"),
        "certainty": CERTAINTY,
        "max_epochs": Option(POSITIVE, "epochs to train"),
        "batch_size": Option(POSITIVE, "images of one step, in each process"),
        "learning_rate": Option(RATE, "initial learning rate of AdamW; it falls to 0 by a polynomial of power 0.9"),
        "encoder_lr_factor": Option(
            RATE,
            "the encoder's learning rate is `learning_rate` times this; 0.1 is usual for a pretrained encoder. "
            "Without an `encoder`, it is for the whole network. Recipes with an optimiser of their own do not have it",
        ),
        "val_interval": Option(POSITIVE, "epochs between validations; without a validation, no `model.pt` is written"),
        "val_fraction": Option(PART, "share of the training pairs to hold out if there is no validation split"),
        "max_train_images": Option(or_null(POSITIVE), "train on so many images, chosen at random by `seed`"),
        "check_data": Option(FLAG, "decode every file before training and report all problems together"),
        "cache_rate": Option(SHARE, "share of the loaded and resized images that is kept in memory"),
        "num_workers": WORKERS,
        "compile": Option(FLAG, "train through `torch.compile`, which takes minutes to start"),
        "seed": Option(NATURAL, "random seed of weights, augmentation, order and splits"),
        "deterministic": Option(
            FLAG,
            "`false` lets cuDNN choose its fastest kernels and keeps loader processes from epoch to epoch. This is "
            "faster, but a run is no longer repeated exactly",
        ),
        "overwrite": Option(FLAG, "replace an existing run in `output_dir`; `false`: training refuses to start there"),
        "resume": Option(FLAG, "continue the run in `output_dir`"),
        "device": ON,
    },
    "evaluate": {
        "eval_section": Option(
            SECTION, "which pairs to score: in a plain folder, all are `test`; `all` is training and validation"
        ),
        "eval_dir": Option(
            PATH,
            "folder for `scores.csv` with a row per image, `summary.json` with means, medians and intervals per data "
            "set, and `config.json`, the config of the run",
            "`<output_dir>/evaluation`",
        ),
        "surface_tolerance": Option(RATE, "tolerance of the surface Dice of volumes, in mm"),
        "checkpoint": Option(PATH, "the weights", "`<ckpt_dir>/model.pt`"),
    },
    "inference": {
        "bundle_root": Option(PATH, "the bundle's folder"),
        "dataset_dir": Option(PATH, "a folder of images (or its `images/`), or one image"),
        "output_dir": Option(
            PATH, "one PNG per image, same name and size: 0 and 255, or class indices", "`<bundle_root>/output/masks`"
        ),
        "checkpoint": Option(PATH, "the weights", "`<bundle_dir>/models/model.pt`"),
        "backbone": Option(BACKBONE, "as trained"),
        "in_channels": CHANNELS,
        "out_channels": Option(POSITIVE, "as trained"),
        "image_size": Option(SIZE, "as trained"),
        "certainty": CERTAINTY,
        "check_data": Option(FLAG, "decode every image first, and skip broken ones"),
        "skip_finished": Option(FLAG, "skip images that have a complete mask of their size in `output_dir`"),
        "class_names": Option(
            or_null(Kind("a list of names", lambda value: is_list(value, TEXT))),
            "names of several classes, background first, for `classes.csv` beside the masks; weights carry them",
        ),
        "save_probabilities": Option(
            FLAG, "also write `probabilities/NAME.png`, 65535 for 1, 16 bits (one structure only), or for volumes NIfTI"
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
        "lesion_free_crops": Option(SHARE, "share of the training images cropped beside the lesion", files=LESION_FREE),
        "lesion_free_covers": Option(SHARE, "share of the training images whose lesion is covered", files=LESION_FREE),
        "images_dir": Option(TEXT, "the folder of the images in `dataset_dir`", files=("options/folders",)),
        "masks_dir": Option(
            TEXT, "the folder of the masks in `dataset_dir`; empty: that of the images", files=("options/folders",)
        ),
        "mask_suffix": Option(TEXT, "what a mask's name has after that of its image", files=("options/folders",)),
        "mask_colors": Option(
            Kind("a table of classes by colour", lambda value: isinstance(value, dict) and bool(value)),
            'the class of each colour of the masks: `{"black": 0, "#ff0000": 1, "0,128,0": 2}`',
            files=("options/mask_colors",),
        ),
        "cache_dir": Option(
            PATH, "folder of the decoded images", "`<bundle_root>/output/cache`", ("options/disk_cache",)
        ),
        "ignore_label": Option(
            Kind("an integer from 1 to 255", lambda value: is_integer(value, 1) and value < 256),
            "value of the pixels whose class is unknown, in masks of several classes or in `mask_colors`",
            files=("options/ignore",),
        ),
        "folds": Option(POSITIVE, "number of folds", files=("options/folds",)),
        "fold": Option(NATURAL, "the fold that is held out for validation, from 0", files=("options/folds",)),
        "soft_dir": Option(
            or_null(PATH), "folder of the probabilities of the training images", files=("options/distil",)
        ),
        "more_images": Option(
            or_null(PATH), "folder of further images to train on, without masks", files=("options/distil",)
        ),
        "growth": Option(
            SCALES, "factors of `image_size`, each for an equal part of the epochs", files=("recipes/recommended",)
        ),
        "scales": Option(SCALES, "factors of `image_size`", files=("options/multi_scale", "recipes/released_polyp")),
        "bce_weighting": Option(
            FLAG,
            "give pixels near outlines more weight in the cross-entropy, as the papers intend",
            files=("options/loss_structure", "recipes/released_polyp"),
        ),
        "spacing": Option(
            or_null(SPACING),
            "voxel spacing of resampled volumes in mm: left to right, back to front, below to above; null keeps each "
            "volume's own",
            files=VOLUMES,
        ),
        "intensity": Option(
            Kind("mr or ct", lambda value: value in ("mr", "ct")),
            "`mr` scales each volume to mean 0 and standard deviation 1 (z-score); `ct` the window below to -1 to 1",
            files=VOLUMES,
        ),
        "window_level": Option(NUMBER, "middle of the CT window, in Hounsfield units", files=VOLUMES),
        "window_width": Option(ABOVE_ZERO, "width of the CT window, in Hounsfield units", files=VOLUMES),
        "flip_axes": Option(
            or_null(AXES),
            "axes along which images are flipped, singly and in all combinations; null: all axes. 0 flips images up "
            "and down, and volumes left and right",
            "`[0]` for volumes, else null",
            files=("options/tta", "options/inference_tta"),
        ),
        "checkpoints": Option(
            Kind("a list of files", lambda value: is_list(value, TEXT)),
            "the weights of an ensemble",
            "`<bundle_root>/output/fold_*/models/model.pt`",
            ("options/ensemble",),
        ),
        "precision": Option(
            Kind("f32 or bf16", lambda value: value in ("f32", "bf16")),
            "number format of the computation",
            files=("options/inference_openvino",),
        ),
        "seg": Option(
            Kind("a list of names", lambda value: is_list(value, TEXT)),
            "of DICOM: for each class without background its name in `segments.yaml`, such as `[polyp]`",
            "those of the weights",
            files=SEG,
        ),
        "seg_codes": Option(or_null(PATH), "your own file of segments and their codes, in that form", files=SEG),
        "labelmap": Option(FLAG, "write one LABELMAP instead of BINARY segments; few programs read it", files=SEG),
        "false_alarms": Option(or_null(RATE), "lowest `certainty` of at most so many per 100 images", files=CALIBRATE),
        "missed": Option(or_null(RATE), "highest `certainty` missing at most so many % of lesions", files=CALIBRATE),
        "calibrated_checkpoint": Option(
            PATH, "the new weights", "`<output_dir>/models/<checkpoint>_calibrated.pt`", files=CALIBRATE
        ),
        "weight_decay": Option(RATE, "weight decay of the optimiser", files=("recipes/recommended",)),
        "warmup_epochs": Option(RATE, "epochs in which the learning rate rises", files=("recipes/recommended",)),
        "select_on_test": Option(
            FLAG, "choose the best epoch on test images, as in the released code", files=("recipes/released_polyp",)
        ),
        "gradient_clamp": Option(
            ABOVE_ZERO, "gradients are clamped to plus or minus this", files=("recipes/released_polyp",)
        ),
        "gradient_norm": Option(ABOVE_ZERO, "gradients are scaled down to this norm", files=("recipes/released_isic",)),
    },
}
