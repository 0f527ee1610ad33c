# SPDX-License-Identifier: Apache-2.0
"""Volumes on a real server, by the client of 3D Slicer's extension: calls and values are those of its buttons."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from .support import MODEL, Server, dice, plugin

pytest.importorskip("monailabel")
itk = pytest.importorskip("itk")
COUNT = 6
OPTIONS = ("--recipe", "volumes", "--set", "image_size=[16,16,16]", "network_def#channels=8", "batch_size=2")
TURNED = np.array([[-1.5, 0, 0, 10], [0, 0, 2, -5], [0, -1, 0, 3], [0, 0, 0, 1.0]])
OBLIQUE = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.3, -0.2, 0.15) * [1.0, 1.2, 0.9], (3, -4, 20))
AFFINES = (TURNED, OBLIQUE, np.eye(4))


def truth(index: int) -> np.ndarray:
    """Two touching boxes in a volume whose size and place differ."""
    label = np.zeros((20 + index, 22, 18), np.uint8)
    x, y, z = np.random.default_rng(index).integers(2, 5, 3)
    label[x : x + 7, y : y + 8, z : z + 6] = 1
    label[x + 7 : x + 13, y + 4 : y + 12, z + 3 : z + 10] = 2
    return label


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    for index in range(COUNT):
        label = truth(index)
        values = np.random.default_rng(index).normal(0, 5, label.shape) + 60 * label
        image = nibabel.Nifti1Image(values.astype(np.int16), AFFINES[index % 3])
        image.set_qform(AFFINES[index % 3], code="scanner")
        nibabel.save(image, folder / f"case_{index}.nii.gz")
    return folder


class Slicer:
    """What the buttons of the extension do, after ``MONAILabel.py`` of MONAI Label 0.8.5."""

    def __init__(self, server: Server, folder: Path) -> None:
        module = plugin("slicer/MONAILabel/MONAILabelLib/client.py")
        self.client = module.MONAILabelClient(server.url, str(folder), "user-xyz")
        assert not self.client.auth_enabled()  # asked before every call
        self.info, self.folder = self.client.info(), folder

    def options(self, section: str, name: str) -> dict[str, Any]:
        """Slicer sends back what ``/info/`` states, of a list the first entry."""
        stated = self.info[section][name].get("config", {})
        return {key: value[0] if isinstance(value, list) else value for key, value in stated.items()}

    def next_sample(self, strategy: str) -> dict[str, Any]:
        return self.client.next_sample(strategy, self.options("strategies", strategy))

    def segment(self, image: str) -> tuple[Any, dict[str, Any]]:
        params = {**self.options("models", MODEL), "result_extension": ".nrrd", "result_dtype": "uint8"}
        path, answer = self.client.infer(MODEL, image, params)
        assert path.endswith(".nrrd")
        return itk.imread(path), answer

    def save(self, image: str, volume: Path, values: np.ndarray, segments: list[str]) -> dict[str, Any]:
        """Segments are numbered in the order of Slicer's list."""
        labelmap = itk.image_from_array(np.ascontiguousarray(values.T))
        labelmap.CopyInformation(itk.imread(str(volume)))
        path = self.folder / "label.nii.gz"
        itk.imwrite(labelmap, str(path))
        label_info = [{"name": name, "idx": index + 1} for index, name in enumerate(segments)]
        return self.client.save_label(image, str(path), params={"label_info": label_info})


@pytest.fixture(scope="module")
def slicer(server, tmp_path_factory) -> Slicer:
    return Slicer(server, tmp_path_factory.mktemp("slicer"))


def test_what_slicer_reads_at_the_start(slicer):
    assert slicer.info["labels"] == ["anterior", "posterior"]  # segments are made in this order, from 1 on
    model = slicer.info["models"][MODEL]
    assert (model["type"], model["dimension"]) == ("segmentation", 3)
    assert model["labels"] == {"anterior": 1, "posterior": 2}
    assert list(slicer.info["trainers"]) == [MODEL]
    assert (slicer.info["datastore"]["total"], slicer.info["datastore"]["completed"]) == (COUNT, 0)
    assert slicer.info["train_stats"] == {MODEL: {}}
    assert slicer.client.train_status(True) is False


