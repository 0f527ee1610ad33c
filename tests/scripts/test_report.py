# SPDX-License-Identifier: Apache-2.0
"""The page that a run ends with."""

import base64
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from common.pages import render
from PIL import Image

from unetv2_monai import InputError, UNetV2
from unetv2_monai.core.files import write_csv
from unetv2_monai.data.pictures import picture
from unetv2_monai.handlers.score_table import table

from ..conftest import draw_pair, draw_volume, read_table, script
from ..data.folders import write_image
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, TINY, TRAIN, run


def evaluate(data: Path, out: Path, **options: object) -> None:
    run(EVALUATE, "evaluating", dataset_dir=str(data), output_dir=str(out), **{**TINY, **options})


def report(folder: Path) -> str:
    script("report").main([str(folder)])
    return (folder / "report.html").read_text()


def predicted(folder: Path, numbers: tuple[int, ...] = (1,)) -> dict:
    """What report.py shows of every scored image and class: RGB, mask and prediction."""
    module = script("report")
    parser = module.parsed(json.loads((folder / "evaluation" / "config.json").read_text()))
    items = parser.get_parsed_content("eval_datalist")["test"]
    return module.predict(parser, {(item["image"], number): item for item in items for number in numbers})


def compare_with_scores(folder: Path, numbers: tuple[int, ...] = (1,)) -> None:
    """Masks that are shown are those of the files, and predictions have the Dice of scores.csv."""
    found = predicted(folder, numbers)
    rows = read_table(folder / "evaluation" / "scores.csv")
    assert len(rows) == len(found)
    for row in rows:
        image, mask, pred = found[row["image"], int(row["class"])]
        with Image.open(row["image"].replace("images", "masks")) as opened:
            values = np.asarray(opened)
        assert image.shape == (*values.shape, 3)
        assert np.array_equal(mask, values == int(row["class"]) if len(numbers) > 1 else values > 0)
        dice = 2 * (mask & pred).sum() / (mask.sum() + pred.sum()) if mask.any() or pred.any() else 1
        assert dice == pytest.approx(float(row["dice"]), abs=1e-6)


def cells(page: str, heading: str, tag: str = "td") -> list[list[str]]:
    rows = page.partition(f"<h2>{heading}</h2>")[2].partition("</table>")[0].split("</tr>")
    return [row for row in (re.findall(f"<{tag}>(.*?)</{tag}>", row) for row in rows) if row]


@pytest.fixture(scope="module")
def reported(trained, tmp_path_factory):
    data, out = trained
    folder = tmp_path_factory.mktemp("report") / "run <1>"
    shutil.copytree(out, folder)
    evaluate(data, folder)
    report(folder)
    return folder


def test_report_states_what_was_scored(reported):
    page = (reported / "report.html").read_text()
    for text in ("<td>training pairs</td><td>5</td>", "5 of the scored images were trained on", "run &lt;1&gt;"):
        assert text in page
    for text in ("<td>large: over 10 %</td><td>6</td>", "The worst 6 of 6: mask (green)", " on 6 images</td>"):
        assert text in page
    assert "run <1>" not in page
    shown = [float(text) for text in re.findall(r"<figcaption>case_\d.png: ([\d.]+)</figcaption>", page)]
    assert len(shown) == 6
    assert shown == sorted(shown)
    # options of the training are those of run.json: evaluating has values of its own for them, which mean nothing
    assert json.loads((reported / "evaluation" / "config.json").read_text())["max_epochs"] == 30
    training, evaluation = (dict(cells(page, f"Config of the {part}")) for part in ("training", "evaluation"))
    assert (training["max_epochs"], training["learning_rate"]) == ("2", "0.001")
    assert evaluation["image_size"] == "[32, 32]"
    assert not evaluation.keys() & {"max_epochs", "batch_size", "learning_rate", "seed"}


