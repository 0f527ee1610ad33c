# SPDX-License-Identifier: Apache-2.0
"""Recipes and the rows of the paper's ablation, trained for a few steps through the configs."""

from __future__ import annotations

import math

import pytest
import torch
from monai.bundle import ConfigParser

from unetv2_monai import InputError, UNetV2

from ..conftest import ROOT, draw_pair
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, EVALUATE, INFERENCE, TINY, TRAIN, run, workflow

ROWS = {
    "attention spatial_first": {"network_def#attention": "spatial_first"},
    "sdi False": {"network_def#sdi": False},
    "attention none": {"network_def#attention": "none"},
    "channels 16": {"network_def#channels": 16},
    "fusion add": {"network_def#fusion": "add"},
    "upsample interp": {"network_def#upsample": "interp"},
    "deep_supervision False": {"network_def#deep_supervision": False},
}


def train_a_little(files, pairs, out, **overrides) -> None:
    options = {"dataset_dir": str(pairs), "output_dir": str(out), "max_epochs": 1, "val_fraction": 0.2, **TINY}
    flow = run(files, "training", **{**options, **overrides})
    trainer = flow.parser.get_parsed_content("train#trainer")
    assert trainer.state.iteration >= 2
    assert math.isfinite(trainer.state.metrics["train_mean_loss"])
    assert (out / "models" / "model.pt").exists()


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_the_ablation(row, pairs, tmp_path):
    assert f"--network_def#{row}" in (ROOT / "docs" / "reference" / "network.md").read_text()
    train_a_little(TRAIN, pairs, tmp_path, **ROWS[row])


def test_frozen_encoder_and_gradient_checkpointing(pairs, tmp_path):
    train_a_little(TRAIN, pairs, tmp_path / "frozen", **{"network_def#freeze_encoder": True})
    train_a_little(TRAIN, pairs, tmp_path / "checkpointing", **{"network_def#grad_checkpointing": True})


def test_compiled(pairs, tmp_path):
    """Through a backend that starts at once; the weights keep their names."""
    compiled = "$torch.compile(@network, backend='aot_eager')"
    train_a_little(TRAIN, pairs, tmp_path, **{"train#trainer#network": compiled})
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert state.keys() == UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict().keys()


@pytest.mark.slow
def test_compiled_by_default_backend(pairs, tmp_path):
    train_a_little(TRAIN, pairs, tmp_path, compile=True)


# every recipe and option of training, with what makes two iterations of it small; several files lie over each other
SMALL = {"network_def#channels": 8}
RECIPES = {
    "recipes/paper": {"pretrained": False, **SMALL},
    "recipes/released_polyp": {"pretrained": False, "image_size": 64, **SMALL},
    "recipes/released_isic": {"pretrained": False, "train#trainer#epoch_length": 2, **SMALL},
    "recipes/recommended": SMALL,
    "recipes/recommended options/ema": SMALL,
    "recipes/recommended options/swa options/finetune": {"swa_start": 1, **SMALL},
    "recipes/recommended options/bf16_cpu options/multi_scale": {"image_size": 64, **SMALL},
    "recipes/recommended options/lesion_free": SMALL,
    "recipes/unet": {"backbone": "pvt_v2_b0", "image_size": 64},
    "recipes/unetplusplus": {"backbone": "pvt_v2_b0", "image_size": 64, "encoder_lr_factor": 0.5},
    "recipes/fpn": {"backbone": "pvt_v2_b0", "image_size": 64},
    "recipes/flexibleunet": {"image_size": 64},
    "recipes/segresnet": {},
    "recipes/dynunet": {"network_def#filters": [4, 4, 8, 8]},
    "recipes/dynunet options/bf16_cpu options/ema": {"network_def#filters": [4, 4, 8, 8]},
    "recipes/unetr": {"image_size": 64},
    "recipes/usual_start": SMALL,
    "recipes/recommended recipes/segresnet": {},
    "options/gpu_fast": {"compile": False, **SMALL},
    "recipes/recommended options/gpu_fast": {"compile": False, "backbone": "pvt_v2_b0", **SMALL},
    "options/loss_structure": SMALL,
    "options/loss_focal": SMALL,
    "options/loss_tversky options/early_stop options/time_limit": SMALL,
}


SMP = ("unet", "unetplusplus", "fpn")


