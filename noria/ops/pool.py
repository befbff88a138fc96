"""Largest and mean of sliding windows over 1, 2 or 3 spatial axes, and their gradients as ops.

    x       [N, C, sizes...]
    out     [N, C, windows...]

`kernel` is what a window sees, an integer or one per axis; `stride` is the kernel unless given;
`padding` and `dilation` are told in `ops/window.py`. ceil_mode: elements left over at the end get a
window of their own, as long as it does not start in the padding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.dtypes import as_dtype, is_float
from noria.core.errors import ArgumentError, DTypeError
from noria.ir.opdef import OpDef, lookup, op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_same_shape
from noria.ops.numeric import add_at, in_float32
from noria.ops.window import Padding, Windows, padded, per_axis, slide, taps, unpadded


def pool_windows(
    sizes: Sequence[Size],
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: Padding,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Windows:
    """The windows of a pooling. Raises ArgumentError, also for padding that hides a whole window,
    and ShapeError if no window fits."""
    listed = per_axis(kernel, len(sizes), "kernel")
    windows = slide(
        sizes, listed, listed if stride is None else stride, padding, dilation, ceil_mode
    )
    for span, pads in zip(windows.spans, windows.pads, strict=True):
        if any(isinstance(p, int) and p >= span for p in pads):
            raise ArgumentError(
                "padding must be smaller than the window, or some windows see nothing",
                expected=f"less than {span}",
                got=f"padding={padding!r}",
            )
    return windows


def _pooled(x: Spec, windows: Windows) -> Spec:
    return Spec((*x.shape[:2], *windows.out), x.dtype)


# ---- largest -----------------------------------------------------------------------------------


def _lowest(xp: Any, dtype: Any) -> Any:
    return -np.inf if is_float(as_dtype(dtype)) else xp.iinfo(dtype).min


def window_views(xp: Any, x: Any, windows: Windows) -> list[Any]:
    """What all windows see at each of their elements, in row-major order; padding is never the
    largest."""
    around = padded(xp, x, windows, _lowest(xp, x.dtype))
    return [around[(..., *tap)] for tap in taps(windows)]


def first_hits(xp: Any, x: Any, out: Any, windows: Windows) -> list[Any]:
    """For each element of the windows: in which windows it is the first that is the largest."""
    inside = padded(xp, xp.ones((1, 1, *x.shape[2:]), bool), windows, False)
    found, hits = xp.zeros(out.shape, bool), []
    for tap, seen in zip(taps(windows), window_views(xp, x, windows), strict=True):
        largest = (seen == out) | (seen != seen)  # a NaN is larger than all
        hit = largest & inside[(..., *tap)] & ~found
        found = found | hit
        hits.append(hit)
    return hits


def _define_max(n: int) -> OpDef:
    @op(name=f"max_pool{n}d")
    def max_pool(x, *, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
        """The largest of each window; NaN if one is NaN. Padding is never the largest.

        The gradient of a tie goes to the first of the largest, in row-major order.
        """
        if x.dtype == "bool":
            raise DTypeError("pooling needs numbers", got=str(x))
        need_rank(x, n + 2)
        return _pooled(x, pool_windows(x.shape[2:], kernel, stride, padding, dilation, ceil_mode))

    @max_pool.compute
    def _(xp, x, **how):
        windows = pool_windows(x.shape[2:], **how)
        return functools.reduce(xp.maximum, window_views(xp, x, windows))

    @max_pool.work
    def _(out, kernel):
        return float(out.size) * prod(per_axis(kernel, n, "kernel"))

    @max_pool.grad
    def _(x, out, g, op):
        return lookup(f"max_pool{n}d_grad")(x, out, g, **op.attrs)

    return max_pool


def _define_max_grad(n: int) -> OpDef:
    @op(name=f"max_pool{n}d_grad")
    def max_pool_grad(
        x, pooled, grad, *, kernel, stride=None, padding=0, dilation=1, ceil_mode=False
    ):
        """Gradient of a max-pooling in x, from x, its result and the gradient of that."""
        need_float(x, pooled, grad)
        need_rank(x, n + 2)
        windows = pool_windows(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
        require_same_shape(_pooled(x, windows), pooled, "pooled")
        require_same_shape(pooled, grad, "grad")
        return x

    @max_pool_grad.compute
    @in_float32
    def _(xp, x, pooled, grad, **how):
        windows = pool_windows(x.shape[2:], **how)
        total = padded(xp, xp.zeros(x.shape, grad.dtype), windows)
        for tap, hit in zip(taps(windows), first_hits(xp, x, pooled, windows), strict=True):
            total = add_at(xp, total, (..., *tap), xp.where(hit, grad, 0))
        return unpadded(total, windows, x.shape[2:]).astype(x.dtype)

    @max_pool_grad.work
    def _(pooled, kernel):
        return float(pooled.size) * prod(per_axis(kernel, n, "kernel"))

    @max_pool_grad.grad
    def _(x, pooled, g, op):
        return None, None, lookup(f"max_pool{n}d_pick")(x, pooled, g, **op.attrs)

    return max_pool_grad


def _define_max_pick(n: int) -> OpDef:
    @op(name=f"max_pool{n}d_pick")
    def max_pool_pick(
        x, pooled, values, *, kernel, stride=None, padding=0, dilation=1, ceil_mode=False
    ):
        """Of `values`, which has the shape of x: what stands where the largest of each window of x
        stands. The transpose of the gradient of a max-pooling."""
        need_rank(x, n + 2)
        windows = pool_windows(x.shape[2:], kernel, stride, padding, dilation, ceil_mode)
        require_same_shape(_pooled(x, windows), pooled, "pooled")
        require_same_shape(x, values, "values")
        return Spec(pooled.shape, values.dtype)

    @max_pool_pick.compute
    def _(xp, x, pooled, values, **how):
        windows = pool_windows(x.shape[2:], **how)
        around = padded(xp, values, windows)
        picked = xp.zeros(pooled.shape, values.dtype)
        for tap, hit in zip(taps(windows), first_hits(xp, x, pooled, windows), strict=True):
            picked = xp.where(hit, around[(..., *tap)], picked)
        return picked

    @max_pool_pick.work
    def _(pooled, kernel):
        return float(pooled.size) * prod(per_axis(kernel, n, "kernel"))

    @max_pool_pick.grad
    def _(x, pooled, g, op):
        return None, None, lookup(f"max_pool{n}d_grad")(x, pooled, g, **op.attrs)

    return max_pool_pick


# ---- mean --------------------------------------------------------------------------------------


def _check_divisor(divisor: Any) -> None:
    number = isinstance(divisor, (int, float)) and not isinstance(divisor, bool)
    if divisor is not None and not (number and 0 < divisor < np.inf):
        raise ArgumentError("the divisor must be a positive number", got=repr(divisor))


def _counts(windows: Windows, sizes: Sequence[int], count_include_pad: bool) -> np.ndarray:
    """How many elements each window divides by: [windows...], 1 or more."""
    total = np.ones((), np.int64)
    for size, k, step, apart, (front, behind), out in zip(
        sizes, windows.kernel, windows.stride, windows.dilation, windows.pads, windows.out,
        strict=True,
    ):  # fmt: skip
        at = (np.arange(out) * step - front)[:, None] + np.arange(k) * apart
        low, high = (-front, size + behind) if count_include_pad else (0, size)
        total = np.multiply.outer(total, ((at >= low) & (at < high)).sum(axis=1))
    return np.maximum(total, 1)


def _define_avg(n: int) -> OpDef:
    @op(name=f"avg_pool{n}d")
    def avg_pool(
        x,
        *,
        kernel,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        count_include_pad=True,
        divisor=None,
    ):
        """The mean of each window, where padding counts as zeros, or with
        count_include_pad=False not at all; or the sum of each window over `divisor`."""
        need_float(x)
        need_rank(x, n + 2)
        _check_divisor(divisor)
        return _pooled(x, pool_windows(x.shape[2:], kernel, stride, padding, dilation, ceil_mode))

    @avg_pool.compute
    @in_float32
    def _(xp, x, count_include_pad, divisor, **how):
        windows = pool_windows(x.shape[2:], **how)
        around = padded(xp, x, windows)
        total = functools.reduce(xp.add, [around[(..., *tap)] for tap in taps(windows)])
        counts = divisor or _counts(windows, x.shape[2:], count_include_pad)
        return total / xp.asarray(counts, x.dtype)

    @avg_pool.work
    def _(out, kernel):
        return float(out.size) * prod(per_axis(kernel, n, "kernel"))

    @avg_pool.grad
    def _(x, g, op):
        return lookup(f"avg_pool{n}d_grad")(g, sizes=x.shape[2:], **op.attrs)

    return avg_pool


def _define_avg_grad(n: int) -> OpDef:
    @op(name=f"avg_pool{n}d_grad")
    def avg_pool_grad(
        grad,
        *,
        sizes,
        kernel,
        stride=None,
        padding=0,
        dilation=1,
        ceil_mode=False,
        count_include_pad=True,
        divisor=None,
    ):
        """Gradient of a mean-pooling of [N, C, sizes...], from that of its output."""
        need_float(grad)
        need_rank(grad, n + 2, what="grad")
        windows = pool_windows(sizes, kernel, stride, padding, dilation, ceil_mode)
        require_same_shape(_pooled(grad, windows), grad, "grad")
        return Spec((*grad.shape[:2], *sizes), grad.dtype)

    @avg_pool_grad.compute
    @in_float32
    def _(xp, grad, sizes, count_include_pad, divisor, **how):
        windows = pool_windows(sizes, **how)
        counts = divisor or _counts(windows, sizes, count_include_pad)
        share = grad / xp.asarray(counts, grad.dtype)
        total = padded(xp, xp.zeros((*grad.shape[:2], *sizes), grad.dtype), windows)
        for tap in taps(windows):
            total = add_at(xp, total, (..., *tap), share)
        return unpadded(total, windows, sizes)

    @avg_pool_grad.work
    def _(grad, kernel):
        return float(grad.size) * prod(per_axis(kernel, n, "kernel"))

    @avg_pool_grad.grad
    def _(g, op):
        how = {k: v for k, v in op.attrs.items() if k != "sizes"}
        return lookup(f"avg_pool{n}d")(g, **how)

    return avg_pool_grad


max_pool1d, max_pool2d, max_pool3d = map(_define_max, (1, 2, 3))
max_pool1d_grad, max_pool2d_grad, max_pool3d_grad = map(_define_max_grad, (1, 2, 3))
max_pool1d_pick, max_pool2d_pick, max_pool3d_pick = map(_define_max_pick, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_define_avg, (1, 2, 3))
avg_pool1d_grad, avg_pool2d_grad, avg_pool3d_grad = map(_define_avg_grad, (1, 2, 3))


# ---- over everything ---------------------------------------------------------------------------


def global_avg_pool(x: Any) -> Any:
    """Mean over all spatial axes: [N, C, sizes...] -> [N, C, 1...]."""
    return o.reduce_mean(x, axis=tuple(range(2, x.ndim)), keepdims=True)


def global_max_pool(x: Any) -> Any:
    """Largest over all spatial axes: [N, C, sizes...] -> [N, C, 1...]."""
    return o.reduce_max(x, axis=tuple(range(2, x.ndim)), keepdims=True)
