# SPDX-License-Identifier: Apache-2.0
"""A real MONAI Label server over HTTP: `make test-label`, in the environment of `make label-env`."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ...conftest import run_script
from .support import MODEL, label_server, serving

pytest.importorskip("monailabel")


def bright(folder: Path, image: str) -> np.ndarray:
    with Image.open(next((folder / "images").glob(f"{image}.*"))) as opened:
        return np.asarray(opened.convert("L")) > 110


def test_info(server):
    info = server.client.info()
    assert list(info["models"]) == list(info["trainers"]) == list(info["scoring"]) == [MODEL]
    assert info["models"][MODEL]["labels"] == {"lesion": 1}
    assert info["models"][MODEL]["dimension"] == 2
    assert list(info["strategies"]) == ["uncertainty", "random", "first"]
    assert info["datastore"]["total"] == 10


def check_mask(path: str, size: tuple[int, int]) -> None:
    assert path.endswith(".png")
    with Image.open(path) as mask:
        assert (mask.size, mask.mode) == (size, "L")
        assert set(np.unique(np.asarray(mask))) <= {0, 1}


@pytest.mark.parametrize("name", ["case_3", "grey", "rgba", "photo", "small"])
def test_infer_by_id_and_by_file(name, server, images):
    path = next((images / "images").glob(f"{name}.*"))
    with Image.open(path) as image:
        size = image.size
    by_id, _ = server.client.infer(MODEL, name, {})
    by_file, _ = server.client.infer(MODEL, "", {}, file=str(path))
    check_mask(by_id, size)
    with Image.open(by_id) as first, Image.open(by_file) as second:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def test_upload(images, random_weights, tmp_path):
    with serving(
        label_server(tmp_path / "work", "--images", images / "images", "--checkpoint", random_weights),
        tmp_path / "work",
    ) as server:
        added = server.client.upload_image(str(images / "images" / "case_1.png"), "uploaded")
        mask, _ = server.client.infer(MODEL, added["image"], {})
        check_mask(mask, (96, 60))
        assert server.client.info()["datastore"]["total"] == 11
        assert not (images / "images" / "uploaded.png").exists()


def test_the_images_folder_stays_clean(server, images):
    server.client.infer(MODEL, "case_3", {})
    assert sorted(path.name for path in images.iterdir()) == ["images", "masks"]
    assert all(path.suffix.lower() in (".png", ".jpg", ".jpeg") for path in (images / "images").iterdir())


def test_correct_train_and_the_new_weights_are_used(server, images):
    """Upright throughout: a label comes back as it was sent, and is learnt in its place."""
    weights = server.work_dir / "app" / "model" / MODEL / "models" / "model.pt"
    before = weights.read_bytes()
    first, _ = server.client.infer(MODEL, "case_5", {})
    with Image.open(first) as mask:
        first_mask = np.asarray(mask) > 0
    for index in range(5):
        stored = Image.fromarray(bright(images, f"case_{index}").astype(np.uint8))
        stored.save(server.work_dir / "label.png")
        server.client.save_label(f"case_{index}", str(server.work_dir / "label.png"), "final")
        back = server.client.download_label(f"case_{index}", "final")
        with Image.open(back) as label:
            np.testing.assert_array_equal(np.asarray(label), np.asarray(stored))
    server.client.train_start(MODEL, {"max_epochs": 25, "multi_gpu": False})
    while server.client.train_status()["status"] == "SUBMITTED":
        time.sleep(0.2)
    status, answer = server.post(f"/train/{MODEL}", {"max_epochs": 1})  # one at a time
    assert status == 429
    assert "Already Running" in str(answer)
    server.wait_for_training()
    assert weights.read_bytes() != before
    after, _ = server.client.infer(MODEL, "case_5", {})
    with Image.open(after) as mask:
        found, truth = np.asarray(mask) > 0, bright(images, "case_5")
    dice = [2 * (m & truth).sum() / max(1, m.sum() + truth.sum()) for m in (first_mask, found)]
    assert dice[1] > max(0.7, dice[0])


def test_polygons_for_cvat(server, images, monkeypatch):
    """After the training above, through the function that MONAI Label's CVAT plugin runs, without CVAT around it."""
    path = Path(sys.prefix) / "monailabel" / "plugins" / "cvat" / "detector.py"
    specification = importlib.util.spec_from_file_location("detector", path)
    detector = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(detector)
    monkeypatch.setenv("MONAI_LABEL_SERVER", server.url)
    monkeypatch.setenv("MONAI_LABEL_MODEL", MODEL)
    context = SimpleNamespace(logger=logging, user_data=SimpleNamespace(), Response=lambda **answer: answer)
    detector.init_context(context)
    content = base64.b64encode((images / "images" / "case_5.png").read_bytes()).decode()
    shapes = json.loads(detector.handler(context, SimpleNamespace(body={"image": content}))["body"])
    assert {(shape["label"], shape["type"]) for shape in shapes} == {("lesion", "polygon")}
    points = np.concatenate([np.array(shape["points"]).reshape(-1, 2) for shape in shapes])
    rows, columns = np.nonzero(bright(images, "case_5"))
    assert points[:, 0].mean() == pytest.approx(columns.mean(), abs=8)
    assert points[:, 1].mean() == pytest.approx(rows.mean(), abs=8)


