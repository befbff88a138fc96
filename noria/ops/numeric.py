"""What reference computations and composed functions share: halves in float32, adding into part of
an array."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, to_numpy
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec

HALVES = ("bfloat16", "float16")


def spec_of(x: Any) -> Spec:
    """dtype and shape of a Value or an array."""
    return Spec(x.shape, x.dtype)


def wide_dtype(dtype: str) -> str:
    """The dtype that sums and statistics of `dtype` are kept in: float32 for halves."""
    return "float32" if dtype in HALVES else dtype


def widen(x: Any) -> Any:
    """The array in float32 if it is a half, else as it is (None stays None)."""
    return x.astype("float32") if x is not None and as_dtype(x.dtype) in HALVES else x


def rounded(x: Any, dtype: Any) -> Any:
    """A float32 array as products of a half `dtype` take it: rounded to it; as it is for others."""
    return x.astype(dtype).astype("float32") if as_dtype(dtype) in HALVES else x


def single(x: Any) -> Any:
    """`widen` for what emits ops: a Value or array, cast to float32 if it is a half."""
    dtype = as_dtype(x.dtype)
    return o.cast(x, dtype="float32") if dtype in HALVES else x


def cast_like(value: Any, x: Any) -> Any:
    """A Value or array in the dtype of another; no operator is emitted if it has that already."""
    dtype = as_dtype(x.dtype)
    return value if as_dtype(value.dtype) == dtype else o.cast(value, dtype=dtype)


def in_float32(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a compute function: halves come in as float32, and if the first input was a
    half, float32 results go out as that half. So sums are accumulated in float32, rounded once."""

    @wraps(compute)
    def wrapped(xp: Any, *inputs: Any, **attrs: Any) -> Any:
        outs = compute(xp, *map(widen, inputs), **attrs)
        dtype = inputs[0].dtype
        if as_dtype(dtype) not in HALVES:
            return outs
        if isinstance(outs, tuple):
            return tuple(a.astype(dtype) if a.dtype == "float32" else a for a in outs)
        return outs.astype(dtype) if outs.dtype == "float32" else outs

    return wrapped


def products_in_float32(compute: Callable[..., Any]) -> Callable[..., Any]:
    """`in_float32` for products of matrices and convolutions: NumPy only. XLA itself adds the
    products of halves up in float32, and has fast units for them that float32 would not use.

    Where the op has the attribute `dtype` and it is given, the result has that dtype, and the sums
    over halves are not rounded to halves in between.
    """
    widened = in_float32(compute)

    @wraps(compute)
    def chosen(xp: Any, *inputs: Any, dtype: str | None = None, **attrs: Any) -> Any:
        if dtype is not None:
            return compute(xp, *map(widen, inputs), **attrs).astype(to_numpy(dtype))
        return (widened if xp is np else compute)(xp, *inputs, **attrs)

    return chosen


def add_at(xp: Any, array: Any, index: Any, value: Any, unique: bool = True) -> Any:
    """`array` with `value` added at `index`: in place for NumPy, a new array for jax.

    unique: no element is indexed twice (faster in NumPy).
    """
    if hasattr(array, "at"):
        return array.at[index].add(value)
    if unique:
        array[index] += value
    else:
        xp.add.at(array, index, value)
    return array
