"""Rows of different lengths, packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops import ragged, sequence, sequence_window
from noria.ops.packed import need_steps, row_count


@dataclass(frozen=True, eq=False)
class Ragged:
    """A batch of N rows of different lengths: what modules over sequences take and give.

    values: [T, ...], the rows one after another, T the sum of their lengths
    splits: int64 [N + 1]; row n is values[splits[n]:splits[n + 1]]

    Both are Values of a Program, or arrays. Raises ShapeError or DTypeError for what cannot be such
    a pair; numbers that do not fit are told when they are used.
    """

    values: Any
    splits: Any

    def __post_init__(self) -> None:
        need_steps(self.values, "values")
        row_count(self.splits)

    @classmethod
    def pack(cls, rows: Sequence[Any]) -> Ragged:
        """Arrays that differ in their first axis, packed. Raises ArgumentError for no rows."""
        arrays = [np.asarray(r) for r in rows]
        if not arrays:
            raise ArgumentError("the shape of rows is told by a row", got="none")
        for a in arrays:
            if not a.ndim or a.shape[1:] != arrays[0].shape[1:]:
                raise ShapeError(
                    "rows may differ in their first axis only",
                    expected=f"[?, {', '.join(map(str, arrays[0].shape[1:]))}]",
                    got=str(list(a.shape)),
                )
        lengths = [0, *(len(a) for a in arrays)]
        return cls(np.concatenate(arrays), np.cumsum(lengths, dtype=np.int64))

    def rows(self) -> list[np.ndarray]:
        """The rows, of arrays."""
        values = np.asarray(self.values)
        return [values[a:b] for a, b in pairwise(np.asarray(self.splits).tolist())]

    @classmethod
    def unpad(cls, padded: Any, lengths: Any, *, size: Any) -> Ragged:
        """The first lengths[n] steps of each row of [N, L, ...].

        size: how many steps that are in all, or the name of a new symbol where only the data tell.
        Raises ArgumentError, when it runs, for a length beyond L.
        """
        return cls(*ragged.sequence_unpad(padded, lengths, size=size))

    @classmethod
    def concat(cls, *batches: Ragged) -> Ragged:
        """Row n of each batch, one behind the other. Raises ArgumentError for no batch."""
        return cls(*ragged.sequence_concat(*((b.values, b.splits) for b in batches)))

    def map(self, fn: Callable[[Any], Any]) -> Ragged:
        """The same rows of `fn(values)`, which must keep the first axis."""
        return Ragged(fn(self.values), self.splits)

    @property
    def count(self) -> Size:
        """The number of rows."""
        return row_count(self.splits)

    @property
    def lengths(self) -> Any:
        """int64 [N]."""
        return sequence.sequence_lengths(self.splits)

    def sum(self) -> Any:
        """Over the steps of each row: [N, ...], 0 for an empty one."""
        return o.sequence_sum(self.values, self.splits)

    def mean(self) -> Any:
        """Over the steps of each row: [N, ...], 0 for an empty one."""
        return sequence.sequence_mean(self.values, self.splits)

    def max(self) -> Any:
        """Over the steps of each row: [N, ...], 0 for an empty one."""
        return o.sequence_max(self.values, self.splits)

    def first(self) -> Any:
        """The first step of each row: [N, ...], 0 for an empty one."""
        return o.sequence_end(self.values, self.splits, first=True)

    def last(self) -> Any:
        """The last step of each row: [N, ...], 0 for an empty one."""
        return o.sequence_end(self.values, self.splits)

    def softmax(self) -> Ragged:
        """Over the steps of each row."""
        return self.map(lambda v: sequence.sequence_softmax(v, self.splits))

    # ---- the steps of each row moved about -----------------------------------------------------

    def reverse(self) -> Ragged:
        """Each row from its last step to its first."""
        return self.map(lambda v: ragged.sequence_reverse(v, self.splits))

    def slice(self, offsets: Any, lengths: Any, *, size: Any) -> Ragged:
        """lengths[n] steps of row n from its step offsets[n] on, integers [N]; size: as of `unpad`.

        Raises ArgumentError, when it runs, for steps a row has not.
        """
        return Ragged(*ragged.sequence_slice(self.values, self.splits, offsets, lengths, size=size))

    def filter(self, keep: Any, *, size: str) -> Ragged:
        """The steps for which `keep`, booleans [T], holds; size: name of a new symbol."""
        return Ragged(*ragged.sequence_filter(self.values, self.splits, keep, size=size))

    def windows(self, length: int, *, start: int = 0, pad: Any = 0) -> Ragged:
        """With each step its neighbours within the row: values [T, length, ...].

        start: the first of them, counted from the step; pad: what stands where there is none
        """
        options = {"length": length, "start": start, "pad": pad}
        return self.map(lambda v: sequence_window.sequence_windows(v, self.splits, **options))

    def pad(self, value: Any = 0, *, size: Any) -> Any:
        """[N, L, ...], `value` behind what a row holds.

        size: L, or the name of a new symbol for the longest row. Raises ArgumentError, when it
        runs, for a row longer than L.
        """
        return ragged.sequence_pad(self.values, self.splits, value, size=size)
