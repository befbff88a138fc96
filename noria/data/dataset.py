"""Data sets: named columns of equal length that give the samples asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noria.core.errors import ArgumentError, DTypeError, MissingError, ShapeError, nearest

Batch = dict[str, NDArray[Any]]


@runtime_checkable
class Dataset(Protocol):
    """What a `Reader` needs: a length, and the samples at some positions as a dict of arrays."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64], /) -> Batch:
        """The samples at `indices` (int64 `[n]`), in that order: name -> array `[n, ...]`."""
        ...


class ArrayDataset:
    """A data set of arrays in memory (or memory-mapped), one per name.

    arrays: name -> array-like `[N, ...]`, any dtype but object; N is the same for all. Arrays are
        kept as they are, not copied.
    Raises ArgumentError without arrays, ShapeError for a scalar or unequal lengths, DTypeError for
    an object array (rows of unequal length).
    """

    def __init__(self, arrays: Mapping[str, ArrayLike]) -> None:
        if not arrays:
            raise ArgumentError("a data set needs at least one array", got="none")
        self._arrays = {name: _column(name, array) for name, array in arrays.items()}
        lengths = {name: len(array) for name, array in self._arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ShapeError(
                "the arrays of a data set differ in length",
                expected="one number of samples",
                got=", ".join(f"'{name}' {n}" for name, n in lengths.items()),
            )
        self._length = next(iter(lengths.values()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> NDArray[Any]:
        """The whole array of a name. Raises MissingError for a name that is not there."""
        try:
            return self._arrays[name]
        except (KeyError, TypeError):
            hint = nearest(str(name), self._arrays)
            raise MissingError(f"the data set has no array {name!r}", hint=hint) from None

    def take(self, indices: ArrayLike, /) -> Batch:
        """Copies of the samples at `indices` (integers `[n]`, 0 <= i < N), in that order.

        Raises ArgumentError for indices that are not a vector of integers in that range.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            got = f"{chosen.dtype} {list(chosen.shape)}"
            raise ArgumentError("indices must be a vector of integers", got=got)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self._length):
            raise ArgumentError(
                "index outside of the data set",
                expected=f"0 <= index < {self._length}",
                got=f"{chosen.min()} to {chosen.max()}",
            )
        chosen = chosen.astype(np.int64, copy=False)
        return {name: array[chosen] for name, array in self._arrays.items()}

    def __repr__(self) -> str:
        columns = (f"{k}: {a.dtype} {list(a.shape[1:])}" for k, a in self._arrays.items())
        return f"ArrayDataset({self._length} x {{{', '.join(columns)}}})"


def _column(name: str, array: ArrayLike) -> NDArray[Any]:
    try:
        column = np.asarray(array)
    except ValueError:  # NumPy's message for rows of unequal length
        column = np.empty(0, object)
    if column.dtype.hasobject:
        raise DTypeError(
            f"the array '{name}' is not a rectangular array of numbers or fixed-size values",
            hint="rows of unequal length go packed: all values in one array, lengths in another",
        )
    if column.ndim == 0:
        raise ShapeError(f"the array '{name}' has no first axis to count samples by", got="scalar")
    return column
