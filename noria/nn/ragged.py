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

    values: [T, ...], the rows one after another, T the sum of their lengths; or a `Ragged` of T
            rows, where the steps of a row are rows themselves (words of sentences of documents)
    splits: int64 [N + 1]; row n is values[splits[n]:splits[n + 1]]

    Methods work on the innermost rows. Both are Values of a Program, or arrays. Raises ShapeError
    or DTypeError for what cannot be such a pair; numbers that do not fit are told when they are
    used.
    """

    values: Any
    splits: Any

    def __post_init__(self) -> None:
        if not isinstance(self.values, Ragged):
            need_steps(self.values, "values")
        row_count(self.splits)

    @classmethod
    def pack(cls, rows: Sequence[Any]) -> Ragged:
        """Arrays that differ in their first axis, packed; or batches, each of which becomes a row.

        Raises ArgumentError for no rows, ShapeError for rows that do not go together.
        """
        if not rows:
            raise ArgumentError("the shape of rows is told by a row", got="none")
        nested = [r for r in rows if isinstance(r, Ragged)]
        if nested and len(nested) < len(rows):
            raise ArgumentError("arrays and batches do not go together", got=f"{len(rows)} rows")
        if nested:
            return cls(cls.pack([row for r in nested for row in r.rows()]), _splits(nested))
        arrays = [np.asarray(r) for r in rows]
        for a in arrays:
            if not a.ndim or a.shape[1:] != arrays[0].shape[1:]:
                raise ShapeError(
                    "rows may differ in their first axis only",
                    expected=f"[?, {', '.join(map(str, arrays[0].shape[1:]))}]",
                    got=str(list(a.shape)),
                )
        return cls(np.concatenate(arrays), _splits(arrays))

    def rows(self) -> list[Any]:
        """The rows, of arrays: arrays, or batches where the steps of a row are rows themselves."""
        splits = np.asarray(self.splits).tolist()
        if not isinstance(self.values, Ragged):
            values = np.asarray(self.values)
            return [values[a:b] for a, b in pairwise(splits)]
        inner, steps = np.asarray(self.values.splits), self.values
        flat = steps.values.rows() if isinstance(steps.values, Ragged) else np.asarray(steps.values)
        return [_between(flat, inner[a : b + 1]) for a, b in pairwise(splits)]

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

    def inner(self, fn: Callable[[Ragged], Any]) -> Any:
        """What `fn` makes of the innermost rows, under the levels around them.

        So a layer over sequences is applied to words of sentences:
        `documents.inner(lambda sentences: gru(sentences)[0].last())`.
        """
        if not isinstance(self.values, Ragged):
            return fn(self)
        return Ragged(self.values.inner(fn), self.splits)

    def map(self, fn: Callable[[Any], Any]) -> Ragged:
        """The same rows of `fn(values)`, which must keep the first axis."""
        out: Ragged = self.inner(lambda rows: Ragged(fn(rows.values), rows.splits))
        return out

    def flatten(self) -> Ragged:
        """The outer rows of all steps of the rows inside: one level less."""
        if not isinstance(self.values, Ragged):
            raise ArgumentError("these rows have steps, not rows inside")
        return Ragged(self.values.values, o.gather(self.values.splits, self.splits))

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
        return self.inner(lambda b: o.sequence_sum(b.values, b.splits))

    def mean(self) -> Any:
        """Over the steps of each row: [N, ...], 0 for an empty one."""
        return self.inner(lambda b: sequence.sequence_mean(b.values, b.splits))

    def max(self) -> Any:
        """Over the steps of each row: [N, ...], 0 for an empty one."""
        return self.inner(lambda b: o.sequence_max(b.values, b.splits))

    def first(self) -> Any:
        """The first step of each row: [N, ...], 0 for an empty one."""
        return self.inner(lambda b: o.sequence_end(b.values, b.splits, first=True))

    def last(self) -> Any:
        """The last step of each row: [N, ...], 0 for an empty one."""
        return self.inner(lambda b: o.sequence_end(b.values, b.splits))

    def softmax(self) -> Ragged:
        """Over the steps of each row."""
        return self._rows_of(sequence.sequence_softmax)

    # ---- the steps of each row moved about -----------------------------------------------------

    def reverse(self) -> Ragged:
        """Each row from its last step to its first."""
        return self._rows_of(ragged.sequence_reverse)

    def slice(self, offsets: Any, lengths: Any, *, size: Any) -> Ragged:
        """lengths[n] steps of row n from its step offsets[n] on, integers [N]; size: as of `unpad`.

        Raises ArgumentError, when it runs, for steps a row has not.
        """
        cut = {"offsets": offsets, "lengths": lengths, "size": size}
        out: Ragged = self.inner(
            lambda b: Ragged(*ragged.sequence_slice(b.values, b.splits, **cut))
        )
        return out

    def filter(self, keep: Any, *, size: str) -> Ragged:
        """The steps for which `keep`, booleans [T], holds; size: name of a new symbol."""
        wanted = {"keep": keep, "size": size}
        out: Ragged = self.inner(
            lambda b: Ragged(*ragged.sequence_filter(b.values, b.splits, **wanted))
        )
        return out

    def windows(self, length: int, *, start: int = 0, pad: Any = 0) -> Ragged:
        """With each step its neighbours within the row: values [T, length, ...].

        start: the first of them, counted from the step; pad: what stands where there is none
        """
        options = {"length": length, "start": start, "pad": pad}
        return self._rows_of(sequence_window.sequence_windows, **options)

    def pad(self, value: Any = 0, *, size: Any) -> Any:
        """[N, L, ...], `value` behind what a row holds.

        size: L, or the name of a new symbol for the longest row. Raises ArgumentError, when it
        runs, for a row longer than L.
        """
        return self.inner(lambda b: ragged.sequence_pad(b.values, b.splits, value, size=size))

    def _rows_of(self, fn: Callable[..., Any], **options: Any) -> Ragged:
        out: Ragged = self.inner(lambda b: Ragged(fn(b.values, b.splits, **options), b.splits))
        return out


def _splits(rows: Sequence[Any]) -> np.ndarray:
    counts = (len(r.splits) - 1 if isinstance(r, Ragged) else len(r) for r in rows)
    return np.cumsum([0, *counts], dtype=np.int64)


def _between(values: Any, splits: np.ndarray) -> Ragged:
    """The rows that these splits cut out, of an array or of rows inside."""
    part = values[splits[0] : splits[-1]]
    return Ragged(Ragged.pack(part) if isinstance(part, list) else part, splits - splits[0])
