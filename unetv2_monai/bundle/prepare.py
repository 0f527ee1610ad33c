# SPDX-License-Identifier: Apache-2.0
"""Run the first step of the configs."""

from functools import partial

from ..core.errors import concise_errors
from ..core.memory import keep_memory
from ..networks.weights import check_weights, options_of, read_weights
from .carried import VIEW, take_over
from .context import in_federation, running_parser
from .messages import message_of
from .option_table import OPTIONS
from .options import check_options

NAMES = {name for table in OPTIONS.values() for name in table}


def prepare() -> None:
    """Check the options of the config that is being run, and take over those that its weights carry.

    The configs call this function in ``initialize``, before they build any component. From then on, an InputError is
    printed without a traceback, and memory that tensors free is kept for later tensors.

    Raises:
        InputError: when an option is wrong or contradicts the weights, or if they are missing or of another network.
    """
    keep_memory()
    parser = running_parser()
    if parser is None:
        return
    concise_errors(partial(message_of, options=[name for name in parser.get() if name in NAMES]))
    given = check_options(parser)
    loads_weights = not in_federation() and any(
        isinstance(handler, dict)
        and handler.get("load_path") == "@checkpoint"
        and handler.get("_disabled_") is not True
        for key in ("handlers", "validate#handlers")
        for handler in parser.get(key) or []
    )
    parser.parse(reset=True)
    if loads_weights:
        path = parser.get_parsed_content("checkpoint")
        weights = read_weights(path)
        take_over(parser, options_of(weights), path, given)
        parser.parse(reset=True)
        check_weights(weights, parser.get_parsed_content("network_def"), path)
    elif parser.get("start#_target_") == "unetv2_monai.load_weights":  # options/finetune.yaml
        path = parser.get_parsed_content("start#path")
        options = options_of(read_weights(path))
        if "class_names" in options:
            parser["class_names"] = options["class_names"]
        view = {key: step for key, step in options.items() if key in VIEW}
        if parser.get("transforms#view#_target_") == "Identityd" and not any(key.startswith(VIEW) for key in given):
            take_over(parser, view, path)
        parser.parse(reset=True)
