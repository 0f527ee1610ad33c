# SPDX-License-Identifier: Apache-2.0
"""The recipe for volumes: its spacing and intensities against values computed by hand, its training and its labels."""

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics import SurfaceDiceMetric
from monai.transforms import EnsureChannelFirstd, LoadImaged
from monai.utils import optional_import

from unetv2_monai import load_datalist
from unetv2_monai.data.checks import check_pair
from unetv2_monai.data.volumes import read_volume

from ..conftest import draw_boxes, read_table
from ..data.folders import touch, write_volume
from ..support.workflow import EVALUATE, INFERENCE, TRAIN, cases, overlays, parsed, refusal, run
from .test_volume_geometry import SLABS, expected, infer

TRAINING, INFERRING = ([*base, *overlays("recipes/volumes")] for base in (TRAIN, INFERENCE))
BOTH = [(TRAINING, "validate#preprocessing"), (INFERRING, "preprocessing")]
COARSE = np.diag([1.0, 1.0, 2.0, 1.0])  # voxels of 1 x 1 x 2 mm


def transformed(files: list[str], key: str, item: dict[str, str], **options):
    parser = parsed(files, num_workers=0, **options)
    item = item if "train" in parser else {"image": item["image"]}
    transforms = parser.get_parsed_content(key)
    for transform in getattr(transforms, "transforms", transforms):
        item = transform(item)
    return item


def written(folder, affine=None, **volumes) -> dict[str, str]:
    """A file of each volume."""
    return {name: write_volume(folder / f"{name}.nii.gz", values, affine) for name, values in volumes.items()}


@pytest.fixture
def stairs(tmp_path):
    """0, 10, 20, ... from below to above; class 1 in the two upper ones of five slices."""
    values = np.broadcast_to(10.0 * np.arange(5), (3, 4, 5))
    return written(tmp_path, COARSE, image=values, label=(values > 25).astype(np.uint8))


@pytest.mark.parametrize(("files", "key"), BOTH)
@pytest.mark.parametrize(("options", "values"), cases("data", "intensities"), ids=str)
def test_intensities_and_spacing(files, key, options, values, stairs):
    image = transformed(files, key, stairs, **options)["image"]
    assert image.shape == (1, 3, 4, len(values))
    assert image[0, 0, 0].tolist() == pytest.approx(values, abs=1e-5)
    assert image.pixdim.tolist() == pytest.approx(options.get("spacing", [1, 1, 2]))


def test_spacing_of_labels(stairs):
    """Resampled with the image in training, by nearest neighbour; untouched where predictions are scored."""
    options = {"spacing": [1, 1, 1], "image_size": [2, 2, 2]}
    label = transformed(TRAINING, "transforms#cached", stairs, **options)["label"]
    assert label.shape == (1, 3, 4, 9)
    assert set(label.unique().tolist()) == {0, 1}
    assert [label[0, 0, 0, index] for index in range(0, 9, 2)] == [0, 0, 0, 1, 1]
    scored = transformed(TRAINING, "validate#preprocessing", stairs, **options)["label"]
    assert scored.shape == (1, 3, 4, 5)


@pytest.mark.parametrize("spacing", [None, [2, 2, 2]])
def test_labels_are_trained_on_the_grid_of_their_image(spacing, tmp_path):
    """By rounding, the image alone would have one voxel more in each dimension at 2 mm."""
    values = np.zeros((24, 28, 20), np.uint8)
    values[8:16, 10:18, 6:14] = 1
    item = written(tmp_path, np.diag([1.00001, 1.00001, 1.00001, 1]), image=values.astype(np.float32))
    item |= written(tmp_path, label=values)
    both = transformed(TRAINING, "transforms#cached", item, spacing=spacing, image_size=8)
    assert both["image"].shape == both["label"].shape
    assert both["label"].sum() > 50
    assert both["image"][both["label"] == 1].mean() - both["image"][both["label"] == 0].mean() > 3


@pytest.mark.parametrize("names", [(), (SLABS,)], ids=["windows", "slabs"])
def test_predictions_return_to_the_grid_of_the_file(names, tmp_path):
    """The finer grid has the voxels of the file: each label is that of its value by mean and deviation of this grid."""
    values = np.round(np.random.default_rng(0).normal(0, 50, (12, 10, 9)))
    turned = nibabel.affines.from_matvec(np.diag([-1.0, 1.0, 2.0]), (5, 6, 7))
    write_volume(tmp_path / "in" / "a.nii.gz", values, turned)
    label = nibabel.load(infer(tmp_path, *names, spacing=[1, 1, 1]) / "a.nii.gz")
    assert label.shape == values.shape
    np.testing.assert_allclose(label.affine, turned)
    finer = np.empty((12, 10, 17))
    finer[..., ::2] = values
    finer[..., 1::2] = (values[..., :-1] + values[..., 1:]) / 2
    assert (np.asarray(label.dataobj) == expected(finer)[..., ::2]).mean() > 0.999
    assert (expected(values) != expected(finer)[..., ::2]).mean() > 0.01  # so the finer grid was used