def test_scores_of_trained_images_are_noticed(trained, tmp_path, capsys, monkeypatch):
    """Also where the folder is named in another way; not for other images."""
    data, out = trained
    monkeypatch.chdir(data)
    weights = str(out / "models" / "model.pt")
    evaluate(Path("../data"), tmp_path / "same", checkpoint=weights)
    assert f"WARNING: 5 of the 6 scored images were trained on, as {out / 'run.json'} says" in capsys.readouterr().out
    draw_pair(tmp_path / "data", "other", 70, 50, seed=9)
    evaluate(tmp_path / "data", tmp_path / "other", checkpoint=weights)
    assert "WARNING:" not in capsys.readouterr().out


def test_images_are_part_of_the_page(reported):
    """Outlines of mask and prediction, and curves, in their colours; beside it they are files."""
    page = (reported / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    images = [base64.b64decode(content) for content in re.findall('src="data:image/png;base64,(.*?)"', page)]
    assert sorted(images) == sorted(path.read_bytes() for path in (reported / "report").iterdir())
    blue = (31, 119, 180)  # matplotlib's first curve
    expected = {"overlays": [(60, 220, 90), (255, 210, 40)]}
    expected |= {name: [blue] for name in ("curves", "calibration", "detection")}
    assert {path.stem for path in (reported / "report").iterdir()} == expected.keys()
    for name, colors in expected.items():
        with Image.open(reported / "report" / f"{name}.png") as opened:
            assert min(opened.size) > 300
            pixels = np.asarray(opened.convert("RGB")).astype(int)
        for color in colors:
            assert (np.abs(pixels - color).max(axis=2) < 12).sum() > 50, (name, color)


def test_scores_as_the_terminal_prints_them(reported):
    compare_with_scores(reported)
    page = (reported / "report.html").read_text()
    summary = json.loads((reported / "evaluation" / "summary.json").read_text())
    printed = table(summary).splitlines()
    (titles,), (scores,) = cells(page, "Scores", "th"), cells(page, "Scores")
    assert titles[1:] == ["Dice", "IoU", "MAE", "HD95", "precision", "recall", "pooled Dice", "ECE", "lesions missed"]
    for title, cell in zip(titles[1:], scores[1:]):
        assert [line for line in printed if re.fullmatch(f"{title}  +{re.escape(cell)}", line)], (title, cell)
    mae = summary["data"]["mae"]
    assert scores[3] == "{:.4f} [{:.4f}, {:.4f}]".format(mae["mean"], *mae["interval"])


def test_other_images_and_other_weights(trained, tmp_path):
    """Scores of a data set that was not trained on, by weights of another run, without a training in the folder."""
    _, out = trained
    with pytest.raises(InputError, match=r"summary\.json does not exist: run evaluating writes it"):
        report(tmp_path)
    draw_pair(tmp_path / "data", "other", 70, 50, seed=9)
    draw_pair(tmp_path / "data", "another", 60, 50, seed=8)
    evaluate(tmp_path / "data", tmp_path / "out", checkpoint=str(out / "models" / "model.pt"))
    page = report(tmp_path / "out")
    assert "data (2)" in page
    assert "<h2>Training" not in page
    assert "trained on" not in page
    # scored images that were moved since: one sentence, not MONAI's errors around it
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "data"))):
        report(tmp_path / "out")


def test_training_data_that_was_moved_and_a_run_that_never_validated(trained, tmp_path):
    """The scores are there: only what the training's images and scores would tell is left out."""
    data, out = trained
    shutil.copytree(out, tmp_path / "out")
    noted = json.loads((out / "run.json").read_text())
    noted["config"]["dataset_dir"] = str(tmp_path / "moved")
    (tmp_path / "out" / "run.json").write_text(json.dumps(noted))
    evaluate(data, tmp_path / "out")
    page = report(tmp_path / "out")
    assert "<td>training data not found: overlap with the scored images not checked</td>" in page
    assert "training pairs" not in page
    assert "<td>epochs</td><td>2, best validation Dice" in page
    metrics = tmp_path / "out" / "metrics.csv"
    epochs = [{**row, "val_mean_dice": ""} for row in read_table(metrics)]
    write_csv(metrics, epochs, list(epochs[0]))
    assert "<td>epochs</td><td>2, never validated</td>" in report(tmp_path / "out")


