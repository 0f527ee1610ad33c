# SPDX-License-Identifier: Apache-2.0
"""Rows of a comparison: a recipe with options of its own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.bundle import CONFIGS
from common.options import key_and_text

from unetv2_monai import InputError

OPTION = re.compile(r"(?:[\[{][^=]*[\]}]|[^,])+")  # text up to a comma; lists and dicts are kept whole


@dataclass(frozen=True)
class Row:
    """A row of the table: ``recipe`` is "unetv2" or the name of a file in configs/recipes."""

    text: str
    recipe: str
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Row":
        """Read ``RECIPE:KEY=VALUE,KEY=VALUE``."""
        recipe, _, options = text.partition(":")
        return cls(text, recipe, dict(map(key_and_text, OPTION.findall(options))))

    def with_options(self, options: Mapping[str, str]) -> "Row":
        """Return this row with further options."""
        every = {**self.options, **options}
        return Row(f"{self.recipe}:{','.join(f'{key}={text}' for key, text in every.items())}", self.recipe, every)

    @property
    def label(self) -> str:
        """Write ``unetv2:network_def#fusion=add`` as ``unetv2 fusion=add``."""
        return " ".join([self.recipe, *(f"{key.rpartition('#')[2]}={value}" for key, value in self.options.items())])

    def files(self, overlays: Sequence[str]) -> list[str]:
        """List train.json, the overlays of all rows, and the row's own recipe."""
        own = [] if self.recipe == "unetv2" else [f"recipes/{self.recipe}.yaml"]
        files = ["train.json", *(f"{name}.yaml" for name in overlays), *own]
        for path in (CONFIGS / name for name in files):
            if not path.is_file():
                known = f"a row is unetv2 or the name of a file in {CONFIGS / 'recipes'}."
                raise InputError(f"{path} does not exist: {known}")
        return files
