"""What taking and writing by position share: ids that are in range, and turned into an index."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.program import Spec
from noria.ops.common import need_integer


def in_range(xp: Any, ids: Any, size: int) -> Any:
    """The ids, after a check that each is in [-size, size). Only NumPy's can be looked at."""
    if xp is not np:
        return ids
    wrong = (ids >= size) | (ids < -size)
    if wrong.any():
        at = [int(i) for i in np.argwhere(wrong)[0]]
        raise ArgumentError(
            "an id is out of range",
            expected=f"{-size} <= id < {size}" if size else "no ids: there is nothing to take",
            got=f"{ids[tuple(at)]} at {at}" if at else str(ids),
        )
    return ids.astype(np.int64, copy=False)


def index_depth(x: Spec, ids: Spec) -> int:
    """How many axes of x the last axis of ids points into."""
    need_integer(ids)
    depth: Size = ids.shape[-1] if ids.ndim else 0
    if not isinstance(depth, int) or not 1 <= depth <= x.ndim:
        raise ShapeError(
            "the last axis of ids must be one position for each of some axes of x",
            expected=f"a size from 1 to {x.ndim}",
            got=f"ids {ids} for x {x}",
        )
    return depth


def nd_index(xp: Any, x: Any, ids: Any) -> tuple[Any, ...]:
    """The last axis of ids as an index of NumPy's."""
    return tuple(in_range(xp, ids[..., i], x.shape[i]) for i in range(ids.shape[-1]))
