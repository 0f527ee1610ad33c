# SPDX-License-Identifier: Apache-2.0
"""A real MONAI Label server over HTTP: `make test-label`, in the environment of `make label-env`."""

import base64
import json
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from .attacks import listing
from .support import MODEL, Server, app_module, bright, dice, label_server, labelling, plugin, png, serving

pytest.importorskip("monailabel")


def test_info(server):
    info = server.client.info()
    assert list(info["models"]) == list(info["trainers"]) == list(info["scoring"]) == [MODEL]
    assert (info["models"][MODEL]["labels"], info["models"][MODEL]["dimension"]) == ({"lesion": 1}, 2)
    assert list(info["strategies"]) == ["uncertainty", "random", "first"]
    assert info["datastore"]["total"] == 10


def inferred(server: Server, image: str, folder: Path, file: str | None = None) -> np.ndarray:
    """The mask that a client gets, which has the size of the image in the folder."""
    path, _ = server.client.infer(MODEL, "" if file else image, {}, file=file)
    assert path.endswith(".png")
    with Image.open(path) as mask, Image.open(next(folder.glob(f"{image}.*"))) as opened:
        assert (mask.size, mask.mode) == (opened.size, "L")
        values = np.array(mask)
    assert set(np.unique(values)) <= {0, 1}
    return values


@pytest.mark.parametrize("name", ["case_3", "grey", "rgba", "photo", "small"])
def test_infer_by_id_and_by_file(name, server, images):
    by_file = inferred(server, name, images, str(next(images.glob(f"{name}.*"))))
    np.testing.assert_array_equal(inferred(server, name, images), by_file)


def test_upload(images, random_weights, tmp_path):
    before = listing(images.parent)
    with labelling(tmp_path / "work", images, "--checkpoint", random_weights) as server:
        assert server.client.upload_image(str(images / "case_1.png"), "uploaded") == {"image": "uploaded"}
        inferred(server, "uploaded", server.work_dir / "images")
        assert server.client.info()["datastore"]["total"] == 11
        assert listing(images.parent) == before


def send_label(server: Server, image: str, mask: np.ndarray) -> None:
    (server.work_dir / "label.png").write_bytes(png(mask))
    server.client.save_label(image, str(server.work_dir / "label.png"), "final")


def test_correct_train_and_the_new_weights_are_used(server, images):
    """Upright throughout: a label comes back as it was sent, and is learnt in its place."""
    before, first = server.weights.read_bytes(), inferred(server, "case_5", images)
    for index in range(5):
        mask = bright(images, f"case_{index}")
        send_label(server, f"case_{index}", mask)
        with Image.open(server.client.download_label(f"case_{index}", "final")) as label:
            np.testing.assert_array_equal(np.asarray(label), mask)
    server.client.train_start(MODEL, {"max_epochs": 25, "multi_gpu": False})
    while server.client.train_status()["status"] == "SUBMITTED":
        time.sleep(0.2)
    status, answer = server.post(f"/train/{MODEL}", {"max_epochs": 1})  # one at a time
    assert (status, "Already Running" in answer["detail"]) == (429, True)
    training = server.get_json("/page/train")  # the page follows it
    assert (training["status"], training["max_epochs"], training["held_out"]) == ("running", 25, 1)
    server.wait_for_training()
    assert server.weights.read_bytes() != before
    truth = bright(images, "case_5")
    assert dice(inferred(server, "case_5", images), truth) > max(0.7, dice(first, truth))


def test_polygons_for_cvat(server, images, monkeypatch):
    """After the training above, through the function that MONAI Label's CVAT plugin runs, without CVAT around it."""
    detector = plugin("cvat/detector.py")
    monkeypatch.setenv("MONAI_LABEL_SERVER", server.url)
    monkeypatch.setenv("MONAI_LABEL_MODEL", MODEL)
    context = SimpleNamespace(logger=logging, user_data=SimpleNamespace(), Response=lambda **answer: answer)
    detector.init_context(context)
    content = base64.b64encode((images / "case_5.png").read_bytes()).decode()
    shapes = json.loads(detector.handler(context, SimpleNamespace(body={"image": content}))["body"])
    assert {(shape["label"], shape["type"]) for shape in shapes} == {("lesion", "polygon")}
    points = np.concatenate([np.array(shape["points"]).reshape(-1, 2) for shape in shapes])
    rows, columns = np.nonzero(bright(images, "case_5"))
    np.testing.assert_allclose(points.mean(0), [columns.mean(), rows.mean()], atol=8)


