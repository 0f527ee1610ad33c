#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
Train the bundle as one site of a federation, on the site's own images, with MONAI's MonaiAlgo.

NVIDIA FLARE starts this script, in its simulator (scripts/federated.py) or at a real site. --dataset_dir is the site's
folder; {site} in a path stands for the site's name. A site gets this file alone, so it imports nothing from
scripts/common.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import nvflare.client as flare
import yaml
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel


def option(item: str) -> tuple[str, Any]:
    """Read KEY=VALUE as scripts/common/options.py does: ``1e-4``, which is text in YAML 1.1, is a number."""
    key, text = item.split("=", 1)
    return key, float(text) if re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", text) else yaml.safe_load(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--dataset_dir", required=True, help="the site's images and masks")
    parser.add_argument("--output_dir", required=True, help="folder for what the site keeps")
    parser.add_argument("--local_epochs", type=int, default=1, help="epochs per round (default: 1)")
    parser.add_argument("--set", nargs="+", type=option, default=[], metavar="KEY=VALUE", help="options of the bundle")
    arguments = parser.parse_args()

    flare.init()
    site = flare.get_site_name()
    output_dir = arguments.output_dir.format(site=site)
    options = dict(arguments.set)
    options |= {"dataset_dir": arguments.dataset_dir.format(site=site), "output_dir": output_dir}
    options |= {"ckpt_dir": f"{output_dir}/models"}  # not the bundle's own folder, which several sites may share
    algo = MonaiAlgo(
        bundle_root=str(arguments.bundle),
        local_epochs=arguments.local_epochs,
        send_weight_diff=False,
        train_kwargs=dict(options),
        eval_kwargs={**options, "eval_section": "validation"},
    )
    algo.initialize(extra={ExtraItems.CLIENT_NAME: site})
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        weights = ExchangeObject(weights=received.params)
        scores = algo.evaluate(weights).metrics
        algo.train(weights)
        trained = algo.get_weights()
        # the server weights the sites by their number of steps
        steps = trained.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]
        flare.send(FLModel(params=trained.weights, metrics=scores, meta={FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}))
    algo.finalize()


if __name__ == "__main__":
    main()
