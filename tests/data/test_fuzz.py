# SPDX-License-Identifier: Apache-2.0
"""Files with any content: no other error than InputError is raised, and memory stays bounded."""

import io
import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unetv2_monai import InputError, list_images, load_datalist, load_weights
from unetv2_monai.bundle.run_folder import check_checkpoint
from unetv2_monai.core.files import encoded
from unetv2_monai.data.volumes import MAX_VOXELS

from ..support.networks import Bright

FUZZ = int(os.environ.get("UNETV2_FUZZ", "40"))
LEFT_OUT = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
fuzz = settings(max_examples=FUZZ, deadline=None, derandomize=True, suppress_health_check=LEFT_OUT)
INTACT = {}
for ending, mode in (("png", "RGB"), ("jpg", "RGB"), ("bmp", "L"), ("tif", "RGBA"), ("png", "P"), ("tif", "I;16")):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    base = Image.fromarray(pixels[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(pixels)
    INTACT[ending, mode] = encoded(base.convert(mode), {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))


@st.composite
def mutated(draw, intact: bytes) -> bytes:
    """A file with some bytes changed, cut out or put in; sometimes cut short."""
    content = bytearray(intact)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        new = draw(st.binary(min_size=0, max_size=8))
        content[at : at + draw(st.integers(0, 8))] = new
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


image_files = st.sampled_from(sorted(INTACT)).flatmap(
    lambda key: st.tuples(st.just(key[0]), st.one_of(mutated(INTACT[key]), st.binary(max_size=200)))
)


def refusal(load: Callable[[], object]) -> str | None:
    """The message of an InputError; any other error fails the test."""
    try:
        load()
    except InputError as error:
        return str(error)
    return None


@fuzz
@given(image_files, st.sampled_from([1, 3]))
def test_images_and_masks(tmp_path, found, out_channels):
    """The same bytes as image and as mask."""
    ending, content = found
    folder = tmp_path / ending
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"a.{ending}").write_bytes(content)
    items = list_images(str(folder), skip_broken=True)
    assert len(items) + len(items.broken) == 1
    message = refusal(lambda: load_datalist(str(folder), ["test"], out_channels=out_channels))
    for line in [*items.broken, *([message] if message else [])]:
        assert f"a.{ending}" in line


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
sections = st.dictionaries(
    st.sampled_from(["training", "validation", "test"]),
    st.one_of(values, st.lists(st.dictionaries(st.sampled_from(["image", "label", "dataset"]), values, max_size=3))),
)


@fuzz
@given(st.one_of(values, sections).map(json.dumps) | st.text(max_size=50) | st.binary(max_size=50))
def test_datalists(tmp_path, content):
    content = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
    (tmp_path / "datalist.json").write_bytes(content)
    for wanted in (["training", "validation"], ["test"]):
        try:
            lists = load_datalist(str(tmp_path), wanted)
        except InputError:
            continue
        assert all(Path(item["image"]).is_file() for pairs in lists.values() for item in pairs)


buffer = io.BytesIO()
torch.save(Bright().state_dict(), buffer)
CHECKPOINT = buffer.getvalue()


@fuzz
@given(st.one_of(mutated(CHECKPOINT), st.binary(max_size=200)))
def test_checkpoints(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    for message in (refusal(lambda: load_weights(Bright(), path)), refusal(lambda: check_checkpoint(path))):
        assert message is None or str(path) in message


class Attack:
    def __reduce__(self):
        return (os.mkdir, ("attacked",))


def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"gain": Attack()}, tmp_path / "last.pt")
    assert refusal(lambda: load_weights(Bright(), tmp_path / "last.pt"))
    assert refusal(lambda: check_checkpoint(tmp_path / "last.pt"))
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_memory_is_bounded_for_volumes(ending, tmp_path):
    """A header that claims 30000 x 30000 x 30000 voxels is refused before any is read."""
    path = tmp_path / f"bomb{ending}"
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
    content = bytearray(nibabel.openers.Opener(str(path)).read())
    content[40:48] = struct.pack("<4h", 3, 30000, 30000, 30000)
    with nibabel.openers.Opener(str(path), "wb") as opened:
        opened.write(bytes(content))
    tracemalloc.start()
    images = list_images(str(path), skip_broken=True)
    assert images == []
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert f"more than the limit of {MAX_VOXELS}" in images.broken[0]
