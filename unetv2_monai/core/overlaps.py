# SPDX-License-Identifier: Apache-2.0
"""Classes that overlap: each combination of classes has a value in the masks, and an output of the network.

A class has the probability of all combinations with it. So masks, exports and tools see exclusive classes, and only
the loss and the scores know of overlaps.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .errors import InputError

MOST_VALUES = 256
Overlaps = Mapping[str, Sequence[int]]  # of each class, the values of the masks that include it


def overlap_table(overlaps: Overlaps, out_channels: int) -> np.ndarray:
    """Return which values of the masks include which class.

    Args:
        overlaps: the values of each class, such as ``{"polyp": [1, 3], "tool": [2, 3]}``.
        out_channels: output channels of the network: one for each value, 0 included.

    Returns:
        A boolean table of shape (classes + 1, out_channels), with the background first.

    Raises:
        InputError: when a value is no output, belongs to no class, or means the same as another one.
    """
    text = f"overlaps {overlaps}"
    if not overlaps or not all(isinstance(values, list | tuple) and values for values in overlaps.values()):
        raise InputError(f"{text}: each class needs a list of values, such as {{polyp: [1, 3], tool: [2, 3]}}.")
    if wrong := sorted({value for values in overlaps.values() for value in values} - {*range(1, out_channels)}):
        raise InputError(
            f"{text}: {wrong} are not among 1 to {out_channels - 1}, since out_channels is {out_channels}."
        )
    table = np.array([[value in values for value in range(out_channels)] for values in ([0], *overlaps.values())])
    columns = [tuple(column) for column in table.T.tolist()]
    for value, column in enumerate(columns):
        if not any(column):
            raise InputError(f"{text}: {value} is in no class. Add it to a class, or remove it from the masks.")
        if (first := columns.index(column)) < value:
            raise InputError(f"{text}: {first} and {value} have the same classes. Give them one value in the masks.")
    return table


def combinations(overlaps: Overlaps) -> int:
    """Return the number of values, 0 included."""
    return 1 + max(value for values in overlaps.values() for value in values)


def combination_names(overlaps: Overlaps) -> list[str]:
    """Return a name for each value of the masks, such as ``background``, ``polyp``, ``tool`` and ``polyp + tool``."""
    values = range(1, combinations(overlaps))
    return ["background", *(" + ".join(name for name in overlaps if value in overlaps[name]) for value in values)]


def number_combinations(codes: Iterable[int], classes: Sequence[str]) -> tuple[np.ndarray, Overlaps]:
    """Give a value to background, to each class alone, in their order, and to each other combination that occurs.

    Args:
        codes: the combinations: the sum of 1 for the first class, 2 for the second, 4 for the third, and so on.
        classes: names of the classes.

    Returns:
        The code of each value, and the values of each class.

    Raises:
        InputError: when there are too many values for a mask of 8 bits.
    """
    single = [0, *(1 << index for index in range(len(classes)))]
    order = np.array([*single, *sorted({*codes} - {*single})])
    if len(order) > MOST_VALUES:
        raise InputError(f"{len(order)} combinations of classes, but a mask holds {MOST_VALUES}. Leave classes out.")
    return order, {name: np.flatnonzero(order >> index & 1).tolist() for index, name in enumerate(classes)}


def to_values(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the value of each code in a mask, by the ``order`` of ``number_combinations``."""
    sorter = np.argsort(order)
    return sorter[np.searchsorted(order, mask, sorter=sorter)].astype(np.uint8)
