# SPDX-License-Identifier: Apache-2.0
"""The page that a run ends with."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import nibabel
import numpy as np
import pytest
import torch
from common.pages import render
from common.slices import Slices
from PIL import Image
from reports.segmented import Segmented

from unetv2_monai import InputError, UNetV2
from unetv2_monai.handlers.score_table import table

from ..conftest import ROOT, draw_pair, script
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, TINY, read_scores, run


@pytest.fixture(scope="module")
def reported(trained, tmp_path_factory):
    """A copy of a run, evaluated, with its report."""
    data, out = trained
    folder = tmp_path_factory.mktemp("report") / "run <1>"
    shutil.copytree(out, folder)
    run(EVALUATE, "evaluating", dataset_dir=str(data), output_dir=str(folder), **TINY)
    script("report").main([str(folder)])
    return folder


def test_report_states_what_was_scored(reported):
    page = (reported / "report.html").read_text()
    summary = json.loads((reported / "evaluation" / "summary.json").read_text())["data"]
    low, high = summary["dice"]["interval"]
    assert f"{summary['dice']['mean']:.3f} [{low:.3f}, {high:.3f}]" in page
    assert "<td>training pairs</td><td>5</td>" in page
    assert "5 of the scored images were trained on" in page
    assert "<td>large: over 10 %</td><td>6</td>" in page
    assert "run &lt;1&gt;" in page
    assert "run <1>" not in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    for name in ("curves", "calibration", "overlays"):
        with Image.open(io.BytesIO((reported / "report" / f"{name}.png").read_bytes())) as opened:
            assert opened.size > (300, 300)
    assert sorted(path.name for path in (reported / "report").iterdir()) == [
        "calibration.png", "curves.png", "overlays.png",
    ]  # fmt: skip


def test_overlays_show_the_prediction_that_was_scored(reported, trained):
    data, _ = trained
    module = script("report")
    parser = module.parsed(json.loads((reported / "evaluation" / "config.json").read_text()))
    items = parser.get_parsed_content("eval_datalist")["test"]
    dice = read_scores(reported / "evaluation", "dice")
    for (path, _), found in module.predict(parser, {(item["image"], 1): item for item in items}).items():
        image, mask, pred = found.image, found.mask, found.prediction
        with Image.open(path) as opened:
            assert image.shape[:2] == mask.shape == pred.shape == opened.size[::-1]
        name = path.rpartition("/")[2]
        with Image.open(data / "masks" / name) as opened:
            assert np.array_equal(np.asarray(opened) > 0, mask)
        assert 2 * (mask & pred).sum() / (mask.sum() + pred.sum()) == pytest.approx(dice[name], abs=1e-6)


def test_other_images_and_other_weights(trained, tmp_path):
    """Scores of a data set that was not trained on, by weights of another run, without a training in the folder."""
    _, out = trained
    draw_pair(tmp_path / "data", "other", 70, 50, seed=9)
    draw_pair(tmp_path / "data", "another", 60, 50, seed=8)
    options = {"dataset_dir": str(tmp_path / "data"), "checkpoint": str(out / "models" / "model.pt"), **TINY}
    run(EVALUATE, "evaluating", output_dir=str(tmp_path / "out"), **options)
    script("report").main([str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data (2)" in page
    assert "<h2>Training" not in page
    assert "trained on" not in page


def test_a_run_that_never_validated(trained):
    _, out = trained
    report = script("report")
    noted = json.loads((out / "run.json").read_text())
    with (out / "metrics.csv").open(newline="") as opened:
        epochs = [{**row, "val_mean_dice": ""} for row in csv.DictReader(opened)]
    about = dict(report.about_training(noted, epochs, ()))
    assert about["epochs"] == f"{len(epochs)}, never validated"
    report.curves(epochs)


def test_options_of_training_are_those_of_run_json(reported):
    """Evaluating has values of its own for them, which mean nothing."""
    page = (reported / "report.html").read_text()
    assert json.loads((reported / "evaluation" / "config.json").read_text())["max_epochs"] == 30
    _, training, evaluation = re.split(r"<h2>Config of the (?:training|evaluation)</h2>", page)
    assert "<td>max_epochs</td><td>2</td>" in training
    assert "<td>learning_rate</td><td>0.001</td>" in training
    table, _, _ = evaluation.partition("</table>")
    assert "<td>image_size</td><td>32</td>" in table
    assert not re.findall("max_epochs|batch_size|learning_rate|seed", table)


def test_stored_report_has_the_options_of_its_run():
    folder = ROOT / "docs" / "results" / "isic2017_report"
    table, _, _ = (folder / "report.html").read_text().partition("<h2>Config</h2>")[2].partition("</table>")
    config = json.loads((folder / "run.json").read_text())["config"]
    cells = dict(re.findall("<tr><td>(.*?)</td><td>(.*?)</td></tr>", table))
    assert cells["max_epochs"] == "12"
    assert cells == {key: str(config[key]) for key in cells}


def test_training_data_that_was_moved(trained, tmp_path):
    """The scores are there: only what the images would tell is left out."""
    data, out = trained
    shutil.copytree(out, tmp_path / "out")
    noted = json.loads((out / "run.json").read_text())
    noted["config"]["dataset_dir"] = str(tmp_path / "moved")
    (tmp_path / "out" / "run.json").write_text(json.dumps(noted))
    run(EVALUATE, "evaluating", dataset_dir=str(data), output_dir=str(tmp_path / "out"), **TINY)
    script("report").main([str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<td>training data not found: overlap with the scored images not checked</td>" in page
    assert "training pairs" not in page
    assert "<td>epochs</td><td>2, best validation Dice" in page


def test_scored_data_that_was_moved(trained, tmp_path):
    """One sentence, not MONAI's errors around it."""
    data, out = trained
    shutil.copytree(data, tmp_path / "data")
    options = {"dataset_dir": str(tmp_path / "data"), "checkpoint": str(out / "models" / "model.pt"), **TINY}
    run(EVALUATE, "evaluating", output_dir=str(tmp_path / "out"), **options)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "data"))):
        script("report").main([str(tmp_path / "out")])