TURNED = nibabel.affines.from_matvec(np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]), (30, -7, 4))  # another valid form


@pytest.mark.parametrize(
    ("qform", "sform", "drawn"),
    [
        (np.eye(4), np.diag([2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1])),  # voxels of 1 mm by pixdim, of 2 mm by the sform
        (np.eye(4), TURNED, np.eye(4)),  # a registered scan, with a label of ITK's tools, which take the qform
        (np.eye(4), TURNED, TURNED),
    ],
)
def test_no_class_is_lost_where_a_header_states_two_grids(tmp_path, qform, sform, drawn):
    values = np.zeros((20, 24, 16), np.uint8)
    values[4:12, 6:14, 5:9], values[12:18, 6:14, 5:9] = 1, 2
    image = nibabel.Nifti1Image(values.astype(np.float32), None)
    image.set_sform(sform, 2)
    image.set_qform(qform, 1)
    (tmp_path / "imagesTr").mkdir()
    nibabel.save(image, tmp_path / "imagesTr" / "a.nii.gz")
    write_volume(tmp_path / "labelsTr" / "a.nii.gz", values, drawn)
    (item,) = load_datalist(str(tmp_path), ["test"], out_channels=3)["test"]
    label = transformed(TRAINING, "transforms#cached", item, image_size=8)["label"]
    assert [int((label == index).sum()) for index in (1, 2)] == [8 * 8 * 4, 6 * 8 * 4]
    shifted = nibabel.affines.from_matvec(np.eye(3), (3, 0, 0)) @ drawn
    item["label"] = write_volume(tmp_path / "elsewhere.nii.gz", values, shifted)
    assert "lies elsewhere than a.nii.gz" in refusal(check_pair, item, out_channels=3)
    # also where nothing is checked before
    assert "lies elsewhere" in refusal(transformed, TRAINING, "transforms#cached", item, image_size=8)


def test_nothing_is_added_outside_a_label(tmp_path):
    """Affines may differ by rounding; the class at the label's border is not drawn out over the image."""
    values = np.ones((10, 10, 10), np.uint8)
    item = written(tmp_path, image=np.random.default_rng(0).normal(size=(20, 10, 10)), label=values)
    parser = parsed(TRAINING)
    loaded = {key: parser.get_parsed_content(f"transforms#load_{key}") for key in ("image", "label")}
    image = loaded["image"](item)
    label = LoadImaged("label", reader="NibabelReader")(item)["label"]
    pair = EnsureChannelFirstd(["image", "label"])({"image": image["image"], "label": label})
    assert parser.get_parsed_content("transforms#resample_label")(pair)["label"].sum() == 1000


def test_channels_are_standardised_apart(tmp_path):
    """Whether one file holds them, or each has a file of its own."""
    first, second = np.arange(60.0).reshape(3, 4, 5), 1000 + np.arange(60.0)[::-1].reshape(3, 4, 5)
    files = written(tmp_path, COARSE, a_0000=first, a_0001=second, both=np.stack([first, second], axis=-1))
    label = write_volume(tmp_path / "label.nii.gz", (3, 4, 5), COARSE)
    for paths in (files["both"], [files["a_0000"], files["a_0001"]]):
        item = {"image": paths, "label": label}
        check_pair(item, in_channels=2)
        image = transformed(INFERRING, "preprocessing", item, in_channels=2)["image"]
        assert image.shape == (2, 3, 4, 5)
        assert image[0].flatten().tolist() == pytest.approx(image[1].flatten().tolist()[::-1], abs=1e-3)
    item["image"][1] = write_volume(tmp_path / "b_0001.nii.gz", second)
    assert "b_0001.nii.gz: cannot be a channel of a_0000.nii.gz" in refusal(check_pair, item)


def test_endings_in_capitals_and_of_free_surfer(tmp_path):
    values = np.random.default_rng(0).normal(0, 50, (12, 10, 9)).astype(np.float32)
    write_volume(tmp_path / "in" / "UPPER.NII.GZ", values, COARSE)
    nibabel.save(nibabel.MGHImage(values, COARSE), tmp_path / "in" / "brain.mgz")
    out = infer(tmp_path)
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["UPPER.nii.gz", "brain.nii.gz"]
    labels = [nibabel.load(out / name) for name in ("UPPER.nii.gz", "brain.nii.gz")]
    for label in labels:
        np.testing.assert_allclose(label.affine, COARSE)
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.asarray(labels[0].dataobj))