# a half: columns 0 to 29, rows 0 to 39; everything; a corner, squares of 64 pixels and of 4
@pytest.mark.parametrize(
    "regions", [[(0, 0, 29, 39)], [(0, 0, 59, 39)], [(0, 0, 19, 19), (40, 5, 47, 12), (30, 3, 31, 4)]]
)
def test_polygons_enclose_every_region(regions, monkeypatch):
    """Exactly; Pillow fills a polygon up to and including its outline."""
    main = app_module("main", monkeypatch)
    mask = np.zeros((40, 60), np.uint8)
    for left, top, right, bottom in regions:
        mask[top : bottom + 1, left : right + 1] = 1
    task = object.__new__(main.InferTask)
    task.key_pred, task.labels, task.dimension = "pred", {"lesion": 1}, 2
    monkeypatch.setattr(main.ParsedTask, "post_transforms", lambda self, data: [])
    (contours,) = task.post_transforms({"output": "json"})
    (found,) = contours({"pred": mask.T})["result"]["annotation"]["elements"]
    drawn = Image.new("L", (60, 40))
    for polygon in found["contours"]:
        ImageDraw.Draw(drawn).polygon([tuple(point) for point in polygon], fill=1, outline=1)
    np.testing.assert_array_equal(np.asarray(drawn), mask)


def test_next_image_by_uncertainty(server):
    unlabelled = {"case_5", "grey", "rgba", "photo", "small"}
    assert server.score(simulation_size=3)["total"] == len(unlabelled)
    store = server.client.datastore()["objects"]
    scores = {name: item["image"]["info"].get("epistemic_entropy", 0) for name, item in store.items()}
    assert all(0 < scores[name] < 1 for name in unlabelled)
    assert server.client.next_sample("uncertainty", {})["id"] == max(unlabelled, key=lambda name: scores[name])


def test_batch_inference(server):
    options = {"multi_gpu": False, "save_label": True, "label_tag": "original", "max_workers": 1}
    assert server.post(f"/batch/infer/{MODEL}?images=unlabeled&run_sync=true", options)[0] == 200
    written = {path.stem for path in (server.work_dir / "images" / "labels" / "original").iterdir()}
    assert written == {"case_5", "grey", "rgba", "photo", "small"}


def test_errors_say_what_is_wrong_and_the_server_lives_on(server, tmp_path):
    for path in ("/infer/nope?image=case_0&output=image", "/train/nope", "/scoring/nope?run_sync=true"):
        status, answer = server.post(path)
        assert (status, answer["detail"]) == (404, f"No model 'nope'. There is: {MODEL}.")
    status, answer = server.post(f"/infer/{MODEL}?image=nope&output=image")
    assert (status, "No image 'nope'" in answer["detail"]) == (404, True)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(Exception, match="cannot be used: it is no image"):  # their exception's module moves
        server.client.infer(MODEL, "", {}, file=str(tmp_path / "text.png"))
    server.client.infer(MODEL, "case_0", {})


def test_started_again_it_goes_on(server, images, tmp_path):
    work = Path(shutil.copytree(server.work_dir, tmp_path / "work", symlinks=True))
    with labelling(work, images) as again:
        assert again.client.info()["datastore"]["completed"] >= 5
        assert again.weights.read_bytes() == server.weights.read_bytes()
    command = label_server(work, "--images", images, "--checkpoint", "other.pt")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "has weights already" in done.stderr) == (1, True)


def test_stock_app_of_monai_label(images, unpacked, tmp_path):
    """The packed bundle in MONAI Label's own monaibundle app, unchanged: infer, score, train."""
    python = [sys.executable, "-m", "monailabel.main"]
    download = [*python, "apps", "--download", "--name", "monaibundle", "--output", str(tmp_path)]
    subprocess.run(download, check=True, capture_output=True)
    app = tmp_path / "monaibundle"
    shutil.copytree(unpacked, app / "model" / MODEL)
    studies = Path(shutil.copytree(images, tmp_path / "studies"))
    command = [*python, "start_server", "--app", str(app), "--studies", str(studies), "--host", "127.0.0.1"]
    for key, value in {"models": MODEL, "epistemic_model": MODEL, "zoo_source": "local", "sam2": "false"}.items():
        command += ["--conf", key, value]
    environment = {"OMP_NUM_THREADS": "1", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    (tmp_path / "stock").mkdir()
    with serving(command, tmp_path / "stock", environment) as server:
        for name in ("case_3", "rgba", "grey"):
            inferred(server, name, studies)
        for index in range(4):
            send_label(server, f"case_{index}", bright(studies, f"case_{index}"))
        # one at a time: in MONAI Label's own app, two threads collide when they parse the config
        assert server.score(simulation_size=2, max_samples=2, max_workers=1)["executed"] == 2
        weights = app / "model" / MODEL / "models" / "model.pt"
        before = weights.read_bytes()
        server.client.train_start(MODEL, {"max_epochs": 2, "multi_gpu": False})
        server.wait_for_training()
        assert weights.read_bytes() != before
