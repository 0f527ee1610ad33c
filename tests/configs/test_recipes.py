# SPDX-License-Identifier: Apache-2.0
"""Recipes and options, trained for a few steps through the configs, and the networks that U-Net v2 is compared with."""

import math
import re

import pytest
import timm
import torch
from common.bundle import read_config
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from safetensors.torch import save_file

from unetv2_monai import UNetV2
from unetv2_monai.bundle import carried
from unetv2_monai.networks import load_encoder, options_of, with_options

from ..conftest import draw_pairs
from ..support.workflow import CONFIGS, DEFAULT_BACKBONE, TINY, TRAIN, cases, overlays, parsed, refusal, run, workflow

SMP = ("unet", "unetplusplus", "fpn")
# of any network
OPTIONS = {key: value for key, value in TINY.items() if "#channels" not in key} | {"val_fraction": 0.2}
RELEASED = {**TINY, "pretrained": False, "backbone": "pvt_v2_b0", "max_epochs": 1}
RECIPES = cases("recipes", "recipes")
COMPILED = pytest.param("", {"compile": True, "network_def#channels": 8}, marks=pytest.mark.slow)


@pytest.mark.parametrize(("names", "options"), [*RECIPES, COMPILED], ids=str)
def test_recipes(names, options, pairs, tmp_path):
    """Parse, have the properties of a MONAI training, and train and validate."""
    if names.removeprefix("recipes/") in SMP:
        pytest.importorskip("segmentation_models_pytorch")
    if "finetune" in names:
        options = {**options, "weights": tmp_path / "start.pt"}
        state, carries = UNetV2(backbone=DEFAULT_BACKBONE, channels=8).state_dict(), overlays("options/endoscopy")[0]
        carried_options = {**ConfigParser.load_config_file(carries), "class_names": ["background", "polyp"]}
        torch.save(with_options(state, carried_options), tmp_path / "start.pt")
    options = {**OPTIONS, "dataset_dir": pairs, "output_dir": tmp_path, "max_epochs": 1, **options}
    flow = run([*TRAIN, *overlays(*names.split())], "training", **options)
    assert flow.check_properties() == []
    trainer = flow.parser.get_parsed_content("train#trainer")
    assert trainer.state.iteration >= 2
    assert math.isfinite(trainer.state.metrics["train_mean_loss"])
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert saved.keys() == flow.parser.get_parsed_content("network").state_dict().keys()
    steps = [options_of(saved)[key]["_target_"] for key in carried.VIEW]
    assert (options_of(saved).get("class_names") == ["background", "polyp"]) == ("finetune" in names)
    crops = "finetune" in names or "endoscopy" in names
    assert steps == (["CropForegroundd", "unetv2_monai.CropLabeld"] if crops else ["Identityd", "Identityd"])


def test_every_recipe_is_tested():
    tested = set(re.findall(r"(?:recipes|options)/\w+", str(RECIPES)))
    elsewhere = "volumes volumes_metadata released_isic_inference tensorboard_images tta sliding mask_colors"
    elsewhere += " folders calibrate folds ensemble distil disk_cache overlaps channels"
    paths = [path for folder in ("recipes", "options") for path in (CONFIGS / folder).glob("[!i]*.yaml")]
    assert {f"{p.parent.name}/{p.stem}" for p in paths if p.stem not in elsewhere.split()} <= tested


def test_usual_start(pairs, tmp_path):
    """The smoothing of other levels starts small and with biases around zero, not at one."""
    files = [*TRAIN, *overlays("recipes/usual_start")]
    flow = workflow(files, "training", dataset_dir=pairs, output_dir=tmp_path, **TINY)
    biases = [smooth.bias for level in flow.parser.get_parsed_content("network").sdi.levels for smooth in level.smooth]
    assert all(bias.abs().max() < 0.2 for bias in biases)


def built(recipe, part, **options):
    """A part of a training by a recipe."""
    return parsed([*TRAIN, *overlays(recipe)], bundle_dir=".", **options).get_parsed_content(part)


def test_paper_recipe_is_what_the_paper_states():
    content = parsed([*TRAIN, *overlays("recipes/paper")], bundle_dir=".", pretrained=False)
    network, optimizer = (content.get_parsed_content(key) for key in ("network_def", "optimizer"))
    assert network.reduce[0].conv.out_channels == 32
    assert "Spatial" in type(network.gates[0][0]).__name__
    assert type(optimizer) is torch.optim.Adam
    assert tuple(optimizer.defaults["betas"]) == (0.9, 0.999)
    assert optimizer.defaults["lr"] == 0.001
    assert (content["max_epochs"], content["lr_scheduler"]["power"]) == (300, 0.9)


def gradients(flow) -> list[torch.Tensor]:
    """All gradients of each step, as one vector a step, once the training runs."""
    seen, parameters = [], list(flow.parser.get_parsed_content("network").parameters())
    flow.parser.get_parsed_content("train#trainer").add_event_handler(
        "ITERATION_COMPLETED",
        lambda engine: seen.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])),
    )
    return seen


