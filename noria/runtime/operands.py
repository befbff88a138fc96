"""Values with real sizes: shapes, strides, and arrays on memory given by its address."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import Dim, evaluate, symbols_of
from noria.ir.program import Value
from noria.kernels.registry import PLAIN, Array, strides_of


class Operands:
    """The operands that Values are for one set of sizes.

    sizes:   symbol -> number
    layouts: of the values that are not row-major
    same:    operands that are the same for all sizes; those found here are added
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        layouts: Mapping[Value, str],
        same: dict[Value, Array] | None = None,
    ) -> None:
        self.sizes, self.layouts = dict(sizes), layouts
        self._same = {} if same is None else same
        self._arrays = dict(self._same)
        self._dims: dict[Dim, int] = {}

    def known(self, value: Value) -> bool:
        """Do the sizes tell its shape? If not, only a run does."""
        return symbols_of(value.shape) <= self.sizes.keys()

    def array(self, value: Value) -> Array:
        """Real shape and strides. Raises MissingError if the sizes do not tell them."""
        found = self._arrays.get(value)
        if found is None:
            shape = tuple(map(self._size, value.shape))
            strides = strides_of(shape, self.layouts.get(value, PLAIN))
            found = self._arrays[value] = Array(shape, value.dtype, strides)
            if not symbols_of(value.shape):
                self._same[value] = found
        return found

    def _size(self, d: int | Dim) -> int:
        if not isinstance(d, Dim):
            return d
        n = self._dims.get(d)
        if n is None:
            n = self._dims[d] = evaluate(d, self.sizes)
        return n


def array_at(address: int, array: Array) -> np.ndarray:
    """A NumPy view of memory at an address (which the caller keeps alive)."""
    dtype = dtypes.to_numpy(array.dtype)
    if array.size == 0:
        return np.zeros(array.shape, dtype)
    span = 1 + sum((d - 1) * s for d, s in zip(array.shape, array.strides, strict=True))
    raw: Any = (ctypes.c_char * (span * dtype.itemsize)).from_address(address)
    strides = tuple(s * dtype.itemsize for s in array.strides)
    return np.ndarray(array.shape, dtype, buffer=raw, strides=strides)
