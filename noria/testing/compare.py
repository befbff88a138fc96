"""Are two arrays the same, as far as their dtype can tell?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, is_float

# Largest difference allowed, relative to the largest number of the array.
TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}

# Beside arrays of small numbers a difference is relative to this: what is left of inputs near 1
# that cancel is rounding error, however small the result.
SMALLEST_SCALE = 0.1


def assert_same(
    got: Any, want: Any, what: str, *, tol: float | None = None, dtype: bool = True
) -> None:
    """Raise AssertionError unless two arrays have one shape, dtype and content.

    Floats may differ by `tol` (default: TOLERANCE of the coarser dtype) times the largest finite
    |want|; NaN equals NaN; infinities, integers and booleans must be equal.
    dtype: False lets the dtypes differ.
    """
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if dtype:
        assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    names = [as_dtype(a.dtype) for a in (got, want)]
    floats = [n for n in names if is_float(n)]
    if not floats:
        _report(got != want, got, want, what, "equal")
        return
    allowed = max(TOLERANCE[n] for n in floats) if tol is None else tol
    a, b = got.astype(np.float64), want.astype(np.float64)
    scale = max(SMALLEST_SCALE, largest(b))
    finite = np.isfinite(b)
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= allowed * scale
    same = np.where(finite, near, (a == b) | (np.isnan(a) & np.isnan(b)))
    _report(~same, got, want, what, f"within {allowed:g} * {scale:.3g}")


def assert_all_same(
    got: Sequence[Any],
    want: Sequence[Any],
    what: str,
    *,
    tol: float | None = None,
    dtype: bool = True,
) -> None:
    """`assert_same` for each pair of two lists of equal length."""
    assert len(got) == len(want), f"{what}: {len(got)} outputs, expected {len(want)}"
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert_same(g, w, f"{what}, output {i}", tol=tol, dtype=dtype)


def largest(array: np.ndarray) -> float:
    """The largest finite absolute value, 0 if there is none."""
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def _report(wrong: np.ndarray, got: np.ndarray, want: np.ndarray, what: str, rule: str) -> None:
    count = int(np.count_nonzero(wrong))
    if not count:
        return
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise AssertionError(
        f"{what}: {count} of {wrong.size} numbers are wrong ({rule} was required)\n"
        f"  first at {list(at)}: got {got[at]}, expected {want[at]}"
    )
