# SPDX-License-Identifier: Apache-2.0
"""
The documents of a package: the bundle's own model card with sections of an entry and sections made of what is packed,
and the terms of the data sets that it concerns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetv2_monai import InputError
from unetv2_monai.handlers.score_table import score_cells

from .options import plain_option

__all__ = ["DataSet", "made_sections", "read_data_sets", "sections", "write_card", "write_terms"]

# of the card's table of scores, by their titles in the table of an evaluation
SURFACE, MISSED, LESION_FREE = "surface Dice", "lesions missed", "lesion-free, left empty"
COLUMNS = ["Dice", "IoU", "pooled Dice", "HD95", MISSED]
WITHOUT_PYTORCH = """\
`models/model.onnx` holds the same weights, and in its metadata, as JSON under the key `unetv2_monai`, how images are
prepared, the classes and the threshold. The project's `scripts/segment.py` reads these. It takes images, videos and
cameras, and needs OpenVINO, NumPy, Pillow and, for videos, PyAV:

```bash
python scripts/segment.py models/model.onnx IMAGES VIDEO.mp4 --output_dir output/segmented
```

With ONNX Runtime (`pip install onnxruntime`) in this bundle:

```bash
python -m monai.bundle run inference --dataset_dir IMAGES \
    --config_file "['configs/inference.json','configs/options/inference_onnx.yaml']"
```"""


@dataclass(frozen=True)
class DataSet:
    """
    A data set, as ``docs/data_license.txt`` describes it in one paragraph.

    Args:
        name: first line of the paragraph.
        terms: of use.
        cite: the publication to cite.
        page: of the publishers.
        paragraph: all of the text.
    """

    name: str
    terms: str
    cite: str
    page: str
    paragraph: str


def read_data_sets(path: Path) -> tuple[str, dict[str, DataSet]]:
    """
    Args:
        path: ``data_license.txt``.

    Returns:
        The introduction, and the data sets by their names.
    """
    introduction, *paragraphs = path.read_text().strip().split("\n\n")
    found = {}
    for paragraph in paragraphs:
        name, _, rest = paragraph.partition("\n")
        fields = dict(re.findall(r"^ {4}(\w[\w ]*): (.*(?:\n {8}.*)*)", rest, re.MULTILINE))
        terms, cite, page = (re.sub(r"\s+", " ", fields[key]) for key in ("Terms", "Cite", "Page"))
        found[name] = DataSet(name, terms, cite, page, paragraph)
    return introduction, found


def write_terms(path: Path, names: Collection[str]) -> list[DataSet]:
    """
    Leave the introduction and some data sets in a ``data_license.txt``.

    Args:
        path: of the file.
        names: of the data sets.

    Returns:
        These data sets, in the order of the file.

    Raises:
        InputError: for a name that is not in the file.
    """
    introduction, found = read_data_sets(path)
    if unknown := [name for name in names if name not in found]:
        raise InputError(f"{path.name} has no data set {unknown[0]}, but {', '.join(found)}.")
    kept = [one for name, one in found.items() if name in names]
    path.write_text("\n\n".join([introduction, *(one.paragraph for one in kept)]) + "\n")
    return kept


def sections(text: str) -> dict[str, str]:
    """
    Args:
        text: Markdown that begins with a heading.

    Returns:
        Heading -> what follows, up to the next heading of any of the first three levels; in the order of the text.
    """
    found: dict[str, str] = {}
    heading, fenced = "", False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and re.match(r"#{1,3} ", line):
            heading = line
            found[heading] = ""
        else:
            found[heading] += line + "\n"
    return {heading: body.strip("\n") for heading, body in found.items()}


def write_card(path: Path, *overlays: Mapping[str, str]) -> None:
    """
    Replace sections of a model card.

    Args:
        path: of the card.
        overlays: heading -> new text; later ones win.

    Raises:
        InputError: for a heading that the card does not have.
    """
    card = sections(path.read_text())
    for overlay in overlays:
        if unknown := [heading for heading in overlay if heading not in card]:
            raise InputError(f"{path.name} has no section '{unknown[0]}' to replace.")
        card |= overlay
    path.write_text("\n\n".join(f"{heading}\n\n{body}" for heading, body in card.items()) + "\n")


def made_sections(
    configs: Path, data: Sequence[DataSet], scores: Mapping[str, Any] | None, parameters: int
) -> dict[str, str]:
    """
    The sections of a card that say what a package holds.

    Args:
        configs: folder of the packed configs.
        data: data sets that the weights were trained on; empty when nothing is known of them.
        scores: summaries of the evaluation of the weights, by names of the test sets, or None.
        parameters: of the network.

    Returns:
        Heading -> text.
    """
    metadata = json.loads((configs / "metadata.json").read_text())
    train = json.loads((configs / "train.json").read_text())
    image = metadata["network_data_format"]["inputs"]["image"]
    pred = metadata["network_data_format"]["outputs"]["pred"]
    inputs = ", ".join(image["channel_def"].values())
    classes = ", ".join(f"{value} {name}" for value, name in pred["channel_def"].items())
    made = {
        "## Intended use": metadata["intended_use"],
        "### Defaults": _defaults(train, configs.parent / "models", parameters),
        "### Input": f"{_channels(image)}, {image['dtype']}: {inputs}. {_size(image)}",
        "### Output": f"{_channels(pred)} of logits, {pred['dtype']}, of the input's size. Classes: {classes}. "
        f"Postprocessing writes files of the image's own size: {metadata['pred_classes']}.",
        "## References": "\n\n".join(f"[{number}] {text}" for number, text in enumerate(metadata["references"], 1)),
    }
    if (configs.parent / "models" / "model.onnx").is_file():
        made["### Inference without PyTorch"] = WITHOUT_PYTORCH
    if data:
        rows = [[one.name, one.terms, one.page] for one in data]
        made["### Terms of the data"] = (
            f"{_table(['data set', 'terms', 'page'], rows)}\n\nThe terms hold for the weights too, whatever the "
            "licence of the code, see `docs/data_license.txt`. What to cite is among the [references](#references)."
        )
    if scores:
        made["## Performance"] = _performance(scores)
    return made


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _defaults(train: Mapping[str, Any], models: Path, parameters: int) -> str:
    """A table of what train.json says as plain values; a recipe may have put expressions in their place."""
    encoders = [f"`models/{path.name}`" for path in sorted(models.glob("*.safetensors"))]
    rows = [
        ["network", f"`{train['network_def']['_target_']}`, {parameters / 1e6:.1f} million parameters"],
        ["ImageNet weights of the encoder", ", ".join(encoders) or "none in this package"],
        ["optimiser", f"`{train['optimizer']['_target_']}`"],
    ]
    for key in ("backbone", "image_size", "max_epochs", "batch_size", "learning_rate"):
        value = plain_option(train, key)
        if value is not None and not str(value).startswith(("$", "@")):
            rows.append([f"`{key}`", f"`{value}`"])
    return _table(["part or option", "value"], rows)


def _channels(tensor: Mapping[str, Any]) -> str:
    count = tensor["num_channels"]
    return f"{count} {'channel' if count == 1 else 'channels'}"


def _size(image: Mapping[str, Any]) -> str:
    size = " x ".join(map(str, image["spatial_shape"]))
    if image["is_patch_data"]:
        return f"Volumes of any size go through the network in windows of {size} voxels."
    return f"The configs resize images to {size}; the network takes any height and width."


def _performance(scores: Mapping[str, Any]) -> str:
    lesion_free = any(one["lesion_free"]["images"] for one in scores.values())
    volumes = any("surface_dice" in one for one in scores.values())
    columns = [*COLUMNS, *[SURFACE] * volumes, *[LESION_FREE] * lesion_free]
    titles = ["missed" if volumes and column == MISSED else column for column in columns]  # organs are no lesions
    rows = []
    for title, one in scores.items():
        cells = score_cells(one)
        rows.append([title, str(one["images"]), *(cells[column] for column in columns)])
    unit, chosen = ("mm", "with the most probable class") if volumes else ("pixels", "at probability 0.5")
    files, points, page = ("volumes", "voxels", "volumes.md") if volumes else ("images", "pixels", "README.md")
    surface = "Surface Dice is the share of both outlines that is at most 1 mm from the other. " if volumes else ""
    return (
        f"{_table(['test set', files, *titles], rows)}\n\n"
        f"Dice, IoU and HD95 (in {unit}) are means over {files}, each scored at its own size, {chosen}. Pooled Dice is "
        f"over all {points} together. {surface}Brackets hold 95 % intervals by bootstrap over the test {files}. The "
        "commands, commits and curves of the training and of the evaluation are in the project's "
        f"`docs/results/{page}`. Score the weights on data of your own before you use them."
    )
