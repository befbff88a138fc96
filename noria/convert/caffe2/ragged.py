"""Rows told by their lengths, as Caffe2 has them, on noria's row_splits."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.handlers import Node
from noria.core.dims import Size
from noria.ir.opdef import vocabulary as o
from noria.ops.ragged import places_below


def packed_size(op: Node, lengths: Any) -> Any:
    """How many steps all rows have: a number if that is known, else a new symbol."""
    numbers = op.known(lengths)
    return op.symbol("packed") if numbers is None else int(numbers.sum())


def largest_size(op: Node, counts: Any, name: str, least: int = 0) -> Size:
    """The largest of some integers as a size: a number if that is known, else a new symbol."""
    numbers = op.known(counts)
    if numbers is not None:
        return max(int(numbers.max(initial=0)), least)
    size: Size = places_below(counts, size=op.symbol(name), least=least).shape[0]
    return size


def zeros_like_rows(lengths: Any) -> Any:
    """int64 zeros, one a row."""
    return o.fill(shape=lengths.shape, value=0, dtype="int64")


def row_numbers(op: Node, lengths: Any, size: Any = None) -> Any:
    """The number of the row each packed step belongs to: int64 [size].

    size: how many steps there are, found from the lengths where it is not given
    """
    rows = o.arange(stop=lengths.shape[0])
    size = packed_size(op, lengths) if size is None else size
    return o.ragged_range(rows, o.cast(lengths, dtype="int64"), size=size, step=0)


def step_numbers(op: Node, lengths: Any, size: Any = None) -> Any:
    """0, 1, ... within each row: int64 [size]."""
    size = packed_size(op, lengths) if size is None else size
    return o.ragged_range(zeros_like_rows(lengths), o.cast(lengths, dtype="int64"), size=size)


def sorted_in_rows(values: Any, rows: Any, descending: bool = False) -> Any:
    """Places that put packed values in order within their rows; equal ones keep theirs."""
    by_value = o.argsort(values, axis=0, descending=descending)
    return o.gather(by_value, o.argsort(o.gather(rows, by_value), axis=0))


def first_of_equals(rows: Any, values: Any) -> Any:
    """Whether a step, in sorted rows, is not equal to the one before it: bool [T]."""
    total = values.shape[0]
    start = o.equal(o.arange(stop=total), 0)
    changes = [o.not_equal(v, o.roll(v, shift=1, axis=0)) for v in (rows, values)]
    return o.logical_or(start, o.logical_or(*changes))


def places_of(op: Node, keep: Any) -> Any:
    """Where a vector of booleans holds: int64 [new symbol]."""
    return o.squeeze(o.nonzero(keep, size=op.symbol("kept")), axis=1)
