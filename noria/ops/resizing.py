"""Resizing arrays along some axes: nearest, linear and cubic interpolation, and its gradient.

Every mode is a linear map along each axis by itself (`ops/resample.py`); the gradient is the
transpose of that map, an op of its own whose gradient is the resizing again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

from noria.core.dims import Dim, Size
from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, as_shape
from noria.ops.common import axis_of, need_float, shaped
from noria.ops.numeric import in_float32
from noria.ops.resample import COORDINATES, MODES, ROUNDINGS, Filter, Taps, scaled, taps_along
from noria.ops.window import per_axis


def _one_of(value: Any, known: Sequence[str], what: str) -> None:
    if value not in known:
        raise ArgumentError(f"unknown {what}", expected=", ".join(known), got=repr(value))


def _axes(axes: Any, count: int, ndim: int) -> tuple[int, ...]:
    """Which axes are resized: as given, or all behind the first two."""
    if not (axes is None or isinstance(axes, (tuple, list))):
        raise ArgumentError("axes are a sequence of integers", got=repr(axes))
    found = tuple(range(2, ndim)) if axes is None else tuple(axis_of(a, ndim) for a in axes)
    if len(found) != count or len(set(found)) != count:
        raise ArgumentError(
            "each resized axis needs one size", expected=f"{len(found)} sizes", got=f"{count}"
        )
    return found


def _numbers(values: Any, count: int) -> bool:
    """Are these so many finite numbers?"""
    listed = isinstance(values, (tuple, list)) and len(values) == count
    return listed and all(isinstance(v, (int, float)) and isfinite(v) for v in values)


def _check(
    ndim: int, axes: tuple[int, ...], scales: Any, crop: Any, coordinates: str, how: Filter
) -> None:
    """The attributes that do not concern sizes."""
    _one_of(how.mode, MODES, "mode")
    _one_of(coordinates, COORDINATES, "coordinates")
    _one_of(how.rounding, ROUNDINGS, "rounding")
    if scales is not None and not (_numbers(scales, len(axes)) and all(s > 0 for s in scales)):
        raise ArgumentError(
            "scales are positive numbers, one for each axis", got=f"{scales} for axes {axes}"
        )
    wanted = 2 * len(axes) if coordinates == "tf_crop_and_resize" else 0
    if not _numbers(() if crop is None else crop, wanted):
        raise ArgumentError(
            "crop is where the part begins and ends along each axis, for tf_crop_and_resize only",
            expected=f"{wanted} numbers",
            got=repr(crop),
        )
    if how.single and coordinates not in ("half_pixel", "asymmetric", "align_corners"):
        raise ArgumentError("positions in float32 are not defined", got=f"for '{coordinates}'")
    if how.antialias and how.mode == "nearest":
        raise ArgumentError("antialias needs linear or cubic interpolation", got="mode='nearest'")


def _resized(shape: Shape, axes: tuple[int, ...], sizes: Any) -> Shape:
    """The shape with other sizes along the axes."""
    out = list(shape)
    for axis, size in zip(axes, as_shape(sizes), strict=True):
        if shape[axis] == 0 and size != 0:
            raise ShapeError("there is nothing to resize", got=f"axis {axis} of {list(shape)}")
        out[axis] = size
    return tuple(out)


@op
def resize(
    x,
    *,
    sizes,
    axes=None,
    scales=None,
    mode="linear",
    coordinates="half_pixel",
    rounding="round_prefer_floor",
    cubic_a=-0.75,
    antialias=False,
    exclude_outside=False,
    single=False,
    crop=None,
    beyond=0.0,
):
    """x with other sizes along some axes: each new element is interpolated between old ones.

    sizes:   of the resized axes
    axes:    which ones; all but the first two, unless given
    scales:  of each axis, for where the new elements lie; sizes over old sizes unless given
    mode:    'nearest', 'linear' (bilinear, trilinear ...) or 'cubic' (Keys, 1981)
    coordinates: where element y of m lies among n: 'half_pixel' (y + 0.5) / scale - 0.5,
             'pytorch_half_pixel' the same but 0 for m = 1, 'half_pixel_symmetric' the same with
             the middles on each other where scale * n is not whole, 'asymmetric' y / scale,
             'align_corners' y * (n - 1) / (m - 1), 'tf_crop_and_resize' the latter in a part of
             the array. Elements beyond the border count as those on it
    rounding: for 'nearest', which of two neighbours: 'round_prefer_floor', 'round_prefer_ceil',
             'floor' or 'ceil'
    cubic_a: coefficient of the cubic filter; -0.75 in PyTorch and OpenCV, -0.5 in Pillow
    antialias: an array that becomes smaller is filtered by as much, as Pillow does
    exclude_outside: what lies beyond the border has no weight
    single:  positions are worked out in float32, as PyTorch and Paddle do: where two elements are
             equally near, it may be the other one. For 'half_pixel', 'asymmetric' and
             'align_corners'
    crop, beyond: for 'tf_crop_and_resize': where the part begins along each axis, and where it
             ends, as shares of n - 1; and the value of elements that lie beyond the array

    Floats; mode 'nearest' takes any dtype. Sums over halves are float32. The definitions are those
    of ONNX's Resize. Raises ArgumentError for unknown words, ShapeError for nothing to resize.
    """
    if mode != "nearest" and not is_float(x.dtype):
        raise DTypeError(
            "interpolation needs floats",
            got=str(x),
            hint="mode='nearest', or ops.cast(x, dtype='float32')",
        )
    at = _axes(axes, len(as_shape(sizes)), x.ndim)
    how = Filter(mode, coordinates, rounding, cubic_a, antialias, exclude_outside, single)
    _check(x.ndim, at, scales, crop, coordinates, how)
    return Spec(_resized(x.shape, at, sizes), x.dtype)


@resize.compute
@in_float32
def _(xp, x, sizes, axes, scales, crop, beyond, **how):
    sizes = as_shape(sizes)
    at = _axes(axes, len(sizes), x.ndim)
    for axis, found in taps_along(x.shape, at, sizes, scales, crop, Filter(**how)):
        x = _along(xp, x, axis, found, beyond)
    return x


@resize.work
def _(x, out):
    return 4.0 * out.size, x.nbytes + out.nbytes


@resize.grad
def _(x, g, op):
    how = {k: v for k, v in op.attrs.items() if k not in ("sizes", "beyond")}
    old = [x.shape[a] for a in _axes(how["axes"], len(as_shape(op.attrs["sizes"])), x.ndim)]
    return o.resize_grad(g, sizes=tuple(old), **how)


@op
def resize_grad(
    grad,
    *,
    sizes,
    axes=None,
    scales=None,
    mode="linear",
    coordinates="half_pixel",
    rounding="round_prefer_floor",
    cubic_a=-0.75,
    antialias=False,
    exclude_outside=False,
    single=False,
    crop=None,
):
    """Gradient of a resizing, from that of its result. sizes: what the resized axes had before."""
    need_float(grad)
    at = _axes(axes, len(as_shape(sizes)), grad.ndim)
    how = Filter(mode, coordinates, rounding, cubic_a, antialias, exclude_outside, single)
    _check(grad.ndim, at, scales, crop, coordinates, how)
    out = list(grad.shape)
    for axis, size in zip(at, as_shape(sizes), strict=True):
        out[axis] = size
    return Spec(tuple(out), grad.dtype)


@resize_grad.compute
@in_float32
def _(xp, grad, sizes, axes, scales, crop, **how):
    sizes = as_shape(sizes)
    at = _axes(axes, len(sizes), grad.ndim)
    shape = list(grad.shape)
    for axis, size in zip(at, sizes, strict=True):
        shape[axis] = size
    new = [grad.shape[a] for a in at]
    for axis, found in taps_along(shape, at, new, scales, crop, Filter(**how)):
        matrix = xp.asarray(found.matrix(shape[axis]), grad.dtype)
        grad = xp.moveaxis(xp.moveaxis(grad, axis, -1) @ matrix, -1, axis)
    return grad


@resize_grad.work
def _(grad, out):
    return 4.0 * grad.size, grad.nbytes + out.nbytes


@resize_grad.grad
def _(grad, g, op):
    new = [
        grad.shape[a] for a in _axes(op.attrs["axes"], len(as_shape(op.attrs["sizes"])), grad.ndim)
    ]
    return o.resize(g, **op.attrs | {"sizes": tuple(new)})


def _along(xp: Any, x: Any, axis: int, found: Taps, beyond: float) -> Any:
    """x interpolated along one axis."""
    behind = (1,) * (x.ndim - axis - 1)
    if found.ids.shape[1] == 1:
        out = xp.take(x, found.ids[:, 0], axis=axis)
    else:
        parts = (
            xp.take(x, ids, axis=axis) * xp.asarray(weights.reshape(-1, *behind), x.dtype)
            for ids, weights in zip(found.ids.T, found.weights.T, strict=True)
        )
        out = functools.reduce(xp.add, parts)
    if found.beyond is not None:
        out = xp.where(found.beyond.reshape(-1, *behind), xp.asarray(beyond, x.dtype), out)
    return out


# ---- PyTorch's interface -----------------------------------------------------------------------

_TORCH = {
    "linear": (1, "linear"),
    "bilinear": (2, "linear"),
    "trilinear": (3, "linear"),
    "bicubic": (2, "cubic"),
}
_INTERPOLATE = ("nearest", "nearest-exact", *_TORCH, "area")


def interpolate(
    x: Any,
    *,
    size: int | Sequence[Size] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
    antialias: bool = False,
) -> Any:
    """x [N, C, sizes...] resized to `size`, or by `scale_factor`, as PyTorch's function does.

    mode: 'nearest', 'nearest-exact', 'linear' ([N, C, L]), 'bilinear' and 'bicubic' ([N, C, H, W]),
    'trilinear' ([N, C, D, H, W]), or 'area' (means of the parts that become one element).
    Raises ArgumentError unless one of size and scale_factor is given, and for what does not fit.
    """
    x = shaped(x)
    _one_of(mode, _INTERPOLATE, "mode")
    n = x.ndim - 2
    if n < 1 or (mode in _TORCH and _TORCH[mode][0] != n):
        raise ShapeError(f"mode '{mode}' does not fit the rank of x", got=f"rank {x.ndim}")
    if align_corners and mode not in _TORCH:
        raise ArgumentError("align_corners needs linear or cubic interpolation", got=mode)
    if antialias and (mode not in ("bilinear", "bicubic") or align_corners):
        raise ArgumentError("antialias goes with 'bilinear' or 'bicubic' without align_corners")
    sizes, scales = _targets(x.shape[2:], size, scale_factor)
    if mode == "area":
        return _area(n)(x, size=sizes)
    how: dict[str, Any] = {"sizes": sizes, "scales": None if align_corners else scales}
    if mode in _TORCH:
        how |= {"mode": _TORCH[mode][1], "antialias": antialias, "exclude_outside": antialias}
        how["coordinates"] = "align_corners" if align_corners else "half_pixel"
        how["cubic_a"] = -0.5 if antialias else -0.75
    else:
        exact = mode == "nearest-exact"
        how |= {"mode": "nearest", "coordinates": "half_pixel" if exact else "asymmetric"}
        how |= {"rounding": "round_prefer_ceil" if exact else "floor", "single": True}
    return o.resize(x, **how)


def _area(n: int) -> Callable[..., Any]:
    if n > 3:
        raise ShapeError("mode 'area' takes 1 to 3 spatial axes", got=f"{n}")
    pool: Callable[..., Any] = getattr(o, f"adaptive_avg_pool{n}d")
    return pool


def _targets(
    old: Sequence[Size], size: Any, scale_factor: Any
) -> tuple[tuple[Size, ...], tuple[float, ...] | None]:
    """New sizes, and the scales if these were given."""
    n = len(old)
    if (size is None) == (scale_factor is None):
        raise ArgumentError(
            "either size or scale_factor", got=f"size={size}, scale_factor={scale_factor}"
        )
    if scale_factor is None:
        listed = tuple(size) if isinstance(size, (tuple, list)) else (size,) * n
        known = tuple(s for s in listed if not isinstance(s, Dim))
        if len(listed) != n:
            raise ArgumentError("one size for each axis", expected=f"{n}", got=repr(size))
        per_axis(known, len(known), "size")
        return listed, None
    given = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
    if not (_numbers(given, n) and all(s > 0 for s in given)):
        raise ArgumentError("one positive scale for each axis", got=repr(scale_factor))
    sizes = tuple(scaled(d, s) for d, s in zip(old, given, strict=True))
    return sizes, tuple(map(float, given))
