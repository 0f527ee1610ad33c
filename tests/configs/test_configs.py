# SPDX-License-Identifier: Apache-2.0
"""The bundle's configs, run as a user runs them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unetv2_monai import UNetV2, list_images, load_datalist

from ..conftest import draw_pairs, read_table
from ..data.folders import write_image
from ..support.workflow import DEFAULT_BACKBONE, EVALUATE, INFERENCE, TINY, TRAIN, cases, overlays, parsed, refusal, run

BRIGHT = {"_target_": "tests.support.networks.Bright"}
STEPS = ("load_image", "channel_first", "upright", "view", "resize", "normalize")


@pytest.mark.parametrize("files", [TRAIN, [*TRAIN, *overlays("recipes/released_polyp")]])
def test_items_of_a_batch_have_the_same_keys(files):
    """Though only some are of a data set with a name; with paths, which are named where a loss is not a number."""
    pairs = [{"image": "a.png", "label": "b.png", "dataset": "A"}, {"image": "c.png", "label": "d.png"}]
    items = parsed(files, datalist={"training": pairs}).get_parsed_content("train#dataset#data")
    assert {tuple(item) for item in items} == {("image", "label", "path")}
    assert all(item["path"] == item["image"] for item in items)


def test_one_preprocessing_in_train_evaluate_and_inference():
    train, inference = (ConfigParser.load_config_file(files[0]) for files in (TRAIN, INFERENCE))
    evaluate = ConfigParser.load_config_files(EVALUATE)
    order = [f"@transforms#{step}" for step in STEPS]
    assert inference["preprocessing"]["transforms"] == order
    validation = train["validate"]["preprocessing"]["transforms"]
    assert [step for step in validation if "label" not in step] == order
    assert evaluate["validate"]["preprocessing"] == train["validate"]["preprocessing"]
    assert train["transforms"]["cached"].startswith("$list(@validate#preprocessing.transforms) + ")
    assert train["train"]["preprocessing"]["transforms"].startswith("$@train#cached + ")
    for step in STEPS:
        own = {**train["transforms"][step], "keys": "image"}  # training has the label beside it
        assert own == inference["transforms"][step] == {**evaluate["transforms"][step], "keys": "image"}
    for knob in ("backbone", "in_channels", "out_channels", "image_size"):
        assert train[knob] == inference[knob]


def test_training_leaves_weights_checkpoints_and_curves(trained):
    _, out = trained
    state = torch.load(out / "models" / "model.pt", weights_only=True)
    UNetV2(backbone=DEFAULT_BACKBONE, channels=8).load_state_dict(state, strict=True)
    assert sorted(p.name for p in (out / "models").iterdir()) == ["last.pt", "model.pt"]
    curves = [EventAccumulator(str(path)).Reload().Tags()["scalars"] for path in (out / "tensorboard").iterdir()]
    expected = {"learning_rate", "loss", "train_mean_loss", "val_mean_dice", "val_mean_iou", "val_mae"}
    assert set().union(*curves) >= expected


def test_tensorboard_images_are_upright_and_at_native_size(trained, tmp_path):
    files = [*TRAIN, *overlays("options/tensorboard_images")]
    run(files, "training", dataset_dir=trained[0], output_dir=tmp_path, max_epochs=1, **TINY)
    pictures = {}
    for path in (tmp_path / "tensorboard").iterdir():
        events = EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["images"]:
            picture = events.Images(tag)[-1]
            pictures[tag] = (picture.width, picture.height)
    assert pictures["input_0_CHW"] == (32, 32)
    assert pictures["input_1_HW_0"] == pictures["output_HW_0"]
    assert pictures["output_HW_0"] in [(60 + 4 * index, 48) for index in range(6)]


def test_default_output_is_never_the_shipped_weights(tmp_path):
    for files in (TRAIN, EVALUATE):
        parser = parsed(files)
        assert parser.get_parsed_content("ckpt_dir") == "./output/models"
        parser["bundle_root"] = "somewhere"  # as MONAI Label and monai.fl do, which name the bundle to be trained
        parser.parse(True)
        assert parser.get_parsed_content("ckpt_dir") == "somewhere/models"


def test_evaluation_scores_every_image_at_its_own_size(tmp_path):
    """Against Dice, IoU and mean absolute error computed here from the files. Without a lesion, Dice and IoU are 1 if
    nothing is predicted, else 0.
    """
    expected = {}
    for index, (width, height) in enumerate(((60, 44), (48, 80), (64, 64))):
        bright, mask = np.zeros((2, height, width), bool)
        bright[8:30, 4:36] = True
        mask[12 : 34 + index, 4:40] = True
        write_image(tmp_path / "images" / f"{index}.png", bright)
        write_image(tmp_path / "masks" / f"{index}.png", mask)
        both, either = (bright & mask).sum(), (bright | mask).sum()
        expected[f"{index}.png"] = (2 * both / (both + either), both / either, (bright != mask).mean())
    for name, value in (("nothing", 0), ("something", 255)):
        write_image(tmp_path / "images" / f"{name}.png", np.full((40, 56), value, np.uint8))
        write_image(tmp_path / "masks" / f"{name}.png", np.zeros((40, 56), bool))
        expected[f"{name}.png"] = (0.0, 0.0, 1.0) if value else (1.0, 1.0, 0.0)
    torch.save({"gain": torch.tensor(20.0)}, tmp_path / "model.pt")
    flow = run(
        EVALUATE, "evaluating", dataset_dir=tmp_path, output_dir=tmp_path, network_def=BRIGHT,
        checkpoint=tmp_path / "model.pt", image_size=256, num_workers=0,
    )  # fmt: skip
    logged = flow.parser.get_parsed_content("validate#evaluator").state.metrics
    (summary,) = json.loads((tmp_path / "evaluation" / "summary.json").read_text()).values()
    rows = read_table(tmp_path / "evaluation" / "scores.csv")
    for position, name in enumerate(("dice", "iou", "mae")):
        scores = {Path(row["image"]).name: float(row[name]) for row in rows}
        assert scores == pytest.approx({key: values[position] for key, values in expected.items()}, abs=0.02)
        mean = np.mean(list(scores.values()))
        assert summary[name]["mean"] == pytest.approx(mean)
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
    data, lists = tmp_path / "data", {}
    for split, count in (("train", 5), ("test", 3)):
        folder, names = "." if layout == "names" else split, [f"{split}_{index}" for index in range(count)]
        draw_pairs(data / folder, count, split)
        lists[split] = [{"image": f"{folder}/images/{n}.png", "label": f"{folder}/masks/{n}.png"} for n in names]
        if layout == "names":
            (data / f"{split}.txt").write_text("\n".join(names))
    if layout == "datalist.json":
        (data / layout).write_text(json.dumps({"training": lists["train"], "test": lists["test"]}))
    opened_files["paths"] = []
    run(TRAIN, "training", dataset_dir=data, output_dir=tmp_path, max_epochs=1, **TINY)
    paths, opened_files["paths"] = opened_files["paths"], None
    pictures = {Path(path).stem for path in paths if path.endswith(".png")}
    assert pictures == {f"train_{index}" for index in range(5)}


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
    options = {"dataset_dir": tmp_path / "images", "output_dir": tmp_path / "masks", "image_size": 128}
    run(INFERENCE, "inference", network_def=BRIGHT, handlers=[], num_workers=0, save_probabilities=True, **options)
    written = {path.relative_to(tmp_path / "masks").as_posix() for path in (tmp_path / "masks").rglob("*.png")}
    assert written == {f"{part}{stem}.png" for stem in shapes for part in ("", "probabilities/")}
    for stem, size in shapes.items():
        mask = Image.open(tmp_path / "masks" / f"{stem}.png")
        assert (mask.size, mask.mode) == (size, "L")
        values = np.asarray(mask)
        assert set(np.unique(values)) == {0, 255}
        truth = np.asarray(picture.resize(size, Image.Resampling.NEAREST)) > 0
        assert ((values > 0) & truth).sum() / ((values > 0) | truth).sum() > 0.9
        probabilities = np.asarray(Image.open(tmp_path / "masks" / "probabilities" / f"{stem}.png")) / 65535
        np.testing.assert_array_equal(probabilities >= 0.5, values > 0)


def test_several_classes(tmp_path):
    rng = np.random.default_rng(0)
    label = np.zeros((40, 48), np.uint8)
    label[4:20, 4:20], label[24:36, 20:44] = 1, 2
    for index in range(4):
        image = rng.integers(0, 40, (40, 48, 3)) + 90 * label[..., None]
        write_image(tmp_path / "data" / "images" / f"{index}.png", image.astype(np.uint8))
        write_image(tmp_path / "data" / "masks" / f"{index}.png", label)
    options = {"dataset_dir": tmp_path / "data", "out_channels": 3, **TINY}
    run(TRAIN, "training", output_dir=tmp_path, max_epochs=1, **options)
    run(EVALUATE, "evaluating", output_dir=tmp_path, **options)
    assert [row["class"] for row in read_table(tmp_path / "evaluation" / "scores.csv")] == ["1", "2"] * 4
    options = {key: value for key, value in options.items() if key not in ("batch_size", "learning_rate")}
    weights = tmp_path / "models" / "model.pt"
    run(INFERENCE, "inference", output_dir=tmp_path / "masks", checkpoint=weights, **options)
    assert all(np.asarray(Image.open(path)).max() <= 2 for path in (tmp_path / "masks").glob("*.png"))


@pytest.mark.parametrize(("names", "run_id", "overrides", "message"), cases("refusals", "configs"))
def test_bad_options_fail_before_anything_is_written(names, run_id, overrides, message, pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), "other.pt")
    options = {"dataset_dir": pairs, "output_dir": tmp_path / "out", **overrides}
    files = {"train": TRAIN, "evaluate": EVALUATE, "inference": INFERENCE}[names]
    assert message in refusal(run, files, run_id, **options)
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("size", [288, 704, 1056, 1920])
def test_training_masks_lie_where_their_images_do(size):
    """Dice of a resized mask with the true shape, a lesion of 20 pixels; "nearest" shifts it: .949 to .960."""

    def disc(size: int) -> np.ndarray:
        place = (np.arange(size) + 0.5) * 256 / size
        return np.hypot(place[:, None] - 100.3, place - 120.7) <= 10

    resize = parsed(TRAIN).get_parsed_content("transforms#resize_label")
    found, truth = np.asarray(resize({"label": disc(size)[None].astype(np.float32)})["label"][0]) > 0.5, disc(256)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.975


def test_masks_in_colours(tmp_path):
    """Training and evaluation check and read them by the table of options/mask_colors.yaml."""
    classes = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    for name in ("a", "b"):
        colors = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 0]], np.uint8)[classes]
        write_image(tmp_path / "masks" / f"{name}.png", colors)
        write_image(tmp_path / "images" / f"{name}.png", colors)
    table = {"black": 0, "#ff0000": 1, "0,128,0": 2}
    files = [*TRAIN, *overlays("options/mask_colors"), EVALUATE[-1]]
    parser = parsed(files, dataset_dir=str(tmp_path), out_channels=3, mask_colors=table)
    (item,) = parser.get_parsed_content("datalist")["validation"]
    assert len(parser.get_parsed_content("eval_datalist")["test"]) == 2
    label = parser.get_parsed_content("transforms#load_label")(item)["label"]
    np.testing.assert_array_equal(label, classes.T)  # MONAI reads the width before the height
    assert "mask in colours" in refusal(parsed(files[:1], dataset_dir=str(tmp_path)).get_parsed_content, "datalist")


def test_masks_of_several_files(tmp_path):
    """They are joined, and GIF is a mask as PNG is: the label is the union of both lesions."""
    lesions = np.zeros((2, 6, 9), np.uint8)
    lesions[0, :2, :3] = lesions[1, 3:, 5:] = 255
    files = {"a.webp": np.full((6, 9, 3), 7, np.uint8), "a_mask.gif": lesions[0], "a_mask_1.png": lesions[1]}
    for name, values in files.items():
        write_image(tmp_path / name, values)
    parser = parsed(TRAIN, dataset_dir=str(tmp_path), image_size=[6, 9])
    (item,) = load_datalist(str(tmp_path), ["test"])["test"]
    for transform in parser.get_parsed_content("transforms#cached"):
        item = transform(item)
    np.testing.assert_array_equal(item["label"][0], lesions.max(0) / 255)
    message = refusal(load_datalist, str(tmp_path), ["test"], out_channels=3)
    assert "a.webp: has 2 masks, a_mask.gif, a_mask_1.png. They are joined for one class only" in message


@pytest.mark.parametrize("ending", ["webp", "gif", "jp2", "ppm", "pgm", "jfif"])
def test_formats_of_images(tmp_path, ending):
    """The mask of a uniform image is that of a PNG of its colour."""
    Image.new("RGB", (40, 30), (0, 0, 0)).save(tmp_path / f"a.{ending}", "JPEG" if ending == "jfif" else None)
    item = {"image": str(tmp_path / f"a.{ending}")}
    image = parsed(INFERENCE, image_size=[32, 32]).get_parsed_content("preprocessing")(item)["image"]
    expected = -torch.tensor([123.675, 116.28, 103.53]) / torch.tensor([58.395, 57.12, 57.375])
    assert image.shape == (3, 32, 32)
    assert image.mean((1, 2)).tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    assert [Path(one["image"]).name for one in list_images(str(tmp_path))] == [f"a.{ending}"]
