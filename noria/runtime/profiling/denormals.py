"""Numbers so small that some processors handle them a hundred times slower."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from noria.core import dtypes
from noria.runtime.bind import Bound
from noria.runtime.buffers import Item

LARGE = 0.01  # a share worth a warning


def denormal_shares(bound: Bound, feeds: Sequence[np.ndarray]) -> dict[Item, float]:
    """For each item of a step the largest share of denormal numbers in one of its results.

    Runs the step on feeds in the order of the inputs; updates may write state.
    """
    for view, array in zip(bound.feeds, feeds, strict=True):
        view[...] = array
    found: dict[Item, float] = {}

    def look(item: Item, outputs: list[np.ndarray]) -> None:
        found[item] = max(map(denormal_share, outputs), default=0.0)

    bound.walk(look)
    return found


def denormal_share(array: np.ndarray) -> float:
    """The share of numbers that are not 0 but smaller than the smallest normal one."""
    if not array.size or not dtypes.is_float(dtypes.as_dtype(array.dtype)):
        return 0.0
    smallest = float(ml_dtypes.finfo(array.dtype).smallest_normal)
    size = np.abs(array.astype(np.float64))
    return float(((size > 0) & (size < smallest)).mean())
