# SPDX-License-Identifier: Apache-2.0
"""The page that a run ends with."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from common.pages import render
from PIL import Image

from unetv2_monai import InputError

from ..conftest import draw_pair, script
from ..support.workflow import EVALUATE, TINY, read_scores, run


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
    for path, found in module.predict(parser, items).items():
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


def test_failures_by_size():
    def row(name, tp, fp, fn):
        dice = 2 * tp / max(2 * tp + fp + fn, 1)
        counts = {"tp": tp, "fp": fp, "fn": fn, "tn": 1000 - tp - fp - fn}
        return {"dataset": "d", "image": name, "dice": str(dice), **{key: str(value) for key, value in counts.items()}}

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
