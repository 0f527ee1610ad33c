# SPDX-License-Identifier: Apache-2.0
"""The bundle's configs, run as a user runs them."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from PIL import Image

from unetv2_monai import UNetV2

from ..conftest import ROOT, draw_pair
from ..support.workflow import (
    CONFIGS,
    DEFAULT_BACKBONE,
    EVALUATE,
    INFERENCE,
    TINY,
    TRAIN,
    read_scores,
    root_error,
    run,
    workflow,
)

BRIGHT = {"_target_": "tests.support.networks.Bright"}


@pytest.mark.parametrize("files", [TRAIN, [*TRAIN, str(CONFIGS / "recipes" / "released_polyp.yaml")]])
def test_items_of_a_batch_have_the_same_keys(files):
    """Though only some are of a data set with a name; with paths, which are named where a loss is not a number."""
    parser = ConfigParser()
    parser.read_config(files)
    parser["datalist"] = {
        "training": [{"image": "a.png", "label": "b.png", "dataset": "A"}, {"image": "c.png", "label": "d.png"}]
    }
    items = parser.get_parsed_content("train#dataset#data")
    assert {tuple(item) for item in items} == {("image", "label", "path")}
    assert all(item["path"] == item["image"] for item in items)


STEPS = ("load_image", "channel_first", "upright", "resize", "normalize")


def test_one_preprocessing_in_train_evaluate_and_inference():
    train, inference = (ConfigParser.load_config_file(files[0]) for files in (TRAIN, INFERENCE))
    evaluate = ConfigParser.load_config_files(EVALUATE)
    order = [f"@transforms#{step}" for step in STEPS]
    assert inference["preprocessing"]["transforms"] == order
    validation = train["validate"]["preprocessing"]["transforms"]
    assert [step for step in validation if "label" not in step] == order
    assert evaluate["validate"]["preprocessing"] == train["validate"]["preprocessing"]
    assert train["transforms"]["cached"].startswith("$list(@validate#preprocessing.transforms) + ")
    assert train["train"]["preprocessing"]["transforms"].startswith("$@transforms#cached + ")
    for step in STEPS:
        own = {**train["transforms"][step], "keys": "image"}  # training has the label beside it
        assert own == inference["transforms"][step] == {**evaluate["transforms"][step], "keys": "image"}
    for knob in ("backbone", "in_channels", "out_channels", "image_size"):
        assert train[knob] == inference[knob]


def test_images_reach_the_network_upright(pairs):
    flow = workflow(TRAIN, "training", dataset_dir=str(pairs), image_size=[24, 40], batch_size=1, check_data=False)
    transforms = flow.parser.get_parsed_content("validate#preprocessing").transforms
    item = {"image": str(pairs / "images" / "case_5.jpg"), "label": str(pairs / "masks" / "case_5.png")}
    for transform in transforms:
        item = transform(item)
    with Image.open(pairs / "images" / "case_5.jpg") as image, Image.open(pairs / "masks" / "case_5.png") as mask:
        np.testing.assert_array_equal(item["label"][0].numpy(), np.asarray(mask) / 255)
        small = np.asarray(image.resize((40, 24), Image.Resampling.BILINEAR))[..., 0]
    assert item["image"].shape == (3, 24, 40)
    shown = item["image"][0].numpy() * 58.395 + 123.675
    assert np.corrcoef(shown.ravel(), small.ravel())[0, 1] > 0.95
    assert np.corrcoef(shown[:, ::-1].ravel(), small.ravel())[0, 1] < 0.9


def test_training_leaves_weights_checkpoints_and_curves(trained):
    _, out = trained
    state = torch.load(out / "models" / "model.pt", weights_only=True)
    UNetV2(backbone=DEFAULT_BACKBONE, channels=8).load_state_dict(state, strict=True)
    assert sorted(p.name for p in (out / "models").iterdir()) == ["last.pt", "model.pt"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags: set[str] = set()
    for path in (out / "tensorboard").iterdir():
        tags |= set(EventAccumulator(str(path)).Reload().Tags()["scalars"])
    assert tags >= {"learning_rate", "loss", "train_mean_loss", "val_mean_dice", "val_mean_iou", "val_mae"}


def test_tensorboard_images_are_upright_and_at_native_size(trained, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = [*TRAIN, str(CONFIGS / "options" / "tensorboard_images.yaml")]
    run(files, "training", dataset_dir=str(trained[0]), output_dir=str(tmp_path), max_epochs=1, **TINY)
    pictures = {}
    for path in (tmp_path / "tensorboard").iterdir():
        events = EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["images"]:
            picture = events.Images(tag)[-1]
            pictures[tag] = (picture.width, picture.height)
    assert pictures["input_0_CHW"] == (32, 32)
    assert pictures["input_1_HW_0"] == pictures["output_HW_0"]
    assert pictures["output_HW_0"] in [(60 + 4 * index, 48) for index in range(6)]


def test_same_seed_same_weights(trained, tmp_path):
    data, out = trained
    run(TRAIN, "training", dataset_dir=str(data), output_dir=str(tmp_path), max_epochs=2, **TINY)
    for key in ("model",):
        first, second = (
            torch.load(folder / "models" / "last.pt", weights_only=True)[key] for folder in (out, tmp_path)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_default_output_is_never_the_shipped_weights(tmp_path):
    for files in (TRAIN, EVALUATE):
        parser = ConfigParser.load_config_files(files)
        parser = ConfigParser(parser)
        assert parser.get_parsed_content("ckpt_dir") == "./output/models"
        parser["bundle_root"] = "somewhere"  # as MONAI Label and monai.fl do, which name the bundle to be trained
        parser.parse(True)
        assert parser.get_parsed_content("ckpt_dir") == "somewhere/models"


def test_evaluation_scores_every_image_at_its_own_size(tmp_path):
    """Against Dice, IoU and mean absolute error computed here from the files."""
    expected = {}
    for index, (width, height) in enumerate(((60, 44), (48, 80), (64, 64))):
        bright, mask = np.zeros((2, height, width), bool)
        bright[8:30, 4:36] = True
        mask[12 : 34 + index, 4:40] = True
        for kind, values in (("images", bright), ("masks", mask)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray((values * 255).astype(np.uint8)).save(tmp_path / "data" / kind / f"{index}.png")
        both, either = (bright & mask).sum(), (bright | mask).sum()
        wrong = (bright != mask).mean()
        expected[f"{index}.png"] = (2 * both / (both + either), both / either, wrong)
    torch.save({"gain": torch.tensor(20.0)}, tmp_path / "model.pt")
    flow = run(
        EVALUATE, "evaluating", dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path), network_def=BRIGHT,
        checkpoint=str(tmp_path / "model.pt"), image_size=256, num_workers=0,
    )  # fmt: skip
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())["data"]
    for position, name in enumerate(("dice", "iou", "mae")):
        scores = read_scores(tmp_path / "evaluation", name)
        assert scores == pytest.approx({key: values[position] for key, values in expected.items()}, abs=0.02)
        mean = np.mean(list(scores.values()))
        assert summary[name]["mean"] == pytest.approx(mean)
        logged = flow.parser.get_parsed_content("validate#evaluator").state.metrics
        assert logged["val_mae" if name == "mae" else f"val_mean_{name}"] == pytest.approx(mean, abs=1e-5)


@pytest.fixture(scope="module")
def opened_files():
    """Every file that Python opens while the list is not None; audit hooks cannot be removed."""
    seen: dict[str, list[str] | None] = {"paths": None}

    def hook(event, arguments):
        if event == "open" and seen["paths"] is not None:
            seen["paths"].append(str(arguments[0]))

    sys.addaudithook(hook)
    yield seen
    seen["paths"] = None


@pytest.mark.parametrize("layout", ["folders", "datalist.json", "names"])
def test_training_opens_no_test_file(layout, opened_files, tmp_path):
    """Selection cannot see test data: with data checks, caching and validation, none of its files is opened."""
    folders = {"training": "train", "test": "test"} if layout != "names" else {"training": ".", "test": "."}
    lists = {}
    for section, count in (("training", 5), ("test", 3)):
        names = [f"{section}_{index}" for index in range(count)]
        for index, name in enumerate(names):
            draw_pair(tmp_path / "data" / folders[section], name, 48, 40, seed=index)
        lists[section] = [
            {key: f"{folders[section]}/{kind}/{name}.png" for key, kind in (("image", "images"), ("label", "masks"))}
            for name in names
        ]
        if layout == "names":
            listing = tmp_path / "data" / ("train.txt" if section == "training" else "test.txt")
            listing.write_text("\n".join(names))
    if layout == "datalist.json":
        (tmp_path / "data" / "datalist.json").write_text(json.dumps(lists))
    opened_files["paths"] = []
    run(TRAIN, "training", dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path), max_epochs=1, **TINY)
    paths, opened_files["paths"] = opened_files["paths"], None
    pictures = {Path(path).stem for path in paths if path.endswith(".png")}
    assert pictures == {f"training_{index}" for index in range(5)}


def test_empty_masks_count_one_if_nothing_is_predicted_and_zero_otherwise(tmp_path):
    for name, value in (("nothing", 0), ("something", 255)):
        image = np.zeros((40, 56), np.uint8)
        image[10:20, 10:30] = value
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"{name}.png")
        Image.fromarray(np.zeros_like(image)).save(tmp_path / "data" / "masks" / f"{name}.png")
    torch.save({"gain": torch.tensor(20.0)}, tmp_path / "model.pt")
    run(
        EVALUATE, "evaluating", dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path), network_def=BRIGHT,
        checkpoint=str(tmp_path / "model.pt"), image_size=64, num_workers=0,
    )  # fmt: skip
    for metric in ("dice", "iou"):
        assert read_scores(tmp_path / "evaluation", metric) == {"nothing.png": 1.0, "something.png": 0.0}


def test_inference_masks_are_upright_and_of_native_size(tmp_path):
    """An asymmetric picture in every colour mode and format, one of them larger than the network's input."""
    bright = np.zeros((90, 132), np.uint8)
    bright[6:60, 8:20] = bright[48:60, 8:96] = 255  # an L
    (tmp_path / "images").mkdir()
    picture = Image.fromarray(bright)
    shapes = {}
    for name, image in {
        "grey.png": picture,
        "rgb.jpg": picture.convert("RGB"),
        "rgba.png": picture.convert("RGBA"),
        "palette.png": picture.convert("P"),
        "large.tif": picture.convert("RGB").resize((660, 450), Image.Resampling.NEAREST),
        "upper.JPEG": picture.convert("RGB"),
    }.items():
        image.save(tmp_path / "images" / name, **({"quality": 95} if "J" in name.upper() else {}))
        shapes[Path(name).stem] = image.size
    run(
        INFERENCE, "inference", dataset_dir=str(tmp_path / "images"), output_dir=str(tmp_path / "masks"),
        network_def=BRIGHT, handlers=[], image_size=128, num_workers=0, save_probabilities=True,
    )  # fmt: skip
    written = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert written == sorted([f"{stem}.png" for stem in shapes] + [f"{stem}_prob.png" for stem in shapes])
    for stem, size in shapes.items():
        with Image.open(tmp_path / "masks" / f"{stem}.png") as mask:
            assert (mask.size, mask.mode) == (size, "L")
            values = np.asarray(mask)
        assert set(np.unique(values)) == {0, 255}
        truth = np.asarray(picture.resize(size, Image.Resampling.NEAREST)) > 0
        assert ((values > 0) & truth).sum() / ((values > 0) | truth).sum() > 0.9
        with Image.open(tmp_path / "masks" / f"{stem}_prob.png") as probability:
            shares = np.asarray(probability) / 65535
        np.testing.assert_array_equal(shares >= 0.5, values > 0)


