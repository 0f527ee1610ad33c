# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from unetv2_monai import UNetV2

from ...support.workflow import DEFAULT_BACKBONE
from .attacks import listing
from .browser import Page, browsing
from .support import SMALL, Server, draw_cases, labelling


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of images of every mode, none of them square; their masks are beside it."""
    folder = draw_cases(tmp_path_factory.mktemp("images"), 6, (90, 60), step=6)
    with Image.open(folder / "case_0.png") as image:
        image.convert("L").save(folder / "grey.png")
        image.convert("RGBA").save(folder / "rgba.png")
        image.save(folder / "photo.JPG", quality=95)
        image.save(folder / "small.jpeg", quality=95)
    return folder


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory) -> Path:
    """Weights of the default network that mark about half of everything."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.manual_seed(0)
    torch.save(UNetV2(backbone=DEFAULT_BACKBONE).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def server(images, random_weights, tmp_path_factory, request) -> Iterator[Server]:
    """The server of scripts/label_server.py for the module's images and ``OPTIONS``, by default random weights."""
    options = getattr(request.module, "OPTIONS", ("--checkpoint", random_weights, *SMALL))
    with labelling(tmp_path_factory.mktemp("label") / "work", images, *options) as started:
        yield started


@pytest.fixture(scope="module")
def attacked(images, random_weights, tmp_path_factory) -> Iterator[Server]:
    """With a small limit for files, and no scoring, which would write by itself."""
    work = tmp_path_factory.mktemp("security") / "work"
    options = ("--checkpoint", random_weights, *SMALL, "--max_upload", 1)
    with labelling(work, images, *options, scores=False) as started:
        yield started


@pytest.fixture
def page(server) -> Iterator[Page]:
    """A fresh browser on the page of the module's server."""
    with browsing(server.address) as opened:
        yield opened


@pytest.fixture
def unchanged(attacked, images):
    """After the test, no file has been written, changed or removed, and nothing has run."""
    before = listing(images.parent, attacked.work_dir)
    yield
    assert listing(images.parent, attacked.work_dir) == before
    for folder in (images, attacked.work_dir, Path.cwd()):
        assert not list(folder.glob("pwned*"))
    assert attacked.get_json("/info/")["datastore"]["total"] == 10
