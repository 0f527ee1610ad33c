# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from unetv2_monai import InputError, RandLesionFreed

SIZE, LESION = 96, (slice(None), slice(10, 26), slice(12, 28))


def sample(background: int = 100) -> dict[str, torch.Tensor]:
    """A grey image with a bright square lesion; its red channel is a ramp of rows, by which places are told."""
    image = torch.full((3, SIZE, SIZE), background, dtype=torch.uint8)
    image[0] = torch.arange(SIZE, dtype=torch.uint8)[:, None]
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    mask[LESION] = 1
    image[1:][LESION] = 250
    return {"image": image, "label": mask}


def transform(seed: int = 0, **shares: float) -> RandLesionFreed:
    return RandLesionFreed(["image", "label"], **{"crop": 0.0, "cover": 0.0, **shares}).set_random_state(seed)


def kinds(random: RandLesionFreed, count: int = 60) -> list[dict[str, torch.Tensor]]:
    return [random(sample()) for _ in range(count)]


def test_nothing_happens_at_shares_of_zero():
    for out in kinds(transform(), 5):
        assert all(torch.equal(out[key], value) for key, value in sample().items())


def test_crops_are_lesion_free_or_keep_the_lesion():
    """Half of the crops have no lesion, neither in mask nor image; in the others mask and image still agree."""
    free = 0
    for out in kinds(transform(crop=0.5), 80):
        assert out["image"].shape == (3, SIZE, SIZE)
        assert out["image"].dtype == out["label"].dtype == torch.uint8
        assert not torch.equal(out["image"], sample()["image"])
        bright, marked = out["image"][1] > 175, out["label"][0] > 0
        assert (bright ^ marked).float().mean() < 0.02  # the outline, which is interpolated
        free += not marked.any()
        rows = out["image"][0].float().mean(1)
        assert 0.4 * SIZE - 3 < rows.max() - rows.min() < 0.8 * SIZE  # the height of the crop
    assert free >= 40


def test_covered_lesions_are_gone():
    """Half of the covered images have no bright pixel and an empty mask; the others keep the lesion as it was."""
    free = 0
    for out in kinds(transform(cover=0.5)):
        if out["label"].any():
            assert torch.equal(out["label"], sample()["label"])
            assert torch.equal(out["image"][1][LESION[1:]], sample()["image"][1][LESION[1:]])
        else:
            free += 1
            assert (out["image"][1].int() - 100).abs().max() <= 1  # the background's value everywhere
    assert 20 <= free <= 40


def test_no_room():
    """A lesion that leaves no room, and dark surroundings: the image stays as it is."""
    large = sample()
    large["label"][:] = 1
    for shares in ({"crop": 0.5}, {"cover": 0.5}):
        random = transform(**shares)
        for _ in range(8):
            out = random({key: value.clone() for key, value in large.items()})
            assert out["label"].all()
    dark = sample(background=0)
    dark["image"][0] = 0
    for _ in range(8):
        out = transform(crop=0.5)(dark)
        assert torch.equal(out["image"], dark["image"])


def test_drawn_by_the_seed_and_keeps_metadata():
    first, second, other = (kinds(transform(seed, crop=0.3, cover=0.2), 10) for seed in (1, 1, 2))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, second))
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(first, other))
    data = {key: MetaTensor(value, meta={"filename_or_obj": key}) for key, value in sample().items()}
    out = transform(crop=0.5)(data)
    assert [out[key].meta["filename_or_obj"] for key in data] == ["image", "label"]


def test_shares_that_are_none():
    with pytest.raises(ValueError, match=r"together at most 0\.5, got 0\.4 and 0\.2"):
        RandLesionFreed(["image", "label"], crop=0.4, cover=0.2)


def test_volumes_are_refused():
    volume = torch.zeros(1, 4, 4, 4)
    with pytest.raises(InputError, match=r"options/lesion_free.yaml is for images, not for volumes"):
        transform(crop=0.5)({"image": volume, "label": volume})


def test_normalised_images_are_refused():
    data = sample()
    data["image"] = data["image"].float() / 255
    with pytest.raises(InputError, match=r"got torch.float32. Add recipes/recommended.yaml before"):
        transform(crop=0.5)(data)
