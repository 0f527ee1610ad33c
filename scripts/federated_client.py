#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""
One site of a federation under NVIDIA FLARE: trains the bundle on the site's own images through MONAI's MonaiAlgo.

NVIDIA FLARE starts it, in the simulator (scripts/federated.py) or at a site, where --dataset_dir is that site's folder;
{site} in a path stands for the site's name.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nvflare.client as flare
import yaml
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.abstract.fl_model import FLModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--dataset_dir", required=True, help="the site's images and masks")
    parser.add_argument("--output_dir", required=True, help="what the site keeps")
    parser.add_argument("--local_epochs", type=int, default=1, help="epochs a round (default: 1)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the bundle")
    arguments = parser.parse_args()

    flare.init()
    site = flare.get_site_name()
    output_dir = arguments.output_dir.format(site=site)
    options = {key: yaml.safe_load(value) for key, _, value in (item.partition("=") for item in arguments.set)}
    options |= {"dataset_dir": arguments.dataset_dir.format(site=site), "output_dir": output_dir}
    options |= {"ckpt_dir": f"{output_dir}/models"}  # not the bundle's own, which several sites may share
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
        # the server weighs the sites by it
        steps = trained.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS]
        flare.send(FLModel(params=trained.weights, metrics=scores, meta={FLMetaKey.NUM_STEPS_CURRENT_ROUND: steps}))
    algo.finalize()


if __name__ == "__main__":
    main()
