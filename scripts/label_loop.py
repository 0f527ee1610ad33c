#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Measure how much labelling with a running MONAI Label server improves the predictions. Known masks take the place of an
annotator. The script is also an example of a client in Python.

    python scripts/label_server.py --images DIR/images &      # prints its address
    python scripts/label_loop.py --url ADDRESS --dataset_dir DIR --test_dir TEST_DIR --figure loop.png

Each round takes the images that the server is least certain of, uploads their masks from DIR, trains, and scores the
images of TEST_DIR, whose masks the server never gets. The script prints a table of rounds; --figure draws test images.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from common.command import new_parser, run
from monailabel.client import MONAILabelClient
from PIL import Image

from unetv2_monai import InputError, load_datalist, to_mask, to_rgb
from unetv2_monai.core.overlay import MASK_COLOR, PREDICTION_COLOR, outlined, side_by_side, stacked
from unetv2_monai.metrics import mask_dice

PANEL_HEIGHT = 200  # pixels


def segment(client: MONAILabelClient, model: str, path: str) -> np.ndarray:
    """Send an image that the server does not have, and return the server's mask of it."""
    file, _ = client.infer(model, image_id="", params={}, file=path)
    with Image.open(file) as mask:
        found = np.asarray(mask) > 0
    Path(file).unlink()
    return found


def read_mask(path: str) -> np.ndarray:
    with Image.open(path) as mask:
        return np.asarray(to_mask(mask)) > 0


def label(client: MONAILabelClient, masks: dict[str, str], count: int, strategy: str, folder: str) -> int:
    """Upload the masks of the next ``count`` images that the server asks for. Returns how many it asked for."""
    file = f"{folder}/label.png"
    for done in range(count):
        image = client.next_sample(strategy, {}).get("id")
        if image is None:
            return done
        Image.fromarray(read_mask(masks[image]).astype(np.uint8)).save(file)
        client.save_label(image, file, "final")
    return count


def train(client: MONAILabelClient, model: str, epochs: int) -> None:
    client.train_start(model, {"max_epochs": epochs, "multi_gpu": False})
    while (status := client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(1)
    if status["status"] != "DONE":
        raise InputError("training failed on the server:\n" + "\n".join(status["details"]))


def draw(pairs: list[dict[str, str]], stages: dict[str, list[np.ndarray]], target: Path) -> None:
    """Write a figure with a row per image: the image, every stage's prediction, and the true mask."""
    rows = []
    for index, pair in enumerate(pairs):
        with Image.open(pair["image"]) as opened:
            image = np.asarray(to_rgb(opened))
        panels = {"image": image}
        panels |= {name: outlined(image, masks[index], PREDICTION_COLOR) for name, masks in stages.items()}
        panels["true mask"] = outlined(image, read_mask(pair["label"]), MASK_COLOR)
        rows.append(side_by_side(list(panels.values()), list(panels), PANEL_HEIGHT))
    target.parent.mkdir(parents=True, exist_ok=True)
    stacked(rows).save(target)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the address that label_server.py printed")
    parser.add_argument("--dataset_dir", required=True, help="the server's images, with their masks")
    parser.add_argument("--test_dir", required=True, help="images and masks that the server does not have")
    parser.add_argument("--rounds", type=int, nargs="+", default=[10, 20], help="images to label in each round")
    parser.add_argument("--epochs", type=int, default=25, help="epochs per round (default: 25)")
    parser.add_argument("--strategy", default="uncertainty", help="default: uncertainty")
    parser.add_argument("--figure", type=Path, help="write a PNG of three test images")
    arguments = parser.parse_args()

    masks = {Path(p["image"]).stem: p["label"] for p in load_datalist(arguments.dataset_dir, ["training"])["training"]}
    pairs = load_datalist(arguments.test_dir, ["test"])["test"]
    truth = [read_mask(pair["label"]) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        client = MONAILabelClient(arguments.url, tmpdir=folder)
        (model,) = client.info()["models"]
        stages: dict[str, list[np.ndarray]] = {}
        labelled = 0
        print(f"| labelled | Dice of {len(pairs)} test images |\n|---|---|")
        for count in [0, *arguments.rounds]:
            if count:
                labelled += label(client, masks, count, arguments.strategy, folder)
                train(client, model, arguments.epochs)
            stages[f"{labelled} labelled"] = found = [segment(client, model, pair["image"]) for pair in pairs]
            scores = [mask_dice(*both) for both in zip(found, truth)]
            print(f"| {labelled} | {np.mean(scores):.4f} |", flush=True)
    if arguments.figure:
        # a good, a median and a bad image, by the Dice of the last stage
        order = np.argsort(scores)
        chosen = [int(order[round(share * (len(order) - 1))]) for share in (0.9, 0.5, 0.1)]
        shown = {name: [masks[index] for index in chosen] for name, masks in stages.items()}
        draw([pairs[index] for index in chosen], shown, arguments.figure)
        print(f"test images at the 90th, 50th and 10th percentile of Dice: {arguments.figure}")


if __name__ == "__main__":
    run(main)
