"""Element types, by name.

A dtype in the IR is one of the strings below: it prints, parses, hashes and compares without
importing anything. NumPy carries all of them (bfloat16 through ml_dtypes).
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from noria.core.errors import DTypeError, nearest

FLOATS = ("bfloat16", "float16", "float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
ALL = ("bool", *UNSIGNED, *SIGNED, *FLOATS)

_NUMPY = {n: np.dtype(n) for n in ALL if n != "bfloat16"} | {
    "bfloat16": np.dtype(ml_dtypes.bfloat16)
}
_NAMES = {v: k for k, v in _NUMPY.items()}


def as_dtype(dtype: Any) -> str:
    """The name of a dtype given as a name, a NumPy dtype or type, or a Python type.

    Raises DTypeError for anything else.
    """
    if isinstance(dtype, str) and dtype in _NUMPY:
        return dtype
    if dtype is float:
        return "float32"
    try:
        return _NAMES[np.dtype(dtype)]
    except (TypeError, KeyError):
        hint = nearest(str(dtype), ALL)
        raise DTypeError(f"unknown dtype {dtype!r}", got=repr(dtype), hint=hint) from None


def to_numpy(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of a name."""
    return _NUMPY[dtype]


def itemsize(dtype: str) -> int:
    """Bytes of one element."""
    return _NUMPY[dtype].itemsize


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def is_integer(dtype: str) -> bool:
    return dtype in SIGNED or dtype in UNSIGNED


def promote(a: str, b: str) -> str:
    """The dtype both fit in: bool < unsigned < signed < float, wider wins.

    bfloat16 with float16 gives float32. An integer with a float gives the float: noria never
    widens a float because an integer was wide (as NumPy does with int64 and float32).
    """
    if a == b:
        return a
    for x, y in ((a, b), (b, a)):
        if y == "bool" or (is_float(x) and is_integer(y)):
            return x
    if {a, b} == {"bfloat16", "float16"}:
        return "float32"
    if is_float(a):
        return max(a, b, key=FLOATS.index)
    return _NAMES[np.promote_types(a, b)] if np.promote_types(a, b).kind in "iu" else "int64"
