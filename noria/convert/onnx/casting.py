"""Casts between the element types that Programs do not know: strings, small floats and integers.

They are done on what is known when a model is converted.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from noria.core.errors import FormatError

EIGHT_BITS = tuple(
    np.dtype(kind)
    for kind in (
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
    )
)
EXPONENT = np.dtype(ml_dtypes.float8_e8m0fnu)


def cast_numbers(
    array: np.ndarray, dtype: np.dtype[Any], saturate: bool = True, round_mode: str = "up"
) -> np.ndarray:
    """The array as another dtype, as ONNX's Cast has it.

    saturate:   what an eight-bit float cannot hold becomes its largest number, not NaN or infinity
    round_mode: of powers of two (float8_e8m0): "up", "down" or "nearest"
    Raises FormatError for a text that is no number.
    """
    if dtype.kind == "O":
        return _texts(array)
    if array.dtype.kind == "O":
        array = _numbers(array)
        if dtype.kind in "iub":
            return array.astype(np.int64).astype(dtype)
    if dtype == EXPONENT:
        return _exponents(array.astype(np.float32), saturate, round_mode)
    if dtype in EIGHT_BITS and saturate:
        wide = array.astype(np.float32)
        top = float(ml_dtypes.finfo(dtype).max)
        return np.where(np.isnan(wide), wide, np.clip(wide, -top, top)).astype(dtype)
    if dtype == np.bool_:
        return array.astype(np.float32) != 0
    return array.astype(dtype)


def _texts(array: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.empty(array.shape, object)
    for at in np.ndindex(array.shape):
        out[at] = str(array[at])
    return out


def _numbers(array: np.ndarray) -> np.ndarray:
    """Decimal, with or without an exponent, and the words for infinity and no number."""
    try:
        return np.array([float(v) for v in array.reshape(-1)], np.float64).reshape(array.shape)
    except (ValueError, TypeError) as error:
        raise FormatError("a text is cast that is no number", got=str(error)) from None


def _exponents(x: np.ndarray, saturate: bool, round_mode: str) -> np.ndarray:
    """The power of two next to |x|; 255 is no number."""
    if round_mode not in ("up", "down", "nearest"):
        raise FormatError("unknown rounding", expected="up, down or nearest", got=repr(round_mode))
    bits = np.abs(x).view(np.uint32)
    fraction = bits & 0x7FFFFF
    edge = {"up": 1, "nearest": 0x400000, "down": 1 << 23}[round_mode]
    finite = np.isfinite(x)
    power = (bits >> 23) + (fraction >= edge) * finite
    top = 254 if saturate else 255
    return np.where(finite, np.minimum(power, top), 255).astype(np.uint8).view(EXPONENT)
