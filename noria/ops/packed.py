"""What ops over ragged batches share: checks of row_splits, and which row a packed step is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from noria.core.dims import Dim, Size, symbol
from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_integer, need_rank, require_same_shape, shaped
from noria.ops.numeric import cast_like, spec_of


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


def data_size(size: Any) -> Size:
    """A size as inference knows it: the size itself, or the new symbol of this name."""
    if isinstance(size, str):
        return symbol(size)
    if isinstance(size, Dim):
        return size
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ArgumentError("size is a size, or the name of a new symbol", got=repr(size))
    return size


def filled(value: Any, x: Any, count: Size) -> Any:
    """`count` steps of one value, a number or of the shape of a step of x, in the dtype of x."""
    zeros = o.fill(shape=(count, *x.shape[1:]), value=0, dtype=spec_of(x).dtype)
    return o.add(zeros, cast_like(shaped(value), x))


def repeat_steps(xp: Any, count: Any, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """carry = body(t, carry) for t = 0 ... count - 1; one loop of XLA's under jax."""
    if xp is not np:
        from jax.lax import fori_loop

        return fori_loop(0, count, body, carry)
    for t in range(count):
        carry = body(t, carry)
    return carry


def need_numpy(xp: Any, name: str) -> None:
    """Raises EngineError under XLA, for an op whose sizes only the data tell."""
    if xp is not np:
        raise EngineError(
            f"XLA cannot compile {name}: only the data tell its sizes",
            hint="run this Program by another engine",
        )