@pytest.mark.parametrize("names", RECIPES)
def test_recipes(names, pairs, tmp_path):
    """Parse, have the properties of a MONAI training, and train and validate."""
    if names.removeprefix("recipes/") in SMP:
        pytest.importorskip("segmentation_models_pytorch")
    files = [*TRAIN, *(str(CONFIGS / f"{name}.yaml") for name in names.split())]
    options = {**TINY, "max_epochs": 1, "val_fraction": 0.2, **RECIPES[names]}
    options = {key: value for key, value in options.items() if key in RECIPES[names] or "#channels" not in key}
    if "finetune" in names:
        options["weights"] = str(tmp_path / "start.pt")
        torch.save(UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), tmp_path / "start.pt")
    flow = run(files, "training", dataset_dir=str(pairs), output_dir=str(tmp_path), **options)
    assert flow.check_properties() == []
    trainer = flow.parser.get_parsed_content("train#trainer")
    assert trainer.state.iteration >= 2
    assert math.isfinite(trainer.state.metrics["train_mean_loss"])
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert saved.keys() == flow.parser.get_parsed_content("network").state_dict().keys()


def test_usual_start(pairs, tmp_path):
    """The smoothing of other levels starts small and with biases around zero, not at one."""
    files = [*TRAIN, str(CONFIGS / "recipes" / "usual_start.yaml")]
    flow = workflow(files, "training", dataset_dir=str(pairs), output_dir=str(tmp_path), **TINY)
    biases = [smooth.bias for level in flow.parser.get_parsed_content("network").sdi.levels for smooth in level.smooth]
    assert all(bias.abs().max() < 0.2 for bias in biases)


def test_every_recipe_is_tested():
    named = {name for names in RECIPES for name in names.split()}
    elsewhere = {
        "volumes",
        "volumes_metadata",
        "released_isic_inference",
        "smoke",
        "tensorboard_images",
        "tta",
        "sliding",
    }
    for folder in ("recipes", "options"):
        for path in (CONFIGS / folder).glob("*.yaml"):
            assert f"{folder}/{path.stem}" in named or path.stem in elsewhere or path.stem.startswith("inference_")


def parsed(*names, **options):
    """The content of configs, with nothing built."""
    parser = ConfigParser()
    parser.read_config([TRAIN[0], *(str(CONFIGS / f"{name}.yaml") for name in names)])
    parser.update({**TINY, "bundle_dir": ".", **options})
    return parser


def test_unetplusplus_has_the_encoder():
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = parsed("recipes/unetplusplus", **{"network_def#channels": None}).get_parsed_content("network_def")
    assert isinstance(network, smp.UnetPlusPlus)
    assert network.encoder.out_channels[-4:] == [24, 40, 112, 320]


def test_paper_recipe_is_what_the_paper_states():
    content = parsed("recipes/paper", pretrained=False, **{"network_def#channels": 32, "learning_rate": 0.001})
    network, optimizer = (content.get_parsed_content(key) for key in ("network_def", "optimizer"))
    assert network.reduce[0].conv.out_channels == 32
    assert "Spatial" in type(network.gates[0][0]).__name__
    assert type(optimizer) is torch.optim.Adam
    assert tuple(optimizer.defaults["betas"]) == (0.9, 0.999)
    assert optimizer.defaults["lr"] == 0.001
    assert (content["max_epochs"], content["lr_scheduler"]["power"]) == (300, 0.9)


def test_released_polyp_trains_as_released(pairs, tmp_path):
    options = {
        **TINY,
        "pretrained": False,
        "backbone": "pvt_v2_b0",
        "image_size": 64,
        "gradient_clamp": 1e-4,
        "max_epochs": 1,
    }
    files = [*TRAIN, str(CONFIGS / "recipes" / "released_polyp.yaml")]
    flow = workflow(files, "training", dataset_dir=str(pairs), output_dir=str(tmp_path), **options)
    content = flow.parser.get_parsed_content
    assert len(content("train#dataset")) == 3 * len(content("datalist")["training"])
    network, loss = content("network").train(), content("loss")
    image, label = torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    heads = network(image)
    expected = sum(loss.loss(head, label[..., : head.shape[2], : head.shape[3]]) for head in heads[:2])
    assert loss(heads, label).item() == pytest.approx(expected.item())
    largest, parameters = [], list(network.parameters())
    content("train#trainer").add_event_handler(
        "ITERATION_COMPLETED",
        lambda engine: largest.append(max(p.grad.abs().max().item() for p in parameters if p.grad is not None)),
    )
    flow.run()
    assert largest == pytest.approx([1e-4] * len(largest))
    batch = {"image": image, "label": label}
    batch = {key: value.repeat(1, 1, 3, 3)[..., :96, :96] for key, value in batch.items()}
    sizes = {content("train#trainer").prepare_batch(batch, "cpu", False)[0].shape[-1] for _ in range(40)}
    assert sizes == {64, 96, 128}  # 0.75 and 1.25 of 96, to whole 32


