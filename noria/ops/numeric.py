"""What computations share: half floats in float32, adding into part of an array."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from noria.core.dtypes import as_dtype
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
            return tuple(o.astype(dtype) if o.dtype == "float32" else o for o in outs)
        return outs.astype(dtype) if outs.dtype == "float32" else outs

    return wrapped


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
