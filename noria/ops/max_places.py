"""Max-pooling in training as passes write it: which element each window took is kept, in one byte,
so that the gradient needs neither what was pooled nor what came of it.

    x       [N, C, sizes...]
    out     [N, C, windows...]
    places  [N, C, windows...] uint8: the number of the element in its window, in row-major order;
            NOWHERE for a window that sees nothing but padding
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any

from noria.core.errors import ArgumentError, DTypeError
from noria.ir.opdef import OpDef, lookup, op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_same_shape
from noria.ops.numeric import add_at, in_float32
from noria.ops.pool import first_hits, pool_windows, window_views
from noria.ops.window import Windows, padded, per_axis, taps, unpadded

NOWHERE = 255
MAX_ELEMENTS = NOWHERE  # that a window may have


def _windows(sizes: Any, **how: Any) -> Windows:
    windows = pool_windows(sizes, **how)
    if prod(windows.kernel) > MAX_ELEMENTS:
        raise ArgumentError(
            "the window is too large for places of one byte",
            expected=f"at most {MAX_ELEMENTS} elements",
            got=f"kernel={windows.kernel}",
        )
    return windows


def _define_places(n: int) -> OpDef:
    @op(name=f"max_pool{n}d_places", outputs=("out", "places"))
    def max_pool_places(x, *, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
        """`max_pool`, and the place in each window of the first of the largest, or of the first
        NaN. Raises ArgumentError for windows of more than 255 elements."""
        need_float(x)
        need_rank(x, n + 2)
        how = {"padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        windows = _windows(x.shape[2:], kernel=kernel, stride=stride, **how)
        shape = (*x.shape[:2], *windows.out)
        return Spec(shape, x.dtype), Spec(shape, "uint8")

    @max_pool_places.compute
    def _(xp, x, **how):
        windows = pool_windows(x.shape[2:], **how)
        out = functools.reduce(xp.maximum, window_views(xp, x, windows))
        places = xp.full(out.shape, NOWHERE, "uint8")
        for k, hit in enumerate(first_hits(xp, x, out, windows)):
            places = xp.where(hit, xp.asarray(k, "uint8"), places)
        return out, places

    @max_pool_places.work
    def _(out, kernel):
        return float(out.size) * prod(per_axis(kernel, n, "kernel"))

    @max_pool_places.grad
    def _(x, places, g_out, op):
        return lookup(f"max_pool{n}d_spread")(g_out, places, sizes=x.shape[2:], **op.attrs)

    return max_pool_places


def _define_spread(n: int) -> OpDef:
    @op(name=f"max_pool{n}d_spread")
    def max_pool_spread(
        grad, places, *, sizes, kernel, stride=None, padding=0, dilation=1, ceil_mode=False
    ):
        """Gradient of a max-pooling of [N, C, sizes...], from that of its result and the places it
        took; an element that several windows took gets the sum of theirs."""
        need_float(grad)
        if places.dtype != "uint8":
            raise DTypeError("places are bytes", expected="uint8", got=str(places))
        need_rank(grad, n + 2, what="grad")
        how = {"padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
        windows = _windows(sizes, kernel=kernel, stride=stride, **how)
        require_same_shape(Spec((*grad.shape[:2], *windows.out), grad.dtype), grad, "grad")
        require_same_shape(grad, places, "places")
        return Spec((*grad.shape[:2], *sizes), grad.dtype)

    @max_pool_spread.compute
    @in_float32
    def _(xp, grad, places, sizes, **how):
        windows = pool_windows(sizes, **how)
        total = padded(xp, xp.zeros((*grad.shape[:2], *sizes), grad.dtype), windows)
        for k, tap in enumerate(taps(windows)):
            total = add_at(xp, total, (..., *tap), xp.where(places == k, grad, 0))
        return unpadded(total, windows, sizes)

    @max_pool_spread.work
    def _(grad, kernel):
        return float(grad.size) * prod(per_axis(kernel, n, "kernel"))

    return max_pool_spread


max_pool1d_places, max_pool2d_places = map(_define_places, (1, 2))
max_pool1d_spread, max_pool2d_spread = map(_define_spread, (1, 2))
