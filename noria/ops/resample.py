"""Along one axis: where each element of a resized array looks, and with which weights.

NumPy only, and on real sizes, but for how large a scaled array is. All maps are linear and along
single axes, so `ops/resizing.py` needs nothing else. The words are those of ONNX's Resize, whose
meaning they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from noria.core.dims import Dim, Size
from noria.core.errors import ArgumentError, ShapeError

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


class Filter(NamedTuple):
    """How an array is resized, the same along all axes; each field is told in `ops/resizing.py`."""

    mode: str
    coordinates: str
    rounding: str
    cubic_a: float
    antialias: bool
    exclude_outside: bool
    single: bool


class Taps(NamedTuple):
    """What m elements are made of: out[i] = sum over k of weights[i, k] * x[ids[i, k]].

    ids:     [m, k] positions in [0, n)
    weights: [m, k] of float64
    beyond:  [m], true for elements that lie outside the array and are not made of it; None: none
    """

    ids: np.ndarray
    weights: np.ndarray
    beyond: np.ndarray | None

    def matrix(self, n: int) -> np.ndarray:
        """The same as a matrix [m, n]."""
        rows = np.broadcast_to(np.arange(len(self.ids))[:, None], self.ids.shape)
        weights = self.weights
        if self.beyond is not None:
            weights = np.where(self.beyond[:, None], 0.0, weights)
        out = np.zeros((len(self.ids), n))
        np.add.at(out, (rows, self.ids), weights)
        return out


def taps(n: int, m: int, scale: float | None, how: Filter, crop: tuple[float, float]) -> Taps:
    """For n elements made m. scale: m / n unless given; crop: (start, end), each a share of n."""
    if not m:
        return Taps(np.zeros((0, 1), np.int64), np.zeros((0, 1)), None)
    x = (_single if how.single else _positions)(n, m, scale, how.coordinates, crop)
    beyond = None
    if how.coordinates == "tf_crop_and_resize":
        beyond = (x < 0) | (x > n - 1)
    if how.mode == "nearest":
        ids = _rounded(x, how.rounding)[:, None]
        weights = np.ones(ids.shape)
    else:
        stretch = min(m / n if scale is None else scale, 1.0) if how.antialias else 1.0
        ids, weights = _neighbours(x, stretch, how)
        if how.exclude_outside:
            weights = _normalized(np.where((ids < 0) | (ids >= n), 0.0, weights))
    return Taps(np.clip(ids, 0, n - 1).astype(np.int64), weights, beyond)


def taps_along(
    shape: Sequence[int], axes: Sequence[int], sizes: Any, scales: Any, crop: Any, how: Filter
) -> list[tuple[int, Taps]]:
    """(axis, its taps) of the resized axes that change."""
    found = []
    for i, (axis, size) in enumerate(zip(axes, sizes, strict=True)):
        scale = None if scales is None else scales[i]
        part = (crop[i], crop[i + len(axes)]) if crop else (0.0, 1.0)
        same = size == shape[axis] and scale in (None, 1.0) and part == (0.0, 1.0)
        if size == 0 or shape[axis] == 0:
            if size:
                raise ShapeError("there is nothing to resize", got=f"axis {axis} of {list(shape)}")
            found.append((axis, taps(1, size, None, how, part)))
        elif not same:
            found.append((axis, taps(shape[axis], size, scale, how, part)))
    return found


def _positions(
    n: int, m: int, scale: float | None, coordinates: str, crop: tuple[float, float]
) -> np.ndarray:
    """Where in the array each of the m elements lies, 0 being the middle of its first element."""
    y = np.arange(m, dtype=np.float64)
    length = float(m) if scale is None else n * scale
    if coordinates in ("align_corners", "tf_crop_and_resize"):
        start, end = crop if coordinates == "tf_crop_and_resize" else (0.0, 1.0)
        if length == 1:
            middle = (start + end) / 2 if coordinates == "tf_crop_and_resize" else start
            return np.full(m, middle * (n - 1))
        return start * (n - 1) + y * ((end - start) * (n - 1)) / (length - 1)
    if coordinates == "asymmetric":
        return y * n / m if scale is None else y / scale
    if coordinates == "pytorch_half_pixel" and m == 1:
        return np.zeros(1)
    x: np.ndarray = (y + 0.5) * n / m if scale is None else (y + 0.5) / scale
    if coordinates == "half_pixel_symmetric":
        x = n / 2 * (1 - m / length) + x
    return x - 0.5


def _single(
    n: int, m: int, scale: float | None, coordinates: str, crop: tuple[float, float]
) -> np.ndarray:
    """The same where every step is in float32, and a step between elements is multiplied by."""
    y = np.arange(m, dtype=np.float32)
    if coordinates == "align_corners":
        step = np.float32(0 if m == 1 else (n - 1) / (m - 1))
        return (y * step).astype(np.float64)
    step = np.float32(n / m if scale is None else 1 / scale)
    if coordinates == "asymmetric":
        return (y * step).astype(np.float64)
    return ((y + np.float32(0.5)) * step).astype(np.float64) - 0.5


def _rounded(x: np.ndarray, rounding: str) -> np.ndarray:
    if rounding == "round_prefer_floor":
        return np.ceil(x - 0.5)
    if rounding == "round_prefer_ceil":
        return np.floor(x + 0.5)
    return np.floor(x) if rounding == "floor" else np.ceil(x)


def _neighbours(x: np.ndarray, stretch: float, how: Filter) -> tuple[np.ndarray, np.ndarray]:
    """Positions around x, also beyond the array, and their weights: [m, k] both.

    stretch: 1, or less where the filter is made wider by its reciprocal against aliasing.
    """
    radius = (1 if how.mode == "linear" else 2) / stretch
    first = math.floor(-radius) + 1
    ids = np.floor(x)[:, None] + np.arange(first, 2 - first)
    distance = np.abs(ids - x[:, None]) * stretch
    if how.mode == "linear":
        weights = np.maximum(1 - distance, 0)
    else:
        weights = cubic(distance, how.cubic_a)
    return ids, _normalized(weights) if how.antialias else weights


def _normalized(weights: np.ndarray) -> np.ndarray:
    """Weights whose sums are 1, or 0 where all are 0."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total == 0, 1.0, total)


def cubic(distance: Any, a: float, where: Callable[..., Any] = np.where) -> Any:
    """The weight of a neighbour at a distance >= 0 (Keys, 1981); 0 from 2 on."""
    d = distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return where(d <= 1, near, where(d < 2, far, 0.0))


def scaled(size: Size, scale: float) -> Size:
    """size * scale, rounded down. A symbolic size needs a scale that is a simple fraction."""
    if not isinstance(size, Dim):
        return int(size * scale)
    exact = Fraction(scale).limit_denominator(256)
    if abs(float(exact) - scale) > 1e-7 * scale:
        raise ArgumentError(
            "a size that is open can be scaled by simple fractions only",
            got=f"{size} times {scale}",
            hint="give the size, or a scale like 0.5 or 4/3",
        )
    return size * exact.numerator // exact.denominator