def test_several_classes(tmp_path, monkeypatch):
    """Two images, scored by random weights: class 1 on the left of both, class 2 on the right of the second. Classes
    are named and counted apart, and outlines are of one class.
    """
    for index in range(2):
        values = np.zeros((40, 60), dtype=np.uint8)
        values[5:35, 5:20] = 1
        values[5:35, 40:55] = 2 * index
        for kind, factor in (("masks", 1), ("images", 100)):
            write_image(tmp_path / "data" / kind / f"case_{index}.png", factor * values)
    torch.manual_seed(0)
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8, out_channels=3).state_dict(), tmp_path / "model.pt")
    evaluate(tmp_path / "data", tmp_path, checkpoint=str(tmp_path / "model.pt"), out_channels=3)
    module, titles = script("report"), []
    monkeypatch.setattr(module, "overlay", lambda title, *_: titles.append(title) or Image.new("RGB", (9, 9)))
    module.main([str(tmp_path)])
    assert [title.split(": ")[0] for title in titles] == [
        f"data class {number}, {which}" for number in (1, 2) for which in ("best", "median", "worst")
    ]

    page = (tmp_path / "report.html").read_text()
    assert "data class 1 (2)" in page
    assert "where each pixel has its most probable class" in page
    assert "at probability 0.5" not in page
    _, first, second, poor = re.split("<h3>(?:data class [12]|All, from worst to best)</h3>", page)
    for part, large, empty in ((first, 2, 0), (second, 1, 1)):
        assert f"<td>large: over 10 %</td><td>{large}</td>" in part
        assert f"Images with an empty mask: {empty};" in part
    assert set(re.findall("<td>(.*?)</td><td>case_", poor)) == {"data class 1", "data class 2"}
    assert "<td>data</td>" not in page

    compare_with_scores(tmp_path, (1, 2))


def test_volumes(tmp_path):
    """Three slices of each, in proportion; outlines of the files' own voxels; distances in mm."""
    for index in range(2):
        values = np.random.default_rng(index).normal(0, 1, (12, 9, 5))
        label = np.digitize(values + 0.3 * index, (0, 1))
        draw_volume(tmp_path / "data", f"v{index}", values, label, np.diag([-1.0, -1.0, 3.0, 1.0]))
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    torch.manual_seed(0)
    torch.save(torch.nn.Conv3d(1, 3, 1).state_dict(), tmp_path / "model.pt")
    options = {"num_workers": 0, "image_size": [16, 16, 16], "network_def": definition, "surface_tolerance": 2.0}
    run(
        [*TRAIN, str(CONFIGS / "recipes" / "volumes.yaml"), EVALUATE[1]], "evaluating",
        dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path), checkpoint=str(tmp_path / "model.pt"), **options,
    )  # fmt: skip
    page = report(tmp_path)
    assert "<th>HD95</th><th>surface Dice</th><th>precision</th>" in page
    assert "surface Dice with a tolerance of 2.0 mm" in page
    assert "the axial, the coronal and the sagittal slice" in page
    assert "<td>monai.networks.nets.segresnet_ds.SegResEncoder</td>" in page  # the recipe's backbone, "@encoder"
    with Image.open(tmp_path / "report" / "overlays.png") as opened:
        assert opened.height == 2 * 3 * (480 + 18)  # of two classes the best, the median and the worst

    path = str(tmp_path / "data" / "imagesTr" / "v1.nii.gz")
    image, mask, pred = predicted(tmp_path, (1, 2))[path, 2]
    label = np.asarray(nibabel.load(path.replace("images", "labels")).dataobj) == 2
    assert np.array_equal(mask, picture(path, label)[1][0])
    assert image.shape == (*mask.shape, 3)
    assert mask.shape == pred.shape == (17 * (9 + 15 + 15) + 4, 17 * 12)  # 15 mm have 17 pixels each


