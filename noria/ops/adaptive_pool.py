"""Pooling into a given number of windows, over 1, 2 or 3 spatial axes.

Along an axis of n elements, window i of m sees the elements from floor(i * n / m) up to, and
not including, ceil((i + 1) * n / m): windows of nearly one size that cover everything, and overlap
where m does not divide n. `size` is m: an integer for all axes, or one per axis.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import DTypeError, ShapeError
from noria.ir.opdef import OpDef, lookup, op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_same_shape
from noria.ops.numeric import add_at, in_float32
from noria.ops.window import per_axis


def _pooled(x: Spec, n: int, size: int | Sequence[int]) -> Spec:
    need_rank(x, n + 2)
    if any(d == 0 for d in x.shape[2:]):
        raise ShapeError("there is nothing to pool", got=str(x))
    return Spec((*x.shape[:2], *per_axis(size, n, "size")), x.dtype)


def bounds(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """(first, behind the last) element of each of m windows over n elements."""
    i = np.arange(m)
    return i * n // m, -((i + 1) * -n // m)


# ---- largest -----------------------------------------------------------------------------------


def _taps(sizes: Sequence[int], size: Sequence[int]) -> list[tuple[Any, ...]]:
    """For each element of the largest window, in row-major order, the positions that all windows
    see there: indices of the spatial axes. Smaller windows repeat their last position."""
    axes = []
    for n, m in zip(sizes, size, strict=True):
        first, end = bounds(n, m)
        axes.append([np.minimum(first + k, end - 1) for k in range((end - first).max())])
    return [np.ix_(*tap) for tap in itertools.product(*axes)]


def _hits(xp: Any, x: Any, out: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """(tap, in which windows it is the first that is the largest)."""
    found, hits = xp.zeros(out.shape, bool), []
    for tap in _taps(x.shape[2:], out.shape[2:]):
        seen = x[(slice(None), slice(None), *tap)]
        hit = ((seen == out) | (seen != seen)) & ~found  # a NaN is larger than all
        found = found | hit
        hits.append((tap, hit))
    return hits


def _define_max(n: int) -> OpDef:
    @op(name=f"adaptive_max_pool{n}d")
    def adaptive_max_pool(x, *, size):
        """The largest of each window; NaN if one is NaN.

        x: [N, C, sizes...]; out: [N, C, size...]. The gradient of a tie goes to the first of the
        largest, in row-major order.
        """
        if x.dtype == "bool":
            raise DTypeError("pooling needs numbers", got=str(x))
        return _pooled(x, n, size)

    @adaptive_max_pool.compute
    def _(xp, x, size):
        found = _taps(x.shape[2:], per_axis(size, n, "size"))
        return functools.reduce(xp.maximum, [x[(slice(None), slice(None), *t)] for t in found])

    @adaptive_max_pool.grad
    def _(x, out, g):
        return lookup(f"adaptive_max_pool{n}d_grad")(x, out, g)

    return adaptive_max_pool


def _define_max_grad(n: int) -> OpDef:
    @op(name=f"adaptive_max_pool{n}d_grad")
    def adaptive_max_pool_grad(x, pooled, grad):
        """Gradient of an adaptive max-pooling in x, from x, its result and the gradient of that."""
        need_float(x, pooled, grad)
        require_same_shape(_pooled(x, n, pooled.shape[2:]), pooled, "pooled")
        require_same_shape(pooled, grad, "grad")
        return x

    @adaptive_max_pool_grad.compute
    @in_float32
    def _(xp, x, pooled, grad):
        total = xp.zeros(x.shape, grad.dtype)
        for tap, hit in _hits(xp, x, pooled):
            index = (slice(None), slice(None), *tap)
            total = add_at(xp, total, index, xp.where(hit, grad, 0), unique=False)
        return total.astype(x.dtype)

    @adaptive_max_pool_grad.grad
    def _(x, pooled, g):
        return None, None, lookup(f"adaptive_max_pool{n}d_pick")(x, pooled, g)

    return adaptive_max_pool_grad


def _define_max_pick(n: int) -> OpDef:
    @op(name=f"adaptive_max_pool{n}d_pick")
    def adaptive_max_pool_pick(x, pooled, values):
        """Of `values`, which has the shape of x: what stands where the largest of each window of x
        stands. The transpose of the gradient of an adaptive max-pooling."""
        require_same_shape(_pooled(x, n, pooled.shape[2:]), pooled, "pooled")
        require_same_shape(x, values, "values")
        return Spec(pooled.shape, values.dtype)

    @adaptive_max_pool_pick.compute
    def _(xp, x, pooled, values):
        picked = xp.zeros(pooled.shape, values.dtype)
        for tap, hit in _hits(xp, x, pooled):
            picked = xp.where(hit, values[(slice(None), slice(None), *tap)], picked)
        return picked

    @adaptive_max_pool_pick.grad
    def _(x, pooled, g):
        return None, None, lookup(f"adaptive_max_pool{n}d_grad")(x, pooled, g)

    return adaptive_max_pool_pick


# ---- mean --------------------------------------------------------------------------------------


def _shares(n: int, m: int) -> np.ndarray:
    """[m, n]: the share of each element in each mean."""
    first, end = bounds(n, m)
    at = np.arange(n)
    seen = (first[:, None] <= at) & (at < end[:, None])
    return seen / (end - first)[:, None]


def _along_axes(xp: Any, x: Any, matrices: Sequence[np.ndarray]) -> Any:
    """x with each spatial axis multiplied by its matrix [new size, old size]."""
    for axis, matrix in enumerate(matrices, 2):
        product = xp.moveaxis(x, axis, -1) @ xp.asarray(matrix.T, x.dtype)
        x = xp.moveaxis(product, -1, axis)
    return x


def _define_avg(n: int) -> OpDef:
    @op(name=f"adaptive_avg_pool{n}d")
    def adaptive_avg_pool(x, *, size):
        """The mean of each window.  x: [N, C, sizes...]; out: [N, C, size...]."""
        need_float(x)
        return _pooled(x, n, size)

    @adaptive_avg_pool.compute
    @in_float32
    def _(xp, x, size):
        pairs = zip(x.shape[2:], per_axis(size, n, "size"), strict=True)
        return _along_axes(xp, x, [_shares(old, new) for old, new in pairs])

    @adaptive_avg_pool.grad
    def _(x, g):
        return lookup(f"adaptive_avg_pool{n}d_grad")(g, sizes=x.shape[2:])

    return adaptive_avg_pool


def _define_avg_grad(n: int) -> OpDef:
    @op(name=f"adaptive_avg_pool{n}d_grad")
    def adaptive_avg_pool_grad(grad, *, sizes):
        """Gradient of an adaptive mean-pooling of [N, C, sizes...], from that of its output."""
        need_float(grad)
        need_rank(grad, n + 2, what="grad")
        return Spec((*grad.shape[:2], *sizes), grad.dtype)

    @adaptive_avg_pool_grad.compute
    @in_float32
    def _(xp, grad, sizes):
        pairs = zip(sizes, grad.shape[2:], strict=True)
        return _along_axes(xp, grad, [_shares(old, new).T for old, new in pairs])

    @adaptive_avg_pool_grad.grad
    def _(grad, g):
        return lookup(f"adaptive_avg_pool{n}d")(g, size=grad.shape[2:])

    return adaptive_avg_pool_grad


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(_define_max, (1, 2, 3))
(
    adaptive_max_pool1d_grad,
    adaptive_max_pool2d_grad,
    adaptive_max_pool3d_grad,
) = map(_define_max_grad, (1, 2, 3))
(
    adaptive_max_pool1d_pick,
    adaptive_max_pool2d_pick,
    adaptive_max_pool3d_pick,
) = map(_define_max_pick, (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_define_avg, (1, 2, 3))
(
    adaptive_avg_pool1d_grad,
    adaptive_avg_pool2d_grad,
    adaptive_avg_pool3d_grad,
) = map(_define_avg_grad, (1, 2, 3))
