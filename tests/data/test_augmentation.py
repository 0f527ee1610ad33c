# SPDX-License-Identifier: Apache-2.0

import pytest
import torch
from monai.data import MetaTensor

from unetv2_monai import RandLesionFreed

from ..support.workflow import refusal

SIZE, LESION = 96, (slice(None), slice(10, 26), slice(12, 28))
Sample = dict[str, torch.Tensor]


def sample(background: int = 100) -> Sample:
    """A grey image with a bright square lesion; its red channel is a ramp of rows, by which places are told."""
    image = torch.full((3, SIZE, SIZE), background, dtype=torch.uint8)
    image[0] = torch.arange(SIZE, dtype=torch.uint8)[:, None]
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    mask[LESION] = 1
    image[1:][LESION] = 250
    return {"image": image, "label": mask}


def transform(seed: int = 0, **shares: float) -> RandLesionFreed:
    return RandLesionFreed(["image", "label"], **{"crop": 0.0, "cover": 0.0, **shares}).set_random_state(seed)


def results(count: int, seed: int = 0, **shares: float) -> list[Sample]:
    random = transform(seed, **shares)
    return [random(sample()) for _ in range(count)]


def test_nothing_happens_at_shares_of_zero():
    for out in results(5):
        assert all(torch.equal(out[key], value) for key, value in sample().items())


def test_crops_are_lesion_free_or_keep_the_lesion():
    """Half of the crops have no lesion, neither in mask nor image; in the others mask and image still agree."""
    free = 0
    for out in results(80, crop=0.5):
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
    for out in results(60, cover=0.5):
        if out["label"].any():
            assert torch.equal(out["label"], sample()["label"])
            assert torch.equal(out["image"][1][LESION[1:]], sample()["image"][1][LESION[1:]])
        else:
            free += 1
            assert (out["image"][1].int() - 100).abs().max() <= 1  # the background's value everywhere
    assert 20 <= free <= 40


@pytest.mark.parametrize("shares", [{"crop": 0.5}, {"cover": 0.5}])
def test_a_lesion_that_leaves_no_room(shares):
    random, large = transform(**shares), sample() | {"label": torch.ones(1, SIZE, SIZE, dtype=torch.uint8)}
    assert all(random(large)["label"].all() for _ in range(8))


def test_dark_surroundings_are_not_cropped():
    random, dark = transform(crop=0.5), sample(background=0)
    dark["image"][0] = 0
    assert all(torch.equal(random(dark)["image"], dark["image"]) for _ in range(8))


def test_drawn_by_the_seed_and_keeps_metadata():
    first, second, other = (results(10, seed, crop=0.3, cover=0.2) for seed in (1, 1, 2))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(first, second))
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(first, other))
    data = {key: MetaTensor(value, meta={"filename_or_obj": key}) for key, value in sample().items()}
    out = transform(crop=0.5)(data)
    assert not torch.equal(out["image"], data["image"])
    assert [out[key].meta["filename_or_obj"] for key in data] == ["image", "label"]


def test_what_is_refused():
    message = refusal(RandLesionFreed, ["image", "label"], crop=0.4, cover=0.2)
    assert message.endswith("shares, together at most 0.5, got 0.4 and 0.2.")
    volume = torch.zeros(1, 4, 4, 4)
    assert "is for images, not for volumes" in refusal(transform(), {"image": volume, "label": volume})
    normalised = sample() | {"image": sample()["image"].float() / 255}
    assert "got torch.float32. Normalise them after it." in refusal(transform(), normalised)
