#!/bin/sh
# MONAI 1.6.1: check_properties() of a training bundle, which returns the names of missing properties by its docstring,
# raises an error instead in two cases, though each of these trainings runs.
# A required property that the config lacks ends in a KeyError at the first one: hasattr, by which it looks, lets only
# an AttributeError pass. A list train#handlers that holds a reference ("@saver") ends in a TypeError: it asks each item
# for its _target_, and a reference is text.
# Seen: complete: []; no inferer: KeyError; handler as a reference: TypeError. All three train their epoch.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 monai==1.6.1 pytorch-ignite==0.5.5 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import json
import logging

from monai.bundle import ConfigWorkflow

logging.disable()
saver = {"_target_": "CheckpointSaver", "save_dir": "models", "save_dict": {"net": "@network_def"}, "save_final": True}
meta = {"version": "0.1.0", "monai_version": "1.6.1", "pytorch_version": "2.13.0", "numpy_version": "2.4.6"}
layout = {"type": "image", "format": "magnitude", "num_channels": 1, "spatial_shape": [1], "dtype": "float32"}
layout |= {"value_range": [0, 1], "is_patch_data": False, "channel_def": {"0": "image"}}
meta["network_data_format"] = {"inputs": {"image": layout}, "outputs": {"pred": layout}}


def problem(handlers, left_out=()):
    """What check_properties returns or raises, for a training that is then run."""
    train = {
        "dataset": [{"image": [1.0], "label": [1.0]}],
        "dataloader": {"_target_": "DataLoader", "dataset": [{"image": "$torch.ones(1)", "label": "$torch.ones(1)"}]},
        "inferer": {"_target_": "SimpleInferer"},
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": 1,
            "device": "@device",
            "train_data_loader": "@train#dataloader",
            "network": "@network_def",
            "optimizer": "$torch.optim.SGD(@network_def.parameters(), 0.1)",
            "loss_function": "@loss",
            "train_handlers": "@train#handlers",
        },
        "handlers": handlers,
    }
    config = {
        "imports": ["$import torch"],
        "_meta_": meta,
        "bundle_root": ".",
        "dataset_dir": ".",
        "device": "$torch.device('cpu')",
        "network_def": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1},
        "loss": {"_target_": "torch.nn.MSELoss"},
        "saver": saver,
        "train": {name: value for name, value in train.items() if name not in left_out},
        "run": ["$@train#trainer.run()"],
    }
    with open("train.json", "w") as opened:
        json.dump(config, opened)
    flow = ConfigWorkflow("train.json", workflow_type="train", logging_file=False)
    flow.initialize()
    try:
        found = flow.check_properties()
    except Exception as error:
        found = type(error).__name__
    flow.run()
    return found


found = {
    "complete": problem([saver]),
    "no inferer": problem([saver], ["inferer"]),
    "handler as a reference": problem(["@saver"]),
}
for case, outcome in found.items():
    print(f"{case}: {outcome}")
assert found == {"complete": [], "no inferer": "KeyError", "handler as a reference": "TypeError"}, found
PYTHON