@pytest.mark.parametrize("index", range(3))
def test_segmenting_keeps_the_grid(index, server, slicer, images):
    """As NRRD, which Slicer asks for, and as NIfTI with the header of the volume."""
    volume = images / f"case_{index}.nii.gz"
    status, downloaded = server.call("GET", f"/datastore/image?image=case_{index}")
    assert (status, downloaded) == (200, volume.read_bytes())
    found, answer = slicer.segment(f"case_{index}")
    image = itk.imread(str(volume))
    assert answer["label_names"] == {"anterior": 1, "posterior": 2}
    assert itk.size(found) == itk.size(image)
    np.testing.assert_allclose(itk.origin(found), itk.origin(image), atol=1e-5)
    np.testing.assert_allclose(itk.spacing(found), itk.spacing(image), atol=1e-5)
    np.testing.assert_allclose(*(itk.array_from_matrix(each.GetDirection()) for each in (found, image)), atol=1e-6)
    values = itk.array_from_image(found).T
    assert values.dtype == np.uint8
    assert set(np.unique(values)) <= {0, 1, 2}
    path, _ = server.client.infer(MODEL, f"case_{index}", {})
    label, image = nibabel.load(path), nibabel.load(volume)
    assert (np.asarray(label.dataobj) == values).all()
    for form in ("get_sform", "get_qform"):
        (a, code), (b, expected) = (getattr(each, form)(coded=True) for each in (label, image))
        assert code == expected
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_whole_round(server, slicer, images):
    """The next volume, a label of it, again and again; training; better predictions of a volume that has no label."""
    for _ in range(COUNT - 1):
        sample = slicer.next_sample("first")
        image = sample["id"]
        assert (sample["name"], Path(sample["path"]).name) == (f"{image}.nii.gz",) * 2
        label = truth(int(image[-1]))
        assert slicer.save(image, images / sample["name"], label, slicer.info["labels"])["label"] == image
        back = nibabel.load(slicer.client.download_label(image, "final"))
        assert (np.asarray(back.dataobj) == label).all()
        np.testing.assert_allclose(back.affine, nibabel.load(images / sample["name"]).affine, atol=1e-5)
    assert slicer.client.info()["datastore"]["completed"] == COUNT - 1
    last = slicer.next_sample("first")["id"]

    def scores() -> list[float]:
        found, expected = itk.array_from_image(slicer.segment(last)[0]).T, truth(int(last[-1]))
        return [dice(found == value, expected == value) for value in (1, 2)]

    before = scores()
    started = slicer.client.train_start(MODEL, {**slicer.options("trainers", MODEL), "max_epochs": 12})
    assert started["status"] in ("SUBMITTED", "RUNNING")
    time.sleep(1)  # as the extension does
    assert slicer.client.train_status(True) is True
    shown = []
    while (status := slicer.client.train_status(False))["status"] in ("SUBMITTED", "RUNNING"):
        shown.append(slicer.client.info()["train_stats"][MODEL])
        time.sleep(0.5)
    assert status["status"] == "DONE", "\n".join(status["details"])
    epochs = [stats["epoch"] for stats in shown if stats]
    assert epochs == sorted(epochs)
    assert 1 < max(epochs) <= 12
    assert {stats["total_epochs"] for stats in shown if stats} == {12}
    assert 0 < shown[-1]["best_metric"] <= 1
    assert min(scores()) > max(0.5, *before)


def test_uncertainty_of_volumes(server, slicer):
    """After the round: the volumes that have no label get one, by passes with dropout."""
    assert server.score(simulation_size=3)["total"] == 1
    store = slicer.client.datastore()["objects"]
    (image,) = (name for name, entry in store.items() if "final" not in entry["labels"])
    assert 0 < store[image]["image"]["info"]["epistemic_entropy"] < 2
    assert slicer.next_sample("uncertainty")["id"] == image


def test_segments_in_another_order(server, slicer, images):
    """Their names decide, in upper or lower case; the header stays as it was sent."""
    label = truth(1)
    other = np.array([0, 3, 1], np.uint8)[label]  # posterior first; the second one is empty
    slicer.save("case_1", images / "case_1.nii.gz", other, ["Posterior", "tumour", "anterior"])
    back = nibabel.load(server.label("case_1", ".nii.gz"))
    assert (np.asarray(back.dataobj) == label).all()
    sent = nibabel.load(slicer.folder / "label.nii.gz")
    np.testing.assert_array_equal(back.affine, sent.affine)
    assert back.get_sform(coded=True)[1] == sent.get_sform(coded=True)[1]
    info = slicer.client.datastore()["objects"]["case_1"]["labels"]["final"]["info"]
    assert info["label_info"] == [{"name": "anterior", "idx": 1}, {"name": "posterior", "idx": 2}]


def test_labels_that_are_refused(server, slicer, images, tmp_path):
    volume, label, moved = images / "case_0.nii.gz", truth(0), str(tmp_path / "moved.nii.gz")
    slicer.save("case_0", volume, label, ["anterior", "posterior"])
    before = server.label("case_0", ".nii.gz").read_bytes()
    nibabel.save(nibabel.Nifti1Image(label, TURNED @ nibabel.affines.from_matvec(np.eye(3), (0, 4, 0))), moved)

    def refused(said: str, call: Callable, *given: Any) -> None:
        with pytest.raises(Exception, match="Status: 422") as info:  # the class is of the extension's module
            call("case_0", *given)
        assert said in info.value.msg
        assert server.label("case_0", ".nii.gz").read_bytes() == before

    classes = "the segment 'tumour' is no class. There is: anterior, posterior"
    refused(classes, slicer.save, volume, label, ["anterior", "tumour"])
    refused("it holds the value 2, which no segment has", slicer.save, volume, label, ["anterior"])
    elsewhere = "lies elsewhere than case_0.nii.gz, by up to 4.0 voxels"
    refused(elsewhere, server.client.save_label, moved, "final")


def test_the_page_says_where_volumes_are_labelled(server):
    assert server.get_json("/page/state")["volumes"]
    status, answer = server.call("GET", "/page/image?id=case_0")
    said = "The page shows images of two dimensions. Use 3D Slicer for volumes."
    assert (status, json.loads(answer)["detail"]) == (422, said)
    assert "Give it to 3D Slicer's MONAILabel as server" in server.log.read_text()


def test_a_volume_that_is_sent_first(server, slicer, images, tmp_path):
    """Slicer's button Upload, for a volume that was loaded from a file."""
    path = shutil.copy(images / "case_1.nii.gz", tmp_path / "mine.nii.gz")
    assert slicer.client.upload_image(str(path), "mine") == {"image": "mine"}
    found, _ = slicer.segment("mine")
    assert list(itk.size(found)) == [21, 22, 18]
    assert not (images / "mine.nii.gz").exists()