@pytest.fixture(scope="module")
def of_two_classes(tmp_path_factory):
    """
    Two images, scored by random weights and reported: class 1 on the left of both, class 2 on the right of the second.
    """
    folder = tmp_path_factory.mktemp("classes")
    for kind in ("images", "masks"):
        (folder / "data" / kind).mkdir(parents=True)
    for index in range(2):
        mask = np.zeros((40, 60), dtype=np.uint8)
        mask[5:35, 5:20] = 1
        mask[5:35, 40:55] = 2 * index
        Image.fromarray(mask).save(folder / "data" / "masks" / f"case_{index}.png")
        Image.fromarray(np.repeat(mask[..., None], 3, axis=2) * 100).save(
            folder / "data" / "images" / f"case_{index}.png"
        )
    torch.manual_seed(0)
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8, out_channels=3).state_dict(), folder / "model.pt")
    options = {"dataset_dir": str(folder / "data"), "output_dir": str(folder), "out_channels": 3, **TINY}
    run(EVALUATE, "evaluating", checkpoint=str(folder / "model.pt"), **options)
    script("report").main([str(folder)])
    return folder


def test_classes_are_named_and_counted_apart(of_two_classes):
    page = (of_two_classes / "report.html").read_text()
    assert "data class 1 (2)" in page
    assert "where each pixel has its most probable class" in page
    assert "at probability 0.5" not in page
    _, first, second, poor = re.split("<h3>(?:data class [12]|Dice below 0.5)</h3>", page)
    assert "<td>large: over 10 %</td><td>2</td>" in first
    assert "Images with an empty mask: 0;" in first
    assert "<td>large: over 10 %</td><td>1</td>" in second
    assert "Images with an empty mask: 1;" in second
    assert set(re.findall("<td>(.*?)</td><td>case_", poor)) == {"data class 1", "data class 2"}
    assert "<td>data</td>" not in page


def test_outlines_are_of_one_class(of_two_classes):
    module = script("report")
    with (of_two_classes / "evaluation" / "scores.csv").open(newline="") as opened:
        rows = [module.Scored.from_row(row, several=True) for row in csv.DictReader(opened)]
    assert [row.group for row in rows] == ["data class 1", "data class 2"] * 2
    parser = module.parsed(json.loads((of_two_classes / "evaluation" / "config.json").read_text()))
    items = {item["image"]: item for item in parser.get_parsed_content("eval_datalist")["test"]}
    found = module.predict(parser, {row.case: items[row.image] for row in rows})
    assert len(found) == 4
    for row in rows:
        mask, pred = found[row.case].mask, found[row.case].prediction
        with Image.open(of_two_classes / "data" / "masks" / row.name) as opened:
            assert np.array_equal(np.asarray(opened) == row.class_index, mask)
        dice = 2 * (mask & pred).sum() / (mask.sum() + pred.sum()) if mask.any() or pred.any() else 1
        assert dice == pytest.approx(row.dice, abs=1e-6)


def test_titles_name_the_class(of_two_classes, monkeypatch):
    module, titles = script("report"), []
    monkeypatch.setattr(Segmented, "row", lambda self, title: titles.append(title) or Image.new("RGB", (9, 9)))
    module.main([str(of_two_classes)])
    assert [title.split(": ")[0] for title in titles] == [
        f"data class {number}, {which}" for number in (1, 2) for which in ("best", "median", "worst")
    ]


