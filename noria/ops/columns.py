"""What sliding windows see as columns, its transpose, and pixels moved between axes.

    x        [N, C, sizes...]
    columns  [N, C * kernel elements, windows]       the elements of a window in row-major order

`kernel`, `stride`, `padding` and `dilation` are told in `ops/window.py`. `unfold` and `fold` are
linear, and each is the gradient of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec, as_shape
from noria.ops.common import require_equal, shaped
from noria.ops.numeric import add_at, in_float32
from noria.ops.window import padded, per_axis, slide, taps, unpadded


@op
def unfold(x, *, kernel, stride=1, padding=0, dilation=1):
    """What each window sees, as a column; zeros where it sees padding. Also called im2col.

    x: [N, C, sizes...]; out: [N, C * elements of the kernel, windows].
    """
    if x.ndim < 3:
        raise ShapeError("x must be [N, C, sizes...]", got=str(x))
    windows = slide(x.shape[2:], kernel, stride, padding, dilation)
    return Spec((x.shape[0], x.shape[1] * prod(windows.kernel), product(windows.out)), x.dtype)


@unfold.compute
def _(xp, x, **how):
    windows = slide(x.shape[2:], **how)
    around = padded(xp, x, windows)
    seen = xp.stack([around[(..., *tap)] for tap in taps(windows)], axis=2)
    depth = x.shape[1] * prod(windows.kernel)
    return seen.reshape(x.shape[0], depth, prod(windows.out))


@unfold.work
def _(x, out):
    return 0.0, x.nbytes + out.nbytes


@unfold.grad
def _(x, g, op):
    return o.fold(g, sizes=x.shape[2:], **op.attrs)


@op
def fold(x, *, sizes, kernel, stride=1, padding=0, dilation=1):
    """The transpose of `unfold`: adds the columns up where their windows lie. Also called col2im.

    x: [N, C * elements of the kernel, windows]; out: [N, C, sizes...].
    """
    sizes = as_shape(sizes)
    windows = slide(sizes, kernel, stride, padding, dilation)
    if x.ndim != 3:
        raise ShapeError("x must be [N, C * elements of the kernel, windows]", got=str(x))
    require_equal(product(windows.out), x.shape[2], "windows and the size of the last axis of x")
    elements = prod(windows.kernel)
    channels = x.shape[1] // elements
    require_equal(channels * elements, x.shape[1], "elements of windows and axis 1 of x")
    return Spec((x.shape[0], channels, *sizes), x.dtype)


@fold.compute
@in_float32
def _(xp, x, sizes, **how):
    sizes = as_shape(sizes)
    windows = slide(sizes, **how)
    n, channels = x.shape[0], x.shape[1] // prod(windows.kernel)
    columns = x.reshape(n, channels, prod(windows.kernel), *windows.out)
    total = padded(xp, xp.zeros((n, channels, *sizes), x.dtype), windows)
    for k, tap in enumerate(taps(windows)):
        total = add_at(xp, total, (..., *tap), columns[:, :, k])
    return unpadded(total, windows, sizes)


@fold.work
def _(x, out):
    return float(x.size), x.nbytes + out.nbytes


@fold.grad
def _(g, op):
    return o.unfold(g, **{k: v for k, v in op.attrs.items() if k != "sizes"})


# ---- pixels between axes -----------------------------------------------------------------------


def pixel_shuffle(x: Any, *, factor: int | Sequence[int]) -> Any:
    """Channels spread over blocks of pixels: [N, C * r * r, H, W] -> [N, C, H * r, W * r], for any
    number of spatial axes, with a factor for each.  (Shi et al., 2016)

    Raises ShapeError unless the channels divide.
    """
    x = shaped(x)
    n = len(x.shape) - 2
    factors = _factors(factor, n)
    channels = x.shape[1] // prod(factors)
    _divides(x.shape[1], prod(factors), "channels")
    split = o.reshape(x, shape=(x.shape[0], channels, *factors, *x.shape[2:]))
    order = [axis for i in range(n) for axis in (2 + n + i, 2 + i)]
    moved = o.transpose(split, perm=(0, 1, *order))
    sizes = tuple(size * f for size, f in zip(x.shape[2:], factors, strict=True))
    return o.reshape(moved, shape=(x.shape[0], channels, *sizes))


def pixel_unshuffle(x: Any, *, factor: int | Sequence[int]) -> Any:
    """Blocks of pixels gathered in channels, which undoes `pixel_shuffle`.

    Raises ShapeError unless the sizes divide.
    """
    x = shaped(x)
    n = len(x.shape) - 2
    factors = _factors(factor, n)
    blocks: list[Any] = []
    for size, f in zip(x.shape[2:], factors, strict=True):
        _divides(size, f, "sizes")
        blocks += [size // f, f]
    split = o.reshape(x, shape=(*x.shape[:2], *blocks))
    order = (0, 1, *range(3, 3 + 2 * n, 2), *range(2, 2 + 2 * n, 2))
    moved = o.transpose(split, perm=order)
    return o.reshape(moved, shape=(x.shape[0], x.shape[1] * prod(factors), *blocks[::2]))


def _factors(factor: Any, n: int) -> tuple[int, ...]:
    if n < 1:
        raise ShapeError("x must be [N, C, sizes...]", got=f"rank {n + 2}")
    return per_axis(factor, n, "factor")


def _divides(size: Any, factor: int, what: str) -> None:
    if isinstance(size, int) and size % factor:
        raise ArgumentError(f"the {what} must divide by {factor}", got=str(size))