@pytest.mark.parametrize("folder", ["kvasir-seg", "cvc-clinicdb", "isic2017"])
def test_inference_on_data_sets_as_published(real_data, folder, tmp_path):
    images = real_data / "raw" / folder / "images"
    run(
        INFERENCE, "inference", dataset_dir=str(images), output_dir=str(tmp_path), handlers=[], image_size=64,
        num_workers=0,
    )  # fmt: skip
    for path in images.iterdir():
        with Image.open(path) as image, Image.open(tmp_path / f"{path.stem}.png") as mask:
            assert mask.size == image.size


def test_several_classes(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for index in range(4):
        label = np.zeros((40, 48), np.uint8)
        label[4:20, 4:20], label[24:36, 20:44] = 1, 2
        image = rng.integers(0, 40, (40, 48, 3)) + 90 * label[..., None]
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "data" / "images" / f"{index}.png")
        Image.fromarray(label).save(tmp_path / "data" / "masks" / f"{index}.png")
    options = {"dataset_dir": str(tmp_path / "data"), "out_channels": 3, **TINY}
    run(TRAIN, "training", output_dir=str(tmp_path / "out"), max_epochs=1, **options)
    run(EVALUATE, "evaluating", output_dir=str(tmp_path / "out"), **options)
    with (tmp_path / "out" / "evaluation" / "scores.csv").open(newline="") as opened:
        assert [row["class"] for row in csv.DictReader(opened)] == ["1", "2"] * 4
    run(
        INFERENCE, "inference", output_dir=str(tmp_path / "masks"), checkpoint=str(tmp_path / "out/models/model.pt"),
        **{k: v for k, v in options.items() if k not in ("batch_size", "learning_rate")},
    )  # fmt: skip
    for path in (tmp_path / "masks").iterdir():
        with Image.open(path) as mask:
            assert np.asarray(mask).max() <= 2


