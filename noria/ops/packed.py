"""What ops over ragged batches share: checks of row_splits, and which row a packed step is of."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.program import Spec
from noria.ops.common import need_integer, need_rank, require_same_shape
from noria.ops.numeric import spec_of


def row_count(row_splits: Any) -> Size:
    """How many rows there are. Raises ShapeError or DTypeError for what are no row_splits."""
    need_integer(spec_of(row_splits))
    need_rank(spec_of(row_splits), 1, what="row_splits")
    if row_splits.shape[0] == 0:
        raise ShapeError("row_splits of N rows are N + 1 numbers", got="none")
    return row_splits.shape[0] - 1


def need_steps(x: Any, what: str = "x") -> None:
    """Raises ShapeError for a scalar: packed rows have a first axis."""
    if x.ndim == 0:
        raise ShapeError(f"{what} must have the packed rows along its first axis", got=str(x))


def need_rows(rows: Spec, row_splits: Spec, what: str) -> None:
    """Raises ShapeError unless a value has one entry for each row: [N, ...]."""
    need_steps(rows, what)
    require_same_shape(Spec((row_count(row_splits), *rows.shape[1:]), rows.dtype), rows, what)


def checked_splits(xp: Any, row_splits: Any, total: int) -> Any:
    """row_splits, after a check of the numbers. Only NumPy's can be looked at."""
    if xp is not np:
        return row_splits
    steps = np.diff(row_splits)
    if row_splits[0] != 0 or row_splits[-1] != total or (steps < 0).any():
        raise ArgumentError(
            "row_splits do not divide the packed rows",
            expected=f"numbers from 0 to {total} that never fall",
            got=np.array2string(row_splits, threshold=8),
        )
    return row_splits.astype(np.int64, copy=False)


def rows_of(xp: Any, row_splits: Any, total: int) -> Any:
    """The number of the row that each of the packed positions belongs to: [total]."""
    splits = checked_splits(xp, row_splits, total)
    return xp.searchsorted(splits, xp.arange(total), side="right") - 1


def behind(flags: Any, x: Any, xp: Any) -> Any:
    """Flags [N] with as many axes of size 1 as x has further ones."""
    return xp.reshape(flags, (flags.shape[0], *(1,) * (x.ndim - 1)))


def put_at(array: Any, index: Any, value: Any) -> Any:
    """`array` with `value` at `index`: in place for NumPy, a new array for jax."""
    if hasattr(array, "at"):
        return array.at[index].set(value)
    array[index] = value
    return array
