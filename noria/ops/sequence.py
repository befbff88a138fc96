"""Ragged batches: rows of different lengths packed one after another, without padding.

A batch of N rows is two ordinary values: what the rows hold, [T, ...] with T the sum of their
lengths, and `row_splits`, int64 [N + 1], which begins with 0 and ends with T: row n is
`values[row_splits[n]:row_splits[n + 1]]`. Rows may be empty.  (Abadi et al., 2016)

Raises ArgumentError, when it runs, for row_splits that are not such numbers; under XLA, which
cannot raise, the result is then meaningless.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.errors import DTypeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_same_shape
from noria.ops.numeric import add_at, in_float32, spec_of
from noria.ops.packed import (
    behind,
    checked_splits,
    need_rows,
    need_steps,
    put_at,
    row_count,
    rows_of,
)
from noria.ops.rules import by_decomposition

# ---- lengths, splits, positions ----------------------------------------------------------------


def sequence_lengths(row_splits: Any) -> Any:
    """Lengths of the rows: int64 [N]."""
    row_count(row_splits)
    ends = o.slice(row_splits, axes=(0,), starts=(1,), stops=(None,))
    return o.sub(ends, o.slice(row_splits, axes=(0,), starts=(0,), stops=(-1,)))


def sequence_splits(lengths: Any) -> Any:
    """row_splits [N + 1] of rows of these lengths, integers [N]."""
    need_integer(spec_of(lengths))
    need_rank(spec_of(lengths), 1, what="lengths")
    ends = o.cumsum(o.cast(lengths, dtype="int64"), axis=0)
    return o.concat(o.fill(shape=(1,), value=0, dtype="int64"), ends, axis=0)


def regular_splits(rows: Size, length: Size) -> Any:
    """row_splits of `rows` rows of the same length, which may be symbolic: [rows + 1]."""
    return o.mul(o.arange(stop=rows + 1), o.dim_value(dim=length))


@op
def sequence_ids(row_splits, *, total):
    """The number of the row each packed position belongs to: int64 [total].

    total: the number of packed positions, the last of row_splits.
    """
    row_count(row_splits)
    return Spec((total,), "int64")


@sequence_ids.compute
def _(xp, row_splits, total):
    return rows_of(xp, row_splits, total).astype("int64")


# ---- one value for each row --------------------------------------------------------------------


@op
def sequence_expand(rows, row_splits, *, total):
    """rows[n] at each position of row n: [N, ...] -> [total, ...]."""
    need_rows(rows, row_splits, "rows")
    return Spec((total, *rows.shape[1:]), rows.dtype)


@sequence_expand.compute
def _(xp, rows, row_splits, total):
    ids = rows_of(xp, row_splits, total)
    return rows[ids] if total else xp.zeros((0, *rows.shape[1:]), rows.dtype)


@sequence_expand.grad
def _(row_splits, g):
    return o.sequence_sum(g, row_splits), None


def _reduced(x: Spec, row_splits: Spec) -> Spec:
    need_float(x)
    need_steps(x)
    return Spec((row_count(row_splits), *x.shape[1:]), x.dtype)


def _require_same(expected: Spec, value: Spec, what: str) -> None:
    require_same_shape(expected, value, what)
    if value.dtype != expected.dtype:
        raise DTypeError(f"{what} and x differ", expected=expected.dtype, got=str(value))


@op
def sequence_sum(x, row_splits):
    """Sum over the steps of each row, 0 for an empty one: [T, ...] -> [N, ...]."""
    return _reduced(x, row_splits)


@sequence_sum.compute
@in_float32
def _(xp, x, row_splits):
    out = xp.zeros((row_splits.shape[0] - 1, *x.shape[1:]), x.dtype)
    return add_at(xp, out, rows_of(xp, row_splits, x.shape[0]), x, unique=False)


@sequence_sum.grad
def _(x, row_splits, g):
    return o.sequence_expand(g, row_splits, total=x.shape[0]), None


def sequence_mean(x: Any, row_splits: Any) -> Any:
    """Mean over the steps of each row, 0 for an empty one: [T, ...] -> [N, ...]."""
    count = o.cast(o.maximum(sequence_lengths(row_splits), 1), dtype="float32")
    total = o.sequence_sum(x, row_splits)
    scale = o.cast(_unsqueezed(count, total), dtype=total.dtype)
    return o.div(total, scale)


def _unsqueezed(rows: Any, like: Any) -> Any:
    """[N] with as many axes of size 1 as `like` has further ones."""
    axes = tuple(range(1, len(like.shape)))
    return o.unsqueeze(rows, axis=axes) if axes else rows


@op
def sequence_max(x, row_splits, *, empty=0.0):
    """Largest of the steps of each row, NaN if one is: [T, ...] -> [N, ...].

    empty: what a row without steps gives. The gradient of a tie is shared equally.
    """
    return _reduced(x, row_splits)


@sequence_max.compute
@in_float32
def _(xp, x, row_splits, empty):
    ids = rows_of(xp, row_splits, x.shape[0])
    out = xp.full((row_splits.shape[0] - 1, *x.shape[1:]), -np.inf, x.dtype)
    if xp is np:
        np.maximum.at(out, ids, x)
    else:
        out = out.at[ids].max(x)
    nothing = row_splits[1:] == row_splits[:-1]
    return xp.where(behind(nothing, out, xp), xp.asarray(empty, x.dtype), out)


@sequence_max.grad
def _(x, row_splits, out, g):
    return o.sequence_max_grad(x, out, row_splits, g), None


@op(overwrites=((0, 0),))
def sequence_max_grad(x, largest, row_splits, grad):
    """Gradient of `sequence_max` in x: the largest steps of a row share that of the row."""
    _reduced(x, row_splits)
    need_rows(largest, row_splits, "largest")
    need_rows(grad, row_splits, "grad")
    return x


@sequence_max_grad.compute
@in_float32
def _(xp, x, largest, row_splits, grad):
    if not x.shape[0]:
        return xp.zeros(x.shape, x.dtype)
    ids = rows_of(xp, row_splits, x.shape[0])
    chosen = (x == largest[ids]).astype(x.dtype)
    count = add_at(xp, xp.zeros(largest.shape, x.dtype), ids, chosen, unique=False)
    return chosen * (grad / xp.maximum(count, 1))[ids]


@sequence_max_grad.decompose
def _(x, largest, row_splits, grad):
    total = x.shape[0]
    chosen = o.equal(x, o.sequence_expand(largest, row_splits, total=total))
    chosen = o.cast(chosen, dtype=grad.dtype)
    count = o.maximum(o.sequence_sum(chosen, row_splits), 1.0)
    return o.mul(chosen, o.sequence_expand(o.div(grad, count), row_splits, total=total))


@sequence_max_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


def sequence_softmax(x: Any, row_splits: Any) -> Any:
    """Softmax over the steps of each row, for each of the further positions: [T, ...]."""
    total = x.shape[0]
    top = o.stop_gradient(o.sequence_max(x, row_splits))
    e = o.exp(o.sub(x, o.sequence_expand(top, row_splits, total=total)))
    return o.div(e, o.sequence_expand(o.sequence_sum(e, row_splits), row_splits, total=total))


# ---- one step of each row ----------------------------------------------------------------------


@op
def sequence_end(x, row_splits, empty=None, *, first=False):
    """The last step of each row, or the first: [T, ...] -> [N, ...].

    empty: [N, ...], what a row without steps gives, default zeros
    """
    out = _reduced(x, row_splits)
    if empty is not None:
        _require_same(out, empty, "empty")
    return out


@sequence_end.compute
def _(xp, x, row_splits, empty, first):
    splits = checked_splits(xp, row_splits, x.shape[0])
    nothing = splits[1:] == splits[:-1]
    rest = xp.zeros((nothing.shape[0], *x.shape[1:]), x.dtype) if empty is None else empty
    if not x.shape[0]:
        return rest
    places = splits[:-1] if first else splits[1:] - 1
    taken = x[xp.where(nothing, 0, places)]
    return xp.where(behind(nothing, taken, xp), rest, taken)


@sequence_end.grad
def _(x, row_splits, empty, g, first):
    gx = o.sequence_place(g, row_splits, total=x.shape[0], first=first)
    if empty is None:
        return gx, None, None
    nothing = o.equal(sequence_lengths(row_splits), 0)
    return gx, None, o.where(_unsqueezed(nothing, g), g, 0.0)


@op
def sequence_place(rows, row_splits, *, total, first=False):
    """rows[n] at the last (or first) position of row n, zeros elsewhere: [N, ...] -> [total, ...].

    What belongs to an empty row is left out: the gradient of `sequence_end`.
    """
    need_float(rows)
    need_rows(rows, row_splits, "rows")
    return Spec((total, *rows.shape[1:]), rows.dtype)


@sequence_place.compute
def _(xp, rows, row_splits, total, first):
    splits = checked_splits(xp, row_splits, total)
    places = splits[:-1] if first else splits[1:] - 1
    places = xp.where(splits[1:] == splits[:-1], total, places)  # one more, which is cut off
    out = xp.zeros((total + 1, *rows.shape[1:]), rows.dtype)
    return put_at(out, places, rows)[:total]


@sequence_place.grad
def _(row_splits, g, first):
    return o.sequence_end(g, row_splits, first=first), None


@op
def sequence_shift(x, row_splits, start=None, *, reverse=False):
    """Each step of a row one place later: what came before it. [T, ...] -> [T, ...].

    start:   [N, ...], what comes before the first step of a row, default zeros
    reverse: one place earlier; `start` is then what comes after the last
    """
    out = _reduced(x, row_splits)
    if start is not None:
        _require_same(out, start, "start")
    return x


@sequence_shift.compute
def _(xp, x, row_splits, start, reverse):
    if not x.shape[0]:
        return xp.zeros(x.shape, x.dtype)
    ids = rows_of(xp, row_splits, x.shape[0])
    places = xp.arange(x.shape[0])
    at_start = places == (row_splits[1:][ids] - 1 if reverse else row_splits[:-1][ids])
    before = xp.zeros(x.shape, x.dtype) if start is None else start[ids]
    return xp.where(behind(at_start, x, xp), before, xp.roll(x, -1 if reverse else 1, 0))


@sequence_shift.grad
def _(row_splits, start, g, reverse):
    g_start = None if start is None else o.sequence_end(g, row_splits, first=not reverse)
    return o.sequence_shift(g, row_splits, reverse=not reverse), None, g_start
