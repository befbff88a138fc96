"""Values with real sizes: shapes, strides, and arrays on memory given by its address."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import Dim, compile_dims, evaluate, symbols_of
from noria.core.errors import NoriaError
from noria.ir.program import Value
from noria.kernels.registry import PLAIN, Array, strides_of

# Sizes, how to work them out, and in which order that takes the symbols.
_Dims = tuple[list[Dim], Callable[[Sequence[int]], list[int]], list[str]]


class Kinds:
    """Numbers for Values: the same for those that have the same shape, dtype and layout, which are
    therefore the same operand for all sizes.

    layouts: of the values that are not row-major
    fixed:   operands of the kinds that no size is part of, as far as somebody asked
    dims:    the sizes in them that are known for given symbols, and how to work them out
    """

    def __init__(self, layouts: Mapping[Value, str]) -> None:
        self.of: dict[Value, int] = {}
        self.specs: list[tuple[tuple[int | Dim, ...], str, str]] = []
        self.fixed: dict[int, Array] = {}
        self.dims: dict[frozenset[str], _Dims] = {}
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
                self.dims.clear()
        return found

    def worked_out(self, sizes: Mapping[str, int]) -> dict[Dim, int]:
        """All sizes in the kinds met so far that these symbols tell, worked out at once."""
        symbols = frozenset(sizes)
        found = self.dims.get(symbols)
        if found is None:
            dims = {d for shape, _, _ in self.specs for d in shape if isinstance(d, Dim)}
            told = [d for d in dims if symbols_of(d) <= symbols]
            order = sorted(symbols)
            found = self.dims[symbols] = told, compile_dims(told, order), order
        told, run, order = found
        try:
            return dict(zip(told, run([sizes[name] for name in order]), strict=True))
        except NoriaError:  # whoever needs that size gets the error
            return {}


class Operands:
    """The operands that Values are for one set of sizes.

    sizes: symbol -> number
    kinds: of the values, the same object for all sets of sizes
    """

    def __init__(self, sizes: Mapping[str, int], kinds: Kinds) -> None:
        self.sizes, self.kinds = dict(sizes), kinds
        self._of = kinds.of
        self._arrays = dict(kinds.fixed)
        self._dims: dict[Dim, int] = kinds.worked_out(self.sizes)

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

    def attr(self, value: Any) -> Any:
        """An attribute with every symbolic size replaced by its number."""
        if isinstance(value, tuple):
            return tuple([self.attr(v) for v in value])
        return self._size(value) if isinstance(value, Dim) else value

    def _size(self, d: int | Dim) -> int:
        if type(d) is int:
            return d
        assert isinstance(d, Dim)
        n = self._dims.get(d)
        if n is None:
            n = self._dims[d] = evaluate(d, self.sizes)
        return n


def array_at(address: int, array: Array) -> np.ndarray:
    """A NumPy view of memory at an address (which the caller keeps alive)."""
    return view_at(address, array.shape, dtypes.to_numpy(array.dtype), array.strides)


def view_at(
    address: int, shape: tuple[int, ...], dtype: np.dtype, strides: Sequence[int]
) -> np.ndarray:
    """The same; strides in elements."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    raw: Any = _Bytes.from_address(address)
    size = dtype.itemsize
    return np.ndarray(shape, dtype, buffer=raw, strides=tuple([s * size for s in strides]))


# As many as an address may have behind it: a type for each number of bytes takes ctypes 20 us.
_Bytes = ctypes.c_char * (1 << 47)