def test_killed_training_resumes_where_it_was(trained, tmp_path):
    data, _ = trained
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), "max_epochs": 12, **TINY}
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", TRAIN[0]]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (tmp_path / "models" / "last.pt").exists():
            time.sleep(0.02)
        time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    stopped = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    epoch = stopped["trainer"]["iteration"] // stopped["trainer"]["epoch_length"]
    assert 1 <= epoch < 12

    flow = workflow(TRAIN, "training", resume=True, **options)
    trainer = flow.parser.get_parsed_content("train#trainer")
    optimizer = flow.parser.get_parsed_content("optimizer")
    seen = []

    @trainer.on(Events.EPOCH_STARTED)
    def record(engine):
        step = next(iter(optimizer.state.values()))["step"].item()
        seen.append((engine.state.epoch, optimizer.param_groups[0]["lr"], step))

    flow.run()
    per_epoch = stopped["trainer"]["epoch_length"]
    rates = [0.001 * (1 - (e - 1) / 12) ** 0.9 for e in range(epoch + 1, 13)]
    assert [e for e, _, _ in seen] == list(range(epoch + 1, 13))
    assert [lr for _, lr, _ in seen] == pytest.approx(rates)
    assert [step for _, _, step in seen] == [per_epoch * (e - 1) for e in range(epoch + 1, 13)]


