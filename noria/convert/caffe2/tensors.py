"""Caffe2's dtypes, and tensors stored as messages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, DTypeError, FormatError

DTYPES = {
    1: "float32",
    2: "int32",
    3: "uint8",
    5: "bool",
    6: "uint8",
    7: "int8",
    8: "uint16",
    9: "int16",
    10: "int64",
    12: "float16",
    13: "float64",
}
_NAMES = {"float": 1, "double": 13, "int": 2, "byte": 3, "string": 4, "long": 10} | {
    name: code for code, name in DTYPES.items()
}


def dtype_of(code: Any, where: str) -> str:
    """noria's dtype for Caffe2's number or word. Raises DTypeError for strings and unknown ones."""
    number = _NAMES.get(code.lower(), -1) if isinstance(code, str) else code
    if number not in DTYPES:
        kind = "tensors of strings" if number == 4 else f"dtype {code!r}"
        raise DTypeError(f"{kind} are not supported", where=where, expected=", ".join(_NAMES))
    return DTYPES[number]


def sizes_of(sizes: Any, where: str) -> tuple[int, ...]:
    """A shape of a file. Raises FormatError for sizes that no array has."""
    shape = tuple(int(n) for n in sizes)
    if any(n < 0 for n in shape) or math.prod(max(n, 1) for n in shape) >= 1 << 48:
        raise FormatError("no array has such sizes", where=where, got=str(list(shape)))
    return shape


def filled(values: Any, sizes: Any, dtype: str, where: str) -> np.ndarray:
    """Listed numbers in a shape. Raises FormatError where there are more or fewer."""
    shape = sizes_of(sizes, where)
    listed = np.asarray(values)
    if listed.size != math.prod(shape):
        raise FormatError(
            "a tensor has another number of values",
            where=where,
            expected=f"{math.prod(shape):,} for {list(shape)}",
            got=f"{listed.size:,}",
        )
    try:
        return listed.astype(to_numpy(dtype)).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise ArgumentError(
            f"these are no numbers of {dtype}", where=where, got=str(error)
        ) from None


def array_of(tensor: Any) -> np.ndarray:
    """The numbers of a TensorProto. Raises FormatError, DTypeError."""
    where = f"tensor '{tensor.name}'"
    dtype = dtype_of(tensor.data_type, where)
    if tensor.HasField("raw_data"):
        return filled(_raw(tensor.raw_data, dtype, where), tensor.dims, dtype, where)
    if tensor.HasField("byte_data"):
        return filled(_raw(tensor.byte_data, "uint8", where), tensor.dims, dtype, where)
    if dtype == "float16":  # stored as the bits of each number
        bits = np.array(tensor.int32_data, np.int64).astype(np.uint16)
        return filled(bits.view(np.float16), tensor.dims, dtype, where)
    stored = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}
    numbers = getattr(tensor, stored.get(dtype, "int32_data"))
    return filled(np.array(numbers), tensor.dims, dtype, where)


def _raw(data: bytes, dtype: str, where: str) -> np.ndarray:
    kind = np.dtype(to_numpy(dtype)).newbyteorder("<")
    if len(data) % kind.itemsize:
        raise FormatError("bytes of half a number", where=where, got=f"{len(data):,} bytes")
    return np.frombuffer(data, kind)