def test_released_polyp_trains_as_released(pairs, tmp_path):
    options = {**RELEASED, "dataset_dir": pairs, "output_dir": tmp_path, "image_size": 64, "gradient_clamp": 1e-4}
    flow = workflow([*TRAIN, *overlays("recipes/released_polyp")], "training", **options)
    content = flow.parser.get_parsed_content
    assert len(content("train#dataset")) == 3 * len(content("datalist")["training"])
    loss, image, label = content("loss"), torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    heads = content("network").train()(image)
    expected = sum(loss.loss(head, label[..., : head.shape[2], : head.shape[3]]) for head in heads[:2])
    assert loss(heads, label).item() == pytest.approx(expected.item())
    steps = gradients(flow)
    flow.run()
    assert [step.abs().max().item() for step in steps] == pytest.approx([1e-4] * len(steps))
    batch = {"image": torch.rand(2, 3, 96, 96), "label": torch.ones(2, 1, 96, 96)}
    sizes = {content("train#trainer").prepare_batch(batch, "cpu", False)[0].shape[-1] for _ in range(40)}
    assert sizes == {64, 96, 128}  # 0.75 and 1.25 of 96, to whole 32


def test_selection_on_test_images_only_where_it_is_asked_for(tmp_path):
    draw_pairs(tmp_path / "train", 4)
    draw_pairs(tmp_path / "test", 2, "other")
    for asked in (False, True):
        data = built("recipes/released_polyp", "validate#dataset", dataset_dir=str(tmp_path), select_on_test=asked).data
        assert {"/test/" in item["image"] for item in data} == {asked}


def test_released_isic_limits_the_norm(pairs, tmp_path):
    files, limits = overlays("recipes/released_isic"), {"gradient_norm": 1e-3, "train#trainer#epoch_length": 2}
    flow = workflow([*TRAIN, *files], "training", dataset_dir=pairs, output_dir=tmp_path, **RELEASED, **limits)
    steps = gradients(flow)
    flow.run()
    assert [step.norm().item() for step in steps] == pytest.approx([1e-3] * 2, rel=1e-3)
    train, inference = (ConfigParser.load_config_file(f"{files[0][:-5]}{end}.yaml") for end in ("", "_inference"))
    assert train["transforms#normalize"] == inference["transforms#normalize"]


def test_moving_average_by_hand(pairs, tmp_path):
    """The first step's weights, then decay * average + (1 - decay) * weights; validation and model.pt use it."""
    options = {**TINY, "ema#decay": 0.75, "ema#use_warmup": False, "val_fraction": 0.2, "max_epochs": 1}
    files = [*TRAIN, *overlays("options/ema")]
    flow = workflow(files, "training", dataset_dir=pairs, output_dir=tmp_path, **options)
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


def test_several_processes_keep_what_overlays_start():
    """Whether multi_gpu_train.json stands before or after them."""
    multi = str(CONFIGS / "multi_gpu_train.json")
    for path in (*(CONFIGS / "options").glob("*.yaml"), *(CONFIGS / "recipes").glob("*.yaml")):
        own = ConfigParser.load_config_file(str(path)).get("+initialize")
        if own:
            first, last = parsed([*TRAIN, multi, str(path)]), parsed([*TRAIN, str(path), multi])
            steps = [sorted(map(str, merged["initialize"])) for merged in (first, last)]
            assert {*own} < {*steps[0]}, path
            assert steps[0] == steps[1], path
            assert first["validate#evaluator#network"] == last["validate#evaluator#network"], path
    train = parsed([*TRAIN, multi])["train"]
    assert train["trainer"]["network"]["_requires_"] == train["sampler"]["_requires_"] == "@process_group"


@pytest.mark.parametrize("recipes", [[], ["recipes/paper"], ["recipes/released_polyp"], ["recipes/released_isic"]])
def test_evaluation_needs_no_pretrained_weights(recipes):
    parser = parsed([*TRAIN, *overlays(*recipes), str(CONFIGS / "evaluate.json")], bundle_dir=".")
    assert parser.get_parsed_content("network_def#pretrained") is False


def test_classes_are_not_mixed_at_other_scales():
    labels = 2 * (torch.rand(2, 1, 128, 128) > 0.5).float()
    for classes, mixed in ((3, False), (1, True)):
        resized = built("options/multi_scale", "train#trainer#prepare_batch", scales=[0.75], out_channels=classes)
        image, label = resized({"image": torch.rand(2, 3, 128, 128), "label": labels / 2 if mixed else labels})
        assert image.shape[2:] == label.shape[2:] == (96, 96)
        assert (len(label.unique()) > 2) == mixed
    volumes = {"image": torch.rand(2, 1, 32, 32, 32), "label": torch.rand(2, 1, 32, 32, 32)}
    assert "is for images, not for volumes" in refusal(resized, volumes)


def test_encoder_learns_at_its_own_rate():
    parser = parsed(TRAIN, bundle_dir=".", encoder_lr_factor=0.1, learning_rate=0.001)
    network = parser.get_parsed_content("network")
    encoder, others = parser.get_parsed_content("optimizer").param_groups
    assert (encoder["lr"], others["lr"]) == pytest.approx((0.0001, 0.001))
    assert len(encoder["params"]) == len(list(network.encoder.parameters()))
    assert len(encoder["params"]) + len(others["params"]) == len(list(network.parameters()))


