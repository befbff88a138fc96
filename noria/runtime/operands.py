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


class Kinds:
    """Numbers for Values: the same for those that have the same shape, dtype and layout, which are
    therefore the same operand for all sizes.

    layouts: of the values that are not row-major
    fixed:   operands of the kinds that no size is part of, as far as somebody asked
    """

    def __init__(self, layouts: Mapping[Value, str]) -> None:
        self.of: dict[Value, int] = {}
        self.specs: list[tuple[tuple[int | Dim, ...], str, str]] = []
        self.fixed: dict[int, Array] = {}
        self._layouts = layouts
        self._numbers: dict[Any, int] = {}

    def number(self, value: Value) -> int:
        """The kind of a value."""
        found = self.of.get(value)
        if found is None:
            spec = (value.shape, value.dtype, self._layouts.get(value, PLAIN))
            found = self.of[value] = self._numbers.setdefault(spec, len(self.specs))
            if found == len(self.specs):
                self.specs.append(spec)
        return found


class Operands:
    """The operands that Values are for one set of sizes.

    sizes: symbol -> number
    kinds: of the values, the same object for all sets of sizes
    """

    def __init__(self, sizes: Mapping[str, int], kinds: Kinds) -> None:
        self.sizes, self.kinds = dict(sizes), kinds
        self._of = kinds.of
        self._arrays = dict(kinds.fixed)
        self._dims: dict[Dim, int] = {}

    def known(self, value: Value) -> bool:
        """Do the sizes tell its shape? If not, only a run does."""
        return symbols_of(value.shape) <= self.sizes.keys()

    def array(self, value: Value) -> Array:
        """Real shape and strides. Raises MissingError if the sizes do not tell them."""
        number = self._of.get(value)
        if number is None:
            number = self.kinds.number(value)
        return self._arrays.get(number) or self.of_kind(number)

    def of_kind(self, number: int) -> Array:
        """The operand that each value of that kind is."""
        found = self._arrays.get(number)
        if found is None:
            shape, dtype, layout = self.kinds.specs[number]
            sizes = tuple(map(self._size, shape))
            found = self._arrays[number] = Array(sizes, dtype, strides_of(sizes, layout))
            if not symbols_of(shape):
                self.kinds.fixed[number] = found
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
    raw: Any = _Bytes.from_address(address)
    strides = tuple([s * dtype.itemsize for s in array.strides])
    return np.ndarray(array.shape, dtype, buffer=raw, strides=strides)


# As many as an address may have behind it: a type for each number of bytes takes ctypes 20 us.
_Bytes = ctypes.c_char * (1 << 47)
