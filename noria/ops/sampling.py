"""Reading an image at arbitrary places: grid sampling and its two gradients, affine grids.

    x       [N, C, sizes...]         1 or more spatial axes
    grid    [N, places..., n]        where to look; the last axis is (x, y, z...), n of them
    out     [N, C, places...]

A place is -1 or 1 at the borders of the image (Jaderberg et al., 2015). The gradient by the image
is linear in the gradient of the output, and its transpose is the sampling; the gradient by the
grid is linear in both other inputs but has no gradient by the grid of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from noria.core.dims import Size, dim_max
from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec, as_shape
from noria.ops.common import need_float, need_rank, require_equal, require_same_shape, shaped
from noria.ops.numeric import add_at, in_float32
from noria.ops.resample import cubic

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
FAR = 1e6  # beyond this a place is as far away as it can be: positions stay integers of float32
CUBIC = -0.75


class Sampling(NamedTuple):
    """How to sample; each field is told in `grid_sample`."""

    mode: str
    padding_mode: str
    align_corners: bool
    pixels: bool


def _check(x: Spec, grid: Spec, how: Sampling) -> None:
    n = x.ndim - 2
    for value, known, what in (
        (how.mode, MODES, "mode"),
        (how.padding_mode, PADDINGS, "padding_mode"),
    ):
        if value not in known:
            raise ArgumentError(f"unknown {what}", expected=", ".join(known), got=repr(value))
    need_float(grid)
    if n < 1 or grid.ndim < 3:
        raise ShapeError("x must be [N, C, sizes...], grid [N, places..., n]", got=f"{x}, {grid}")
    if any(d == 0 for d in x.shape[2:]):
        raise ShapeError("there is nothing to look at", got=str(x))
    require_equal(x.shape[0], grid.shape[0], "batch sizes of x and grid")
    require_equal(n, grid.shape[-1], "spatial axes of x and the size of the last axis of grid")


@op
def grid_sample(
    x, grid, *, mode="bilinear", padding_mode="zeros", align_corners=False, pixels=False
):
    """x at the places in grid, interpolated between elements.  (Jaderberg et al., 2015)

    x: [N, C, sizes...], grid: [N, places..., n], out: [N, C, places...].
    mode: 'bilinear' (in n dimensions), 'nearest' (ties to even), or 'bicubic' (Keys, 1981)
    padding_mode: outside there are 'zeros', the 'border', or the image reflected
    align_corners: -1 and 1 are the middles of the outermost elements instead of their outer borders
    pixels: the grid holds positions of elements, in the order of the axes of x

    As in PyTorch, NaN is -1, and for 'bicubic' it is the neighbours that are moved inside.
    """
    if mode != "nearest" and not is_float(x.dtype):
        raise DTypeError("interpolation needs floats", got=str(x), hint="mode='nearest'")
    _check(x, grid, Sampling(mode, padding_mode, align_corners, pixels))
    return Spec((*x.shape[:2], *grid.shape[1:-1]), x.dtype)


@grid_sample.compute
@in_float32
def _(xp, x, grid, **how):
    flat = x.reshape(*x.shape[:2], prod(x.shape[2:]))
    taps = _corners(x.shape[2:], _axes(xp, grid, x.shape[2:], Sampling(**how)))
    parts = (
        xp.take_along_axis(flat, ids[:, None], axis=2) * weight[:, None].astype(x.dtype)
        for ids, weight in taps
    )
    out = functools.reduce(xp.add, parts)
    return out.reshape(*x.shape[:2], *grid.shape[1:-1])


@grid_sample.work
def _(x, grid, out):
    return 10.0 * out.size, x.nbytes + grid.nbytes + out.nbytes


@grid_sample.grad
def _(x, grid, g, op, wanted):
    gx = o.grid_sample_input_grad(g, grid, sizes=x.shape[2:], **op.attrs) if wanted[0] else None
    return gx, o.grid_sample_grid_grad(x, grid, g, **op.attrs) if wanted[1] else None


@op
def grid_sample_input_grad(
    grad,
    grid,
    *,
    sizes,
    mode="bilinear",
    padding_mode="zeros",
    align_corners=False,
    pixels=False,
):
    """Gradient of `grid_sample` by x [N, C, sizes...], from that of its output."""
    need_float(grad)
    need_rank(grad, grid.ndim, what="grad")
    out = Spec((*grad.shape[:2], *sizes), grad.dtype)
    _check(out, grid, Sampling(mode, padding_mode, align_corners, pixels))
    require_same_shape(Spec((*grad.shape[:2], *grid.shape[1:-1]), grad.dtype), grad, "grad")
    return out


@grid_sample_input_grad.compute
@in_float32
def _(xp, grad, grid, sizes, **how):
    n, c = grad.shape[:2]
    total = xp.zeros((n, c, prod(sizes)), grad.dtype)
    flat = grad.reshape(n, c, prod(grad.shape[2:]))
    at = (xp.arange(n)[:, None, None], xp.arange(c)[None, :, None])
    for ids, weight in _corners(sizes, _axes(xp, grid, sizes, Sampling(**how))):
        part = flat * weight[:, None].astype(grad.dtype)
        total = add_at(xp, total, (*at, ids[:, None]), part, unique=False)
    return total.reshape(n, c, *sizes)


@grid_sample_input_grad.work
def _(grad, grid, out):
    return 10.0 * grad.size, out.nbytes + grid.nbytes + grad.nbytes


@grid_sample_input_grad.grad
def _(grad, grid, sizes, g, op, wanted):
    how = {k: v for k, v in op.attrs.items() if k != "sizes"}
    by_grid = o.grid_sample_grid_grad(g, grid, grad, **how) if wanted[1] else None
    return o.grid_sample(g, grid, **how) if wanted[0] else None, by_grid


@op
def grid_sample_grid_grad(
    x, grid, grad, *, mode="bilinear", padding_mode="zeros", align_corners=False, pixels=False
):
    """Gradient of `grid_sample` by the grid, from x, the grid and the gradient of the output."""
    need_float(x, grad)
    _check(x, grid, Sampling(mode, padding_mode, align_corners, pixels))
    require_same_shape(Spec((*x.shape[:2], *grid.shape[1:-1]), x.dtype), grad, "grad")
    return grid


@grid_sample_grid_grad.compute
def _(xp, x, grid, grad, **how):
    sampling, sizes = Sampling(**how), x.shape[2:]
    axes = _axes(xp, grid, sizes, sampling)
    flat = x.reshape(*x.shape[:2], prod(sizes))
    grad = grad.reshape(*x.shape[:2], prod(grid.shape[1:-1]))
    slopes = []
    for i, axis in enumerate(axes):
        turned = [*axes[:i], axis._replace(weights=axis.slopes), *axes[i + 1 :]]
        total = xp.zeros(grad.shape[::2], grid.dtype)
        for ids, slope in _corners(sizes, turned):
            seen = xp.take_along_axis(flat, ids[:, None], axis=2) * grad
            total = total + slope * seen.sum(axis=1)
        slopes.append(total)
    out = xp.stack(slopes if sampling.pixels else slopes[::-1], axis=-1)
    return out.reshape(grid.shape).astype(grid.dtype)


@grid_sample_grid_grad.work
def _(x, grid, grad):
    return 20.0 * grad.size, x.nbytes + grid.nbytes + grad.nbytes


# ---- on arrays ---------------------------------------------------------------------------------


class Axis(NamedTuple):
    """Along one axis, for P places of N images: the k elements each is made of.

    ids:     [N, P, k] positions
    weights: [N, P, k]
    slopes:  [N, P, k], derivatives of the weights by the grid
    """

    ids: Any
    weights: Any
    slopes: Any


def _axes(xp: Any, grid: Any, sizes: Sequence[int], how: Sampling) -> list[Axis]:
    """Each spatial axis by itself, in the order of the axes of x."""
    n = len(sizes)
    places = grid.reshape(grid.shape[0], prod(grid.shape[1:-1]), n)
    found = []
    for i, size in enumerate(sizes):
        at = places[..., i if how.pixels else n - 1 - i]
        found.append(_axis(xp, at, size, how))
    return found


def _corners(sizes: Sequence[int], axes: Sequence[Axis]) -> Any:
    """(positions in the flattened image [N, P], weights [N, P]) of all elements a place uses."""
    for picks in itertools.product(*(range(a.ids.shape[-1]) for a in axes)):
        ids: Any = 0
        weight: Any = 1
        for k, size, axis in zip(picks, sizes, axes, strict=True):
            ids = ids * size + axis.ids[..., k]
            weight = weight * axis.weights[..., k]
        yield ids, weight


def _axis(xp: Any, at: Any, size: int, how: Sampling) -> Axis:
    at = xp.where(xp.isnan(at), xp.asarray(-1, at.dtype), at)
    slope = 1.0
    if not how.pixels:
        slope = (size - 1) / 2 if how.align_corners else size / 2
        at = (at + 1) * slope - (0.0 if how.align_corners else 0.5)
    at = xp.clip(at, -FAR, FAR)
    slope = xp.full(at.shape, slope, at.dtype)
    if how.mode != "bicubic":
        at, turn = _inside(xp, at, size, how)
        slope = slope * turn
    if how.mode == "nearest":
        ids, weights = xp.rint(at)[..., None], xp.ones((*at.shape, 1), at.dtype)
        slopes = xp.zeros_like(weights)
    else:
        ids, weights, slopes = _neighbours(xp, at, 1 if how.mode == "bilinear" else 2)
        slopes = slopes * slope[..., None]
    if how.mode == "bicubic":
        ids, _ = _inside(xp, ids, size, how)
    if how.padding_mode == "zeros":
        seen = ((ids >= 0) & (ids < size)).astype(at.dtype)
        weights, slopes = weights * seen, slopes * seen
    return Axis(xp.clip(ids, 0, size - 1).astype("int64"), weights, slopes)


def _neighbours(xp: Any, at: Any, reach: int) -> tuple[Any, Any, Any]:
    """The 2 * reach elements around each position: ids, weights, derivatives of the weights."""
    low = xp.floor(at)
    ids = low[..., None] + xp.arange(1 - reach, 1 + reach, dtype=at.dtype)
    offset = ids - at[..., None]
    distance = xp.abs(offset)
    side = xp.where(xp.arange(1 - reach, 1 + reach) > 0, -1.0, 1.0).astype(at.dtype)
    if reach == 1:
        return ids, 1 - distance, xp.broadcast_to(-side, ids.shape)
    weights = cubic(distance, CUBIC, xp.where)
    near = (3 * (CUBIC + 2) * distance - 2 * (CUBIC + 3)) * distance
    far = (3 * CUBIC * distance - 10 * CUBIC) * distance + 8 * CUBIC
    return ids, weights, side * xp.where(distance <= 1, near, far)


def _inside(xp: Any, at: Any, size: int, how: Sampling) -> tuple[Any, Any]:
    """Positions moved into the image, and the derivative of that move."""
    if how.padding_mode == "zeros":
        return at, xp.ones_like(at)
    turn = xp.ones_like(at)
    if how.padding_mode == "reflection":
        low, span = (0.0, size - 1.0) if how.align_corners else (-0.5, float(size))
        if span == 0:
            return xp.zeros_like(at), xp.zeros_like(at)
        away = xp.abs(at - low)
        times = xp.floor(away / span)
        rest = away - times * span
        back = times % 2 == 1
        turn = xp.where(at < low, -1, 1) * xp.where(back, -1, 1).astype(at.dtype)
        at = xp.where(back, span - rest, rest) + low
    within = (at > 0) & (at < size - 1)
    return xp.clip(at, 0, size - 1), turn * within.astype(at.dtype)


# ---- where to look -----------------------------------------------------------------------------


def affine_grid(theta: Any, *, sizes: Sequence[Size], align_corners: bool = False) -> Any:
    """The grid for `grid_sample` that shows an image moved by an affine map.

    theta: [N, n, n + 1], which takes (x, y, z..., 1) of a place in the result to one in the image;
    sizes: of the n spatial axes of the result. Returns [N, sizes..., n].
    align_corners: as in `grid_sample`. Raises ShapeError unless theta fits sizes.
    """
    theta, sizes = shaped(theta), as_shape(sizes)
    n = len(sizes)
    if len(theta.shape) != 3 or tuple(theta.shape[1:]) != (n, n + 1):
        raise ShapeError(
            "theta must be a matrix for each image", expected=f"[N, {n}, {n + 1}]", got=str(theta)
        )
    lines = [_line(theta, size, align_corners) for size in sizes]
    whole = []
    for i, line in enumerate(lines):
        shape = tuple(-1 if j == i else 1 for j in range(n))
        whole.append(o.broadcast_to(o.reshape(line, shape=shape), shape=tuple(sizes)))
    ones = o.fill(shape=tuple(sizes), value=1.0, dtype=theta.dtype)
    places = [o.unsqueeze(p, axis=-1) for p in (*whole[::-1], ones)]
    points = o.reshape(o.concat(*places, axis=-1), shape=(1, -1, n + 1))
    moved = o.matmul(points, theta, transpose_y=True)
    return o.reshape(moved, shape=(theta.shape[0], *sizes, n))


def _line(theta: Any, size: Size, align_corners: bool) -> Any:
    """The middles of `size` elements between -1 and 1."""
    steps = o.arange(start=1 - size, stop=size, step=2, dtype=theta.dtype)
    whole = dim_max(size - 1, 1) if align_corners else size
    return o.div(steps, o.cast(o.dim_value(dim=whole), dtype=theta.dtype))