def random_weights(backbone):
    """Of its features, statistics included: none of the values that a network starts with by itself."""
    torch.manual_seed(9)
    state = timm.create_model(backbone, features_only=True).state_dict()
    return {k: torch.rand_like(v) + 0.5 if v.is_floating_point() else v + 1 for k, v in state.items()}


@pytest.mark.parametrize("recipe", SMP)
def test_same_encoder_and_start(recipe, pairs, tmp_path):
    """As U-Net v2: the layers with their drop path, and the weights of a file."""
    smp = pytest.importorskip("segmentation_models_pytorch")

    def drops(network):
        return [m.drop_prob for m in network.encoder.modules() if isinstance(m, timm.layers.DropPath)]

    options = {"backbone": "tf_efficientnet_lite0", "pretrained": False}
    files = (["train.json"], ["train.json", f"recipes/{recipe}.yaml"])
    ours, other = (read_config(names, options).get_parsed_content("network_def") for names in files)
    assert type(other).__name__.lower() == recipe
    assert isinstance(other, smp.base.SegmentationModel)
    assert drops(other) == drops(ours) != []
    assert other.encoder.model.state_dict().keys() == ours.encoder.model.state_dict().keys()
    state = random_weights("resnet10t")
    save_file(state, tmp_path / "start.safetensors")
    options = {"dataset_dir": pairs, "output_dir": tmp_path, "image_size": 64, "backbone": "resnet10t"}
    options["pretrained"] = tmp_path / "start.safetensors"
    flow = workflow([*TRAIN, *overlays(f"recipes/{recipe}")], "training", **options)
    found = flow.parser.get_parsed_content("network").encoder.model.state_dict()
    torch.testing.assert_close(found, state, rtol=0, atol=0)


def test_weights_of_the_library_and_none(monkeypatch):
    """Nothing is downloaded here: timm is asked for a pretrained model, and a file of weights stands for its."""
    features, state, create = timm.create_model("resnet10t", features_only=True), random_weights("resnet10t"), []
    before = {key: value.clone() for key, value in features.state_dict().items()}
    load_encoder(features, False, "resnet10t")
    assert all(torch.equal(value, before[key]) for key, value in features.state_dict().items())
    library = timm.create_model("resnet10t", features_only=True)
    library.load_state_dict(state)
    monkeypatch.setattr(timm, "create_model", lambda *names, **options: create.append((*names, options)) or library)
    load_encoder(features, True, "resnet10t")
    assert create == [("resnet10t", {"features_only": True, "pretrained": True})]
    assert all(torch.equal(value, state[key]) for key, value in features.state_dict().items() if value.ndim)


def test_dynunet_is_that_of_nnunet():
    """Two convolutions with instance norm at each of four scales, halved three times, and 32 to 256 filters."""
    files = [*TRAIN, *overlays("recipes/volumes", "recipes/dynunet")]
    modules = [*parsed(files).get_parsed_content("network_def").modules()]
    convolutions = [one for one in modules if type(one) is torch.nn.Conv3d and one.kernel_size == (3, 3, 3)][:8]
    assert [one.out_channels for one in convolutions] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert [one.stride[0] for one in convolutions] == [1, 1, 2, 1, 2, 1, 2, 1]
    assert {type(one) for one in modules if "Norm" in type(one).__name__} == {torch.nn.InstanceNorm3d}
    assert {one.negative_slope for one in modules if type(one) is torch.nn.LeakyReLU} == {0.01}


def test_deep_supervision_of_dynunet():
    """Its two outputs are weighted 1 and 1/2; in evaluation it has one."""
    options = {"network_def#filters": [4, 4, 8, 8], "image_size": 32, "out_channels": 3}
    deep = read_config(["train.json", "recipes/dynunet.yaml"], options)
    network = deep.get_parsed_content("network_def")
    image, label = torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, 1, 32, 32)).float()
    stack = network(image)
    network.register_forward_hook(deep.get_parsed_content("as_list"))
    heads = network(image)
    assert isinstance(heads, list)
    assert torch.equal(torch.stack(heads, 1), stack)
    one = DiceCELoss(softmax=True, to_onehot_y=True)
    loss = deep.get_parsed_content("loss")(heads, label).item()
    assert loss == pytest.approx((one(heads[0], label) + one(heads[1], label) / 2).item())
    assert torch.equal(network.eval()(image), heads[0])


def test_unetr_pads_and_cuts():
    pytest.importorskip("einops")
    network = built("recipes/unetr", "network_def", image_size=[33, 64]).eval()
    plain = UNETR(3, 1, (48, 64), feature_size=8, hidden_size=192, mlp_dim=768, num_heads=6, spatial_dims=2).eval()
    plain.load_state_dict({name.removeprefix("1."): value for name, value in network.state_dict().items()})
    image = torch.rand(1, 3, 33, 64)
    with torch.no_grad():
        assert torch.equal(network(image), plain(torch.nn.functional.pad(image, (0, 0, 0, 15)))[:, :, :33])