def test_volumes(tmp_path):
    """Three slices of each, in proportion; outlines of the files' own voxels; distances in mm."""
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    for index in range(2):
        values = np.random.default_rng(index).normal(0, 1, (12, 9, 5))
        label = np.digitize(values + 0.3 * index, (0, 1))
        for kind, content in (("imagesTr", values), ("labelsTr", label.astype(np.uint8))):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(content, affine), tmp_path / "data" / kind / f"v{index}.nii.gz")
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    torch.manual_seed(0)
    torch.save(torch.nn.Conv3d(1, 3, 1).state_dict(), tmp_path / "model.pt")
    run(
        [EVALUATE[0], str(CONFIGS / "recipes" / "volumes.yaml"), EVALUATE[1]], "evaluating", num_workers=0,
        dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path), checkpoint=str(tmp_path / "model.pt"),
        image_size=[16, 16, 16], network_def=definition, surface_tolerance=2.0,
    )  # fmt: skip
    module = script("report")
    module.main([str(tmp_path)])
    page = (tmp_path / "report.html").read_text()
    assert "<th>HD95</th><th>surface Dice</th><th>precision</th>" in page
    assert "surface Dice with a tolerance of 2.0 mm" in page
    assert "the axial, the coronal and the sagittal slice" in page
    assert "<td>monai.networks.nets.segresnet_ds.SegResEncoder</td>" in page  # the recipe's backbone, "@encoder"
    path = str(tmp_path / "data" / "imagesTr" / "v1.nii.gz")
    parser = module.parsed(json.loads((tmp_path / "evaluation" / "config.json").read_text()))
    item = {"image": path, "label": path.replace("imagesTr", "labelsTr")}
    found = module.predict(parser, {(path, 2): item})[path, 2]
    label = np.asarray(nibabel.load(item["label"]).dataobj) == 2
    slices = Slices.through(label, affine)
    assert np.array_equal(found.mask, slices.of_mask(label))
    assert found.image.shape == (*found.mask.shape, 3)
    assert found.mask.shape == found.prediction.shape == (17 * (9 + 15 + 15) + 4, 17 * 12)  # 15 mm have 17 pixels each
    with Image.open(tmp_path / "report" / "overlays.png") as opened:
        assert opened.height == 2 * 3 * (480 + 18)  # of two classes the best, the median and the worst


def test_scores_as_the_terminal_prints_them(reported):
    page = (reported / "report.html").read_text()
    summary = json.loads((reported / "evaluation" / "summary.json").read_text())
    printed = table(summary).splitlines()
    header, *rows = re.findall("<tr>(.*?)</tr>", page.partition("<h2>Scores</h2>")[2].partition("</table>")[0])
    titles, cells = re.findall("<th>(.*?)</th>", header), re.findall("<td>(.*?)</td>", rows[0])
    assert titles[1:] == [
        "Dice", "IoU", "MAE", "HD95", "precision", "recall", "pooled Dice", "ECE", "lesions missed",
    ]  # fmt: skip
    for title, cell in zip(titles[1:], cells[1:]):
        assert [line for line in printed if re.fullmatch(f"{title}  +{re.escape(cell)}", line)], (title, cell)
    mae = summary["data"]["mae"]
    assert cells[3] == "{:.4f} [{:.4f}, {:.4f}]".format(mae["mean"], *mae["interval"])


def test_failures_by_size():
    def row(name, tp, fp, fn):
        dice = 2 * tp / max(2 * tp + fp + fn, 1)
        counts = {"tp": tp, "fp": fp, "fn": fn, "tn": 1000 - tp - fp - fn}
        texts = {key: str(value) for key, value in counts.items()}
        return {"dataset": "d", "image": name, "class": "1", "dice": str(dice), **texts}

    rows = [row("a.png", 0, 5, 10), row("b.png", 50, 0, 0), row("c.png", 60, 300, 140), row("d.png", 0, 7, 0)]
    report = script("report")
    failures = report.failures([report.Scored.from_row(each) for each in rows])
    text = render("failures.html.j2", failures=failures)
    assert "<td>small: up to 2 % of the image</td><td>1</td><td>0.000</td><td>1</td><td>1</td>" in text
    assert "<td>medium: 2 to 10 %</td><td>1</td><td>1.000</td><td>0</td><td>0</td>" in text
    assert "<td>large: over 10 %</td><td>1</td><td>0.214</td><td>1</td><td>0</td>" in text
    assert "Images with an empty mask: 1; something was marked on 1 of them." in text
    assert "<td>d.png</td><td>0.000</td><td>0.0 %</td><td>empty mask, marked</td>" in text
    assert "<td>c.png</td><td>0.214</td><td>20.0 %</td><td>partly found</td>" in text


def test_no_run_there(tmp_path):
    with pytest.raises(InputError, match=r"summary\.json does not exist: run evaluating writes it"):
        script("report").main([str(tmp_path)])


def test_in_a_browser(reported, tmp_path):
    """Chromium draws the page: text, and the three images with the colours of outlines."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here")
    page = tmp_path / "page.html"
    page.write_text((reported / "report.html").read_text())
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,2600"]
    subprocess.run([browser, *options, f"--screenshot={tmp_path / 'shot.png'}", page.as_uri()], capture_output=True)
    with Image.open(tmp_path / "shot.png") as shot:
        pixels = np.asarray(shot.convert("RGB")).astype(int)
    for color in ((60, 220, 90), (255, 210, 40), (31, 119, 180)):  # mask, prediction, first curve
        assert (np.abs(pixels - color).max(axis=2) < 12).sum() > 50, color