def test_folds(trained, tmp_path):
    """Two networks, of two images and of one: their mean and standard deviation, all images, and a wrong mask."""
    _, out = trained
    for fold, names in enumerate(("ab", "c")):
        for name in names:
            draw_pair(tmp_path / f"data_{fold}", name, 60, 50, seed=ord(name))
        folder, checkpoint = tmp_path / "out" / f"fold_{fold}", str(out / "models" / "model.pt")
        evaluate(tmp_path / f"data_{fold}", folder, checkpoint=checkpoint)
        path = folder / "evaluation" / "summary.json"
        path.write_text(path.read_text().replace(f"data_{fold}", "data"))
        path = folder / "evaluation" / "scores.csv"
        path.write_text(path.read_text().replace(f"data_{fold},", "data,"))
    page = report(tmp_path / "out")
    files = [tmp_path / "out" / f"fold_{fold}" / "evaluation" for fold in (0, 1)]
    rows = [row for folder in files for row in read_table(folder / "scores.csv")]
    dice, tp = ([float(row[key]) for row in rows] for key in ("dice", "tp"))
    scores = {row[0]: row[1:] for row in cells(page, "Scores")}
    mean = (dice[0] + dice[1]) / 2
    middle, spread = (mean + dice[2]) / 2, abs(mean - dice[2]) / 2
    assert scores["data: mean ± standard deviation of the folds"][0] == f"{middle:.3f} ± {spread:.3f}"
    whole = scores["data: all, out of fold (3)"]
    assert whole[0].startswith(f"{sum(dice) / 3:.3f} [")
    wrong = sum(float(row["fp"]) + float(row["fn"]) for row in rows)
    assert whole[6].startswith(f"{2 * sum(tp) / (2 * sum(tp) + wrong):.3f}")
    assert [name.split(" (")[0] for name in scores][:2] == ["fold_0: data", "fold_1: data"]
    assert "<td>2 of None folds" in page
    assert "unetv2 evaluate DIR --folds 2 --eval_section all" in page
    # what each network scores on all images: only b is wrong for both
    for fold, found in enumerate(([0.9, 0.2, 0.1], [0.4, 0.3, 0.8])):
        listed = [{**row, "dice": value} for row, value in zip(rows, found)]
        write_csv(tmp_path / "out" / f"fold_{fold}" / "evaluation_all" / "scores.csv", listed, list(rows[0]))
    assert cells(report(tmp_path / "out"), "Masks to look at") == [["b.png", f"{dice[1]:.3f}", "0.300"]]
    shutil.copy(files[0] / "scores.csv", files[1] / "scores.csv")
    with pytest.raises(InputError, match=r"two folds have scored .*a\.png"):
        report(tmp_path / "out")


def test_failures_by_size():
    module, rows = script("report"), []
    for name, tp, fp, fn in (("a", 0, 5, 10), ("b", 50, 0, 0), ("c", 60, 300, 140), ("d", 0, 7, 0)):
        dice = 2 * tp / max(2 * tp + fp + fn, 1)
        rows.append(module.Scored("data", f"{name}.png", 1, dice, tp, fp, fn, 1000 - tp - fp - fn))
    text = render("failures.html.j2", rows=rows, groups={"data": rows}, sizes=module.SIZES, limit=module.POOR)
    for found in (
        "<td>small: up to 2 % of the image</td><td>1</td><td>0.000</td><td>1</td><td>1</td>",
        "<td>medium: 2 to 10 %</td><td>1</td><td>1.000</td><td>0</td><td>0</td>",
        "<td>large: over 10 %</td><td>1</td><td>0.214</td><td>1</td><td>0</td>",
        "Images with an empty mask: 1; something was marked on 1 of them.",
        "<td>d.png</td><td>0.000</td><td>0.0 %</td><td>empty mask, marked</td>",
        "<td>c.png</td><td>0.214</td><td>20.0 %</td><td>partly found</td>",
    ):
        assert found in text