def test_selection_on_test_images_only_where_it_is_asked_for(tmp_path):
    for split, number in (("train", 4), ("test", 2)):
        for index in range(number):
            draw_pair(tmp_path / split, f"{split}{index}", 40, 32, seed=index)
    names = {}
    for asked in (False, True):
        content = parsed("recipes/released_polyp", dataset_dir=str(tmp_path), select_on_test=asked)
        names[asked] = [item["image"] for item in content.get_parsed_content("validate#dataset").data]
    assert not any("/test/" in name for name in names[False])
    assert all("/test/" in name for name in names[True])


def test_released_isic_limits_the_norm(pairs, tmp_path):
    options = {
        **TINY,
        "pretrained": False,
        "backbone": "pvt_v2_b0",
        "gradient_norm": 1e-3,
        "max_epochs": 1,
        "train#trainer#epoch_length": 2,
    }
    files = [*TRAIN, str(CONFIGS / "recipes" / "released_isic.yaml")]
    flow = workflow(files, "training", dataset_dir=str(pairs), output_dir=str(tmp_path), **options)
    trainer, norms = flow.parser.get_parsed_content("train#trainer"), []
    parameters = list(flow.parser.get_parsed_content("network").parameters())
    trainer.add_event_handler(
        "ITERATION_COMPLETED",
        lambda engine: norms.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()),
    )
    flow.run()
    assert [norm.item() for norm in norms] == pytest.approx([1e-3] * 2, rel=1e-3)
    train, inference = (
        ConfigParser.load_config_file(str(CONFIGS / "recipes" / f"released_isic{end}.yaml"))
        for end in ("", "_inference")
    )
    assert train["transforms#normalize"] == inference["transforms#normalize"]


def test_moving_average_by_hand(pairs, tmp_path):
    """The first step's weights, then decay * average + (1 - decay) * weights; validation and model.pt use it."""
    overlay = str(CONFIGS / "options" / "ema.yaml")
    options = {**TINY, "ema#decay": 0.75, "ema#use_warmup": False, "val_fraction": 0.2, "max_epochs": 1}
    flow = workflow([*TRAIN, overlay], "training", dataset_dir=str(pairs), output_dir=str(tmp_path), **options)
    network, trainer = (flow.parser.get_parsed_content(key) for key in ("network", "train#trainer"))
    weight, seen = network.heads[0].weight, []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: seen.append(weight.detach().clone()))
    flow.run()
    average = seen[0]
    for value in seen[1:]:
        average = 0.75 * average + 0.25 * value
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)["heads.0.weight"]
    assert torch.allclose(saved, average, atol=1e-7)
    assert not torch.allclose(saved, seen[-1], atol=1e-5)


def test_mean_of_epochs_by_hand(pairs, tmp_path):
    """The plain mean of the weights at the ends of the epochs, that of the validated epoch included."""
    overlay = str(CONFIGS / "options" / "swa.yaml")
    options = {**TINY, "swa_start": 2, "val_fraction": 0.2, "max_epochs": 3}
    flow = workflow([*TRAIN, overlay], "training", dataset_dir=str(pairs), output_dir=str(tmp_path), **options)
    network, trainer, evaluator = (
        flow.parser.get_parsed_content(key) for key in ("network", "train#trainer", "validate#evaluator")
    )
    weight, ends, validated = network.heads[0].weight, [], []
    trainer.add_event_handler(
        "ITERATION_COMPLETED",
        lambda engine: engine.state.iteration % engine.state.epoch_length or ends.append(weight.detach().clone()),
    )
    evaluator.add_event_handler("STARTED", lambda e: validated.append(e.network.heads[0].weight.detach().clone()))
    flow.run()
    expected = [ends[0], ends[1], (ends[1] + ends[2]) / 2]
    assert all(torch.allclose(found, value, atol=1e-7) for found, value in zip(validated, expected, strict=True))


def test_several_processes_keep_what_overlays_start():
    """Whether multi_gpu_train.json stands before or after them."""
    multi = str(CONFIGS / "multi_gpu_train.json")
    plain = ConfigParser.load_config_files([*TRAIN, multi])
    for path in (*(CONFIGS / "options").glob("*.yaml"), *(CONFIGS / "recipes").glob("*.yaml")):
        own = ConfigParser.load_config_file(str(path)).get("+initialize")
        if own:
            first, last = (ConfigParser() for _ in range(2))
            first.read_config([*TRAIN, multi, str(path)])
            last.read_config([*TRAIN, str(path), multi])
            steps = [sorted(map(str, merged["initialize"])) for merged in (first, last)]
            assert {*own} < {*steps[0]}, path
            assert steps[0] == steps[1], path
            assert first["validate#evaluator#network"] == last["validate#evaluator#network"], path
    train = plain["train"]
    assert train["trainer"]["network"]["_requires_"] == train["sampler"]["_requires_"] == "@process_group"


