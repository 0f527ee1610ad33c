# SPDX-License-Identifier: Apache-2.0
"""Images with a file for each channel."""

import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged
from PIL import Image

from unetv2_monai import InputError, PictureReader, list_images
from unetv2_monai.data.checks import check_pair
from unetv2_monai.data.layouts import read_folder

from ..conftest import script
from ..support.workflow import EVALUATE, INFERENCE, TINY, TRAIN, overlays, read_scores, refusal, run
from .folders import write_image


@pytest.fixture
def data(tmp_path):
    """Discs that the second channel alone shows."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :48]
    for index in range(6):
        disc = np.hypot(x - 16 - 3 * index, y - 20) < 11
        for channel, values in enumerate((rng.integers(0, 255, disc.shape), 40 + 150 * disc)):
            write_image(tmp_path / "data" / "images" / f"{index}_{channel:04d}.png", values.astype(np.uint8))
        write_image(tmp_path / "data" / "masks" / f"{index}.png", disc)
    return tmp_path / "data"


def test_read_as_they_are(data):
    (pair, *_) = read_folder(data).pairs
    paths = [data / "images" / f"0_000{channel}.png" for channel in (0, 1)]
    assert pair["image"] == [str(path) for path in paths]
    loaded = LoadImaged("image", reader=PictureReader())(pair)["image"]
    np.testing.assert_array_equal(loaded.numpy(), np.stack([np.asarray(Image.open(path)).T for path in paths]))


def test_trained_on_and_segmented(data, tmp_path):
    options = {**TINY, "dataset_dir": data, "output_dir": tmp_path / "out", "val_fraction": 0.3, "learning_rate": 0.01}
    run([*TRAIN, *overlays("options/channels")], "training", **options, max_epochs=12)
    weights = tmp_path / "out" / "models" / "model.pt"
    files = [EVALUATE[0], *overlays("options/channels"), EVALUATE[1]]
    run(files, "evaluating", **options)
    scores = read_scores(tmp_path / "out" / "evaluation", "dice")
    assert scores.keys() == {f"{index}_0000.png" for index in range(6)}
    assert np.mean(list(scores.values())) > 0.5
    script("report").main([str(tmp_path / "out")])
    assert (tmp_path / "out" / "report" / "overlays.png").is_file()
    plain = {"dataset_dir": data / "images", "image_size": [32, 32], "output_dir": tmp_path / "masks"}
    run(INFERENCE, "inference", **plain, checkpoint=weights, in_channels=2)
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.png")) == sorted(scores)
    assert torch.load(weights, weights_only=True)["encoder.model.conv_stem.weight"].shape[1] == 2


def test_which_files_are_one_image(data):
    assert [len(one["image"]) for one in list_images(str(data / "images"), in_channels=2)] == [2] * 6
    assert len(list_images(str(data / "images"), in_channels=3)) == 12  # frames, say
    assert len(list_images(str(data / "images"))) == 12
    (data / "images" / "3_0001.png").unlink()
    with pytest.raises(InputError, match=r"3_0000.png: images have 3 channels \(RGB\), but the network takes 2. Save"):
        list_images(str(data / "images"), in_channels=2)


def test_what_is_refused(data):
    (pair, *_) = read_folder(data).pairs
    assert check_pair(pair, in_channels=2) is None
    check = script("check_data").main
    check(["--dataset_dir", str(data), "--output_dir", str(data / "out"), "--in_channels", "2"])
    with pytest.raises(SystemExit):  # as training does
        check(["--dataset_dir", str(data), "--output_dir", str(data / "out")])
    for channels in (3, 4):
        said = refusal(check_pair, pair, in_channels=channels)
        assert f"an image of 2 files, but the network takes {channels} channels. Add --with channels" in said
    write_image(data / "images" / "0_0001.png", np.zeros((9, 8), np.uint8))
    assert "0_0001.png: (8, 9) (width, height), but 0_0000.png has (48, 40)." in refusal(
        check_pair, pair, in_channels=2
    )
    write_image(data / "images" / "0_0001.png", np.arange(9 * 8 * 3, dtype=np.uint8).reshape(9, 8, 3))
    assert "0_0001.png: a channel in colours. Save each channel in grey." in refusal(check_pair, pair, in_channels=2)