def test_resuming_keeps_the_best_weights(trained, tmp_path):
    """A first validation after resuming that is worse than the best one before must not overwrite model.pt."""
    data, _ = trained
    options = {"dataset_dir": str(data), "output_dir": str(tmp_path), **TINY}
    run(TRAIN, "training", max_epochs=2, **options)
    saved = torch.load(tmp_path / "models" / "last.pt", weights_only=True)
    ((score, _),) = saved["best"]["_saved"]
    path = tmp_path / "models" / "last.pt"
    saved["best"]["_saved"] = [(score + 1.0, "model.pt")]  # a Dice that cannot be reached
    torch.save(saved, path)
    before = (tmp_path / "models" / "model.pt").read_bytes()
    run(TRAIN, "training", max_epochs=3, resume=True, **options)
    assert (tmp_path / "models" / "model.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("files", "run_id", "overrides", "message"),
    [
        (TRAIN, "training", {"dataset_dir": "nowhere"}, "dataset_dir nowhere does not exist"),
        (TRAIN, "training", {"resume": True}, "nothing to resume"),
        (TRAIN, "training", {"backbone": "pvt_v2_b9"}, "did you mean"),
        (EVALUATE, "evaluating", {"checkpoint": "absent.pt"}, "no weights at absent.pt"),
        (INFERENCE, "inference", {"checkpoint": "absent.pt"}, "no weights at absent.pt"),
    ],
)
def test_bad_options_fail_before_anything_is_written(files, run_id, overrides, message, pairs, tmp_path):
    options = {"dataset_dir": str(pairs), "output_dir": str(tmp_path / "out"), **overrides}
    with pytest.raises(Exception) as info:  # noqa: PT011 - MONAI's own error types, looked through below
        run(files, run_id, **options)
    assert message in str(root_error(info))
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("files", "run_id"), [(EVALUATE, "evaluating"), (INFERENCE, "inference")])
def test_weights_of_another_network(files, run_id, pairs, tmp_path):
    """Those of training carry their options; these are bare tensors."""
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), tmp_path / "model.pt")
    options = {"dataset_dir": str(pairs), "checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path)}
    with pytest.raises(Exception) as info:  # noqa: PT011
        run(files, run_id, num_workers=0, **options)
    assert "holds weights of another network" in str(root_error(info))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--val_interval=1", "error: --dataset_dir {} holds no images and masks."),
        ("--backbone=pvt_v2_b00", "error: timm has no"),
    ],
)
def test_on_the_command_line_one_sentence_says_what_is_wrong(option, message, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", TRAIN[0]]
    done = subprocess.run(
        [*command, "--dataset_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"), option],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert message.format(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
