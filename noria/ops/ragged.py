"""Rows of a ragged batch moved about: repeated, joined, cut, turned round, padded and unpadded.

Everything is one op that counts places, `ragged_range`, and a `gather`: no value is computed, and
gradients are those of `gather`. Batches are as in `sequence.py`; what gives a ragged batch gives
(values, row_splits). Where only the data tell how many steps there are, `size` is the name of a new
symbol; where it is known, the size itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_integer, need_rank, require_equal, shaped
from noria.ops.join import stack
from noria.ops.numeric import spec_of
from noria.ops.packed import data_size, filled, need_numpy, need_steps, row_count
from noria.ops.sequence import regular_splits, sequence_lengths, sequence_splits


@op
def ragged_range(starts, lengths, low=None, high=None, *, size, step=1):
    """Rows of equally spaced integers, packed: row n is starts[n] + step * (0 ... lengths[n] - 1).

    starts, lengths: integers [N]; low, high: [N], what the numbers of a row must keep to:
    low[n] <= number < high[n]; the result is int64 [size].
    size: how many there are in all, or the name of a new symbol where only the data tell (XLA
    cannot compile that). Raises ArgumentError, when it runs, for a negative length, for a number
    outside low and high, and for lengths that do not add up to a size which is known.
    """
    for name, value in {"starts": starts, "lengths": lengths, "low": low, "high": high}.items():
        if value is not None:
            need_integer(value)
            need_rank(value, 1, what=name)
            require_equal(starts.shape[0], value.shape[0], f"the number of starts and of {name}")
    if not isinstance(step, int):
        raise ArgumentError("step must be an integer", got=repr(step))
    return Spec((data_size(size),), "int64")


@ragged_range.compute
def _(xp, starts, lengths, low, high, size, step):
    if xp is not np:
        if isinstance(size, str):
            need_numpy(xp, "a ragged_range of unknown size")
        return _counted(xp, starts, lengths, size, step, {"total_repeat_length": size})
    starts, lengths = starts.astype(np.int64), lengths.astype(np.int64)
    _check_numbers(starts, lengths, low, high, step)
    total = int(lengths.sum())
    if not isinstance(size, str) and total != size:
        raise ArgumentError("lengths do not add up to size", expected=str(size), got=str(total))
    return _counted(np, starts, lengths, total, step, {})


def _check_numbers(starts: Any, lengths: Any, low: Any, high: Any, step: int) -> None:
    if (lengths < 0).any():
        raise ArgumentError("a length is negative", got=str(lengths[lengths < 0][0]))
    last = starts + step * (lengths - 1)
    for limit, over in ((low, np.less), (high, np.greater_equal)):
        if limit is None:
            continue
        wrong = (lengths > 0) & (over(starts, limit) | over(last, limit))
        if wrong.any():
            n = int(np.argmax(wrong))
            raise ArgumentError(
                f"row {n} goes beyond its {'end' if over is np.greater_equal else 'start'}",
                expected=f"{'<' if over is np.greater_equal else '>='} {limit[n]}",
                got=f"{lengths[n]} numbers from {starts[n]} in steps of {step}",
            )


def _counted(xp: Any, starts: Any, lengths: Any, total: int, step: int, how: Any) -> Any:
    if not len(starts):
        return xp.zeros(total, "int64")
    before = xp.cumsum(lengths) - lengths
    ids = xp.repeat(xp.arange(len(starts)), lengths, **how)
    return (starts[ids] + step * (xp.arange(total) - before[ids])).astype("int64")


def sequence_starts(row_splits: Any) -> Any:
    """Where each row begins: integers [N]."""
    row_count(row_splits)
    return o.slice(row_splits, axes=(0,), starts=(0,), stops=(-1,))


def sequence_stops(row_splits: Any) -> Any:
    """Where each row ends, the place behind its last step: integers [N]."""
    row_count(row_splits)
    return o.slice(row_splits, axes=(0,), starts=(1,), stops=(None,))


def places_below(counts: Any, *, size: Any, least: int = 0) -> Any:
    """0, 1, 2 ...: int64 [size].

    size: their number, or the name of a new symbol for the largest of `counts`, integers of any
    shape, and at least `least`
    """
    if not isinstance(size, str):
        return o.arange(stop=size)
    counts = o.reshape(o.cast(counts, dtype="int64"), shape=(-1,))
    counts = o.concat(counts, o.fill(shape=(1,), value=least, dtype="int64"), axis=0)
    top = o.reduce_max(counts, axis=0, keepdims=True)
    return ragged_range(o.fill(shape=(1,), value=0, dtype="int64"), top, size=size)


# ---- of a batch, a batch -----------------------------------------------------------------------


def sequence_repeat(x: Any, row_splits: Any, copies: Any, *, total: Size, size: Any) -> Any:
    """Each row as often as `copies` says, one copy behind the other: (values, row_splits).

    copies: [N + 1], as row_splits: the copies of row n get numbers copies[n] to copies[n + 1] - 1
    total: how many copies there are in all, the last of copies; size: steps of the result
    """
    ids = o.sequence_ids(copies, total=total)
    lengths = o.gather(sequence_lengths(row_splits), ids)
    places = ragged_range(o.gather(sequence_starts(row_splits), ids), lengths, size=size)
    return o.gather(x, places), sequence_splits(lengths)


def sequence_concat(*batches: tuple[Any, Any]) -> Any:
    """Row n of each batch, one behind the other: (values, row_splits).

    batches: (values, row_splits), each of as many rows. Raises ArgumentError for none.
    """
    if not batches:
        raise ArgumentError("there is nothing to join", expected="a batch", got="none")
    starts, total = [], 0
    for x, splits in batches:
        need_steps(x, "values")
        starts.append(o.add(sequence_starts(splits), o.dim_value(dim=total)))
        total = total + x.shape[0]
    lengths = stack(*(sequence_lengths(s) for _, s in batches), axis=1)
    first, counts = (o.reshape(v, shape=(-1,)) for v in (stack(*starts, axis=1), lengths))
    values = o.concat(*(x for x, _ in batches), axis=0)
    joined = o.gather(values, ragged_range(first, counts, size=total))
    return joined, sequence_splits(o.reduce_sum(lengths, axis=1))


def sequence_reverse(x: Any, row_splits: Any) -> Any:
    """The steps of each row from the last to the first: [T, ...]."""
    last, lengths = o.sub(sequence_stops(row_splits), 1), sequence_lengths(row_splits)
    return o.gather(x, ragged_range(last, lengths, size=x.shape[0], step=-1))


def sequence_slice(x: Any, row_splits: Any, offsets: Any, lengths: Any, *, size: Any) -> Any:
    """lengths[n] steps of row n from its step offsets[n] on: (values, row_splits).

    offsets, lengths: integers [N]. Raises ArgumentError, when it runs, for steps no row has.
    """
    low, high = sequence_starts(row_splits), sequence_stops(row_splits)
    places = ragged_range(o.add(low, offsets), lengths, low, high, size=size)
    return o.gather(x, places), sequence_splits(lengths)


def sequence_filter(x: Any, row_splits: Any, keep: Any, *, size: str) -> Any:
    """The steps for which `keep`, booleans [T], holds: (values, row_splits).

    size: the name of a new symbol, for how many there are
    """
    places = o.reshape(o.nonzero(keep, size=size), shape=(-1,))
    before = sequence_splits(o.cast(keep, dtype="int64"))
    return o.gather(x, places), o.gather(before, row_splits)


def sequence_reshape(x: Any, row_splits: Any, *, width: int) -> Any:
    """The numbers of each row as steps of another width: (values [?, width], row_splits).

    x: [T, D]. Raises ArgumentError, when it runs, for a row whose numbers are no whole steps.
    """
    need_rank(spec_of(x), 2)
    splits = rescaled_splits(row_splits, old=x.shape[1], new=width)
    return o.reshape(x, shape=(x.shape[0] * x.shape[1] // width, width)), splits


@op
def rescaled_splits(row_splits, *, old, new):
    """row_splits of the same rows in steps of `new` numbers, where they were `old`: [N + 1].

    Raises ArgumentError, when it runs, for a row whose numbers are no whole steps.
    """
    if not isinstance(new, int) or new < 1:
        raise ArgumentError("a step has a positive width", got=repr(new))
    row_count(row_splits)
    return row_splits


@rescaled_splits.compute
def _(xp, row_splits, old, new):
    numbers = row_splits * old
    if xp is np and (numbers % new).any():
        row = int(np.argmax(numbers % new != 0)) - 1
        raise ArgumentError(
            f"row {row} is no whole steps of {new} numbers",
            got=f"{np.diff(numbers)[row]} numbers",
        )
    return (numbers // new).astype(row_splits.dtype)


# ---- with padding ------------------------------------------------------------------------------


def sequence_mask(lengths: Any, *, size: Any, dtype: str = "bool") -> Any:
    """Whether a place is below a length: [...] -> [..., L].

    size: L, or the name of a new symbol for the largest length
    """
    lengths = shaped(lengths)
    places = places_below(lengths, size=size)
    return o.cast(o.less(places, o.unsqueeze(lengths, axis=-1)), dtype=dtype)


def _regular(rows: Size, length: Size) -> tuple[Any, Any]:
    """Where rows of one length begin and end."""
    splits = regular_splits(rows, length)
    return sequence_starts(splits), sequence_stops(splits)


def sequence_pad(x: Any, row_splits: Any, value: Any = 0, *, size: Any) -> Any:
    """Rows of one length, `value` behind what they hold: [T, ...] -> [N, L, ...].

    value: a number, or one of the shape of a step; size: L, or the name of a new symbol for the
    longest row. Raises ArgumentError, when it runs, for a row longer than L.
    """
    need_steps(x)
    n, lengths = row_count(row_splits), sequence_lengths(row_splits)
    length = places_below(lengths, size=size).shape[0]
    low, high = _regular(n, length)
    places = ragged_range(low, lengths, low, high, size=x.shape[0])
    empty = filled(value, x, n * length)
    padded = o.scatter_nd(empty, o.unsqueeze(places, axis=1), x)
    return o.reshape(padded, shape=(n, length, *x.shape[1:]))


def sequence_unpad(x: Any, lengths: Any, *, size: Any) -> Any:
    """The first lengths[n] steps of each row of [N, L, ...], packed: (values, row_splits).

    Raises ArgumentError, when it runs, for a length beyond L.
    """
    n, length = x.shape[:2]
    low, high = _regular(n, length)
    places = ragged_range(low, lengths, low, high, size=size)
    rows = o.reshape(x, shape=(n * length, *x.shape[2:]))
    return o.gather(rows, places), sequence_splits(lengths)