def test_volumes_that_itk_reads(tmp_path):
    """MetaImage and NRRD, whose axes point to the left and back, give the labels of the same volume in NIfTI."""
    itk = pytest.importorskip("itk")
    values = np.random.default_rng(0).normal(0, 50, (12, 10, 9)).astype(np.float32)
    affine = nibabel.affines.from_matvec(np.array([[0, -1.5, 0], [1, 0, 0], [0, 0, 2]]), (5, 6, 7))
    write_volume(tmp_path / "in" / "a.nii.gz", values, affine)
    image = itk.image_from_array(np.ascontiguousarray(values.T))
    image.SetSpacing([1.0, 1.5, 2.0])
    image.SetOrigin([-5.0, -6, 7])
    image.SetDirection(itk.matrix_from_array(np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]])))
    for ending in ("mha", "nrrd"):
        itk.imwrite(image, str(tmp_path / "in" / f"{ending}.{ending}"))
    out = infer(tmp_path)
    labels = {path.name: nibabel.load(path) for path in out.glob("*.nii.gz")}
    assert sorted(labels) == ["a.nii.gz", "mha.nii.gz", "nrrd.nii.gz"]
    for label in labels.values():
        np.testing.assert_allclose(label.affine, affine, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(label.dataobj), np.asarray(labels["a.nii.gz"].dataobj))
    check_pair({"image": str(tmp_path / "in" / "mha.mha"), "label": str(out / "a.nii.gz")}, out_channels=3)


def test_without_itk(tmp_path, monkeypatch):
    touch(tmp_path, "a.nrrd")
    monkeypatch.setattr("unetv2_monai.data.volumes.ITKReader", lambda: optional_import("no_itk")[0]())
    assert "not installed: pip install itk." in refusal(read_volume, str(tmp_path / "a.nrrd"))


def test_volumes_after_the_recommended_recipe():
    """Its optimiser and schedule, with the transforms and batches of volumes."""
    alone = parsed(TRAINING)
    recommended = parsed([*TRAIN, *overlays("recipes/recommended", "recipes/volumes")], bundle_dir=".")
    assert (recommended["learning_rate"], recommended["max_epochs"]) == (0.002, 24)
    for key in ("batch_size", "transforms#cached", "transforms#crops", "transforms#augment", "validate#preprocessing"):
        assert recommended[key] == alone[key]
    optimizer = recommended.get_parsed_content("optimizer")
    network = recommended.get_parsed_content("network")
    assert type(optimizer).__name__ == "Muon"
    optimised = sorted(id(one) for group in optimizer.param_groups for one in group["params"])
    assert optimised == sorted(id(one) for one in network.parameters() if one.requires_grad)


def test_volumes(tmp_path):
    """Training, evaluation and inference on NIfTI; predicted labels lie where their image lies."""
    affine = np.array([[-1.5, 0, 0, 10], [0, 0, 2, -5], [0, -1, 0, 3], [0, 0, 0, 1.0]])  # turned and flipped
    draw_boxes(tmp_path / "data", 4, affine)
    images, labels, out = (tmp_path / name for name in ("data/imagesTr", "data/labelsTr", "out"))
    small = {"image_size": [16, 16, 16], "network_def#channels": 8, "num_workers": 0, "dataset_dir": tmp_path / "data"}
    options = {"max_epochs": 12, "batch_size": 2, "val_fraction": 0.25, **small}
    run(TRAINING, "training", output_dir=out, **options)
    run([*TRAINING, EVALUATE[1]], "evaluating", output_dir=out, surface_tolerance=1.5, **small)
    rows = read_table(out / "evaluation" / "scores.csv")
    assert [row["class"] for row in rows] == ["1", "2"] * 4  # without the background
    options = {**small, "dataset_dir": images, "checkpoint": out / "models" / "model.pt"}
    run(INFERRING, "inference", output_dir=out, **options)
    for first, second in zip(rows[::2], rows[1::2]):
        name = first["image"].rsplit("/", 1)[1]
        image, label, prediction = (nibabel.load(folder / name) for folder in (images, labels, out))
        assert prediction.shape == image.shape
        np.testing.assert_allclose(prediction.affine, image.affine)
        truth, guess = np.asarray(label.dataobj), np.asarray(prediction.dataobj)
        dice = [2 * ((truth == c) & (guess == c)).sum() / ((truth == c).sum() + (guess == c).sum()) for c in (1, 2)]
        assert [float(first["dice"]), float(second["dice"])] == pytest.approx(dice, abs=1e-4)
        metric = SurfaceDiceMetric([1.5, 1.5])  # without the background; mm
        one_hot = (torch.from_numpy(np.stack([values == c for c in (0, 1, 2)]))[None] for values in (guess, truth))
        surface = metric(*one_hot, spacing=[1.5, 1.0, 2.0])[0].tolist()
        assert [float(first["surface_dice"]), float(second["surface_dice"])] == pytest.approx(surface, abs=1e-4)