def test_next_image_by_uncertainty(server):
    unlabelled = {"case_5", "grey", "rgba", "photo", "small"}
    status, answer = 429, ""
    while status == 429:  # the server scores by itself after a training
        status, answer = server.post(f"/scoring/{MODEL}?run_sync=true", {"simulation_size": 3})
        time.sleep(0.5)
    assert status == 200
    assert answer["total"] == len(unlabelled)
    store = json.loads((server.work_dir / "images" / "datastore_v2.json").read_text())["objects"]
    scores = {name: item["image"]["info"].get("epistemic_entropy", 0) for name, item in store.items()}
    assert all(0 < scores[name] < 1 for name in unlabelled)
    assert server.client.next_sample("uncertainty", {})["id"] == max(unlabelled, key=lambda name: scores[name])


def test_batch_inference(server):
    status, _ = server.post(
        f"/batch/infer/{MODEL}?images=unlabeled&run_sync=true",
        {"multi_gpu": False, "save_label": True, "label_tag": "original", "max_workers": 1},
    )
    assert status == 200
    written = {path.stem for path in (server.work_dir / "images" / "labels" / "original").iterdir()}
    assert written == {"case_5", "grey", "rgba", "photo", "small"}


def test_errors_say_what_is_wrong_and_the_server_lives_on(server, tmp_path):
    for path in ("/infer/nope?image=case_0&output=image", "/train/nope", "/scoring/nope?run_sync=true"):
        status, answer = server.post(path)
        assert status == 404
        assert f"No model 'nope'. There is: {MODEL}." in str(answer)
    status, answer = server.post(f"/infer/{MODEL}?image=nope&output=image")
    assert status == 404
    assert "No image 'nope'" in str(answer)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(Exception, match="cannot be segmented"):  # their exception's module moves
        server.client.infer(MODEL, "", {}, file=str(tmp_path / "text.png"))
    server.client.infer(MODEL, "case_0", {})


def test_started_again_it_goes_on(server, images, tmp_path):
    work = Path(shutil.copytree(server.work_dir, tmp_path / "work", symlinks=True))
    weights = work / "app" / "model" / MODEL / "models" / "model.pt"
    before = weights.read_bytes()
    with serving(label_server(work, "--images", images / "images"), work) as again:
        assert again.client.info()["datastore"]["completed"] >= 5
        assert weights.read_bytes() == before
    done = subprocess.run(
        label_server(work, "--images", images / "images", "--checkpoint", "other.pt"), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "has weights already" in done.stderr


def test_stock_app_of_monai_label(images, unpacked, tmp_path):
    """The packed bundle in MONAI Label's own monaibundle app, unchanged: infer, score, train."""
    python = [sys.executable, "-m", "monailabel.main"]
    subprocess.run(
        [*python, "apps", "--download", "--name", "monaibundle", "--output", str(tmp_path)], check=True,
        capture_output=True,
    )  # fmt: skip
    app = tmp_path / "monaibundle"
    shutil.copytree(unpacked, app / "model" / MODEL)
    studies = Path(shutil.copytree(images / "images", tmp_path / "studies"))
    command = [*python, "start_server", "--app", str(app), "--studies", str(studies), "--host", "127.0.0.1"]
    command += [part for key, value in {
        "models": MODEL, "epistemic_model": MODEL, "zoo_source": "local", "sam2": "false",
    }.items() for part in ("--conf", key, value)]  # fmt: skip
    environment = {"OMP_NUM_THREADS": "1", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with serving(command, tmp_path / "stock", environment) as server:
        for name in ("case_3", "rgba", "grey"):
            mask, _ = server.client.infer(MODEL, name, {})
            with Image.open(next(studies.glob(f"{name}.*"))) as image:
                check_mask(mask, image.size)
        for index in range(4):
            Image.fromarray(bright(images, f"case_{index}").astype(np.uint8)).save(tmp_path / "label.png")
            server.client.save_label(f"case_{index}", str(tmp_path / "label.png"), "final")
        status, answer = server.post(f"/scoring/{MODEL}?run_sync=true", {"simulation_size": 2, "max_samples": 2})
        assert (status, answer["executed"]) == (200, 2)
        weights = app / "model" / MODEL / "models" / "model.pt"
        before = weights.read_bytes()
        server.client.train_start(MODEL, {"max_epochs": 2, "multi_gpu": False})
        server.wait_for_training()
        assert weights.read_bytes() != before


def test_loop_on_real_images(real_data, tmp_path):
    """Two rounds of labelling by uncertainty: Dice on images that the server never had rises with each."""
    skin = real_data / "isic2017_256"
    for name, first, last in (("pool", 0, 60), ("held_out", 60, 100)):
        for path in sorted((skin / "images").iterdir())[first:last]:
            for kind, file in (("images", path), ("masks", skin / "masks" / f"{path.stem}_segmentation.png")):
                (tmp_path / name / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / name / kind)
    command = label_server(
        tmp_path / "work", "--images", tmp_path / "pool" / "images", "--set", "image_size=96", "batch_size=4"
    )
    with serving(command, tmp_path / "work") as server:
        figure = Path(os.environ.get("UNETV2_LABEL_FIGURE", tmp_path / "loop.png"))
        printed = run_script(
            "label_loop.py", "--url", server.url, "--dataset_dir", tmp_path / "pool", "--test_dir",
            tmp_path / "held_out", "--rounds", 12, 28, "--epochs", 25, "--figure", figure,
        )  # fmt: skip
    print(printed)
    dice = [float(found) for found in re.findall(r"^\| \d+ \| ([\d.]+) \|", printed, re.MULTILINE)]
    assert len(dice) == 3
    assert dice[0] < dice[1] < dice[2]
    assert dice[2] > 0.6
    with Image.open(io.BytesIO(figure.read_bytes())) as drawn:
        assert drawn.width > 800