@pytest.mark.parametrize("recipe", ["paper", "released_polyp", "released_isic"])
def test_evaluation_needs_no_pretrained_weights(recipe):
    parser = ConfigParser()
    parser.read_config([EVALUATE[0], str(CONFIGS / "recipes" / f"{recipe}.yaml"), EVALUATE[1]])
    parser["bundle_dir"] = "."
    assert parser.get_parsed_content("network_def#pretrained") is False


def test_classes_are_not_mixed_at_other_scales():
    parser = ConfigParser()
    parser.read_config([*TRAIN, str(CONFIGS / "options" / "multi_scale.yaml")])
    labels = 2 * (torch.rand(2, 1, 128, 128) > 0.5).float()
    for classes, mixed in ((3, False), (1, True)):
        parser.update({"scales": [0.75], "out_channels": classes})
        parser.parse(reset=True)
        resized = parser.get_parsed_content("train#trainer#prepare_batch")
        image, label = resized({"image": torch.rand(2, 3, 128, 128), "label": labels})
        assert image.shape[2:] == label.shape[2:] == (96, 96)
        assert (len(label.unique()) > 2) == mixed
    with pytest.raises(InputError, match="is for images, not for volumes"):
        resized({"image": torch.rand(2, 1, 32, 32, 32), "label": torch.rand(2, 1, 32, 32, 32)})


def test_averages_go_on_after_a_stop(pairs, tmp_path):
    files = [
        *TRAIN,
        *(str(CONFIGS / f"{name}.yaml") for name in ("recipes/recommended", "options/ema")),
    ]
    options = {**TINY, "dataset_dir": str(pairs), "output_dir": str(tmp_path), "val_fraction": 0.2}
    run(files, "training", max_epochs=1, **options)
    saved = torch.load(tmp_path / "models" / "last.pt", weights_only=True)["ema"]
    flow = workflow(files, "training", max_epochs=2, resume=True, **options)
    trainer, average = flow.parser.get_parsed_content("train#trainer"), flow.parser.get_parsed_content("ema").module
    found = {}
    trainer.add_event_handler("EPOCH_STARTED", lambda engine: found.update(average.state_dict()))
    trainer.add_event_handler("EPOCH_STARTED", lambda engine: found.update({k: v.clone() for k, v in found.items()}))
    flow.run()
    assert trainer.state.epoch == 2
    assert all(torch.equal(found[key], saved[key]) for key in saved)


def test_flips_leave_a_symmetric_answer_and_average_another():
    for files, overlay, key in ((TRAIN, "tta", "validate#evaluator"), (INFERENCE, "inference_tta", "evaluator")):
        parser = ConfigParser()
        parser.read_config([*files, str(CONFIGS / "options" / f"{overlay}.yaml")])
        inferer = parser.get_parsed_content(f"{key}#inferer")
        image = torch.rand(1, 3, 6, 4)
        assert torch.equal(inferer(image, lambda x: torch.full_like(x, 3.0)), torch.full_like(image, 3.0))
        slope = torch.nn.Parameter(torch.rand(1, 3, 6, 4))
        turned = sum(slope.flip(dims) for dims in ([], [2], [3], [2, 3])) / 4
        assert torch.allclose(inferer(image, slope.mul), image * turned, atol=1e-6)


def test_encoder_learns_at_its_own_rate(pairs):
    flow = workflow(TRAIN, "training", dataset_dir=str(pairs), encoder_lr_factor=0.1, **TINY)
    network = flow.parser.get_parsed_content("network")
    encoder, others = flow.parser.get_parsed_content("optimizer").param_groups
    assert (encoder["lr"], others["lr"]) == pytest.approx((0.0001, 0.001))
    assert len(encoder["params"]) == len(list(network.encoder.parameters()))
    assert len(encoder["params"]) + len(others["params"]) == len(list(network.parameters()))


def test_smoke_overlay(pairs, tmp_path):
    run(
        [*TRAIN, str(CONFIGS / "options" / "smoke.yaml")],
        "training",
        dataset_dir=str(pairs),
        output_dir=str(tmp_path),
        num_workers=0,
    )
    assert torch.load(tmp_path / "models" / "last.pt", weights_only=True)["trainer"]["iteration"] > 0
