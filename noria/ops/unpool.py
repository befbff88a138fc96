"""Pooling beyond the plain kinds: where the largest stand, the way back, and power means.

Functions over ops of `pool.py` and its neighbours; each has the gradient of what it is made of.
An index counts the elements of one image of one channel in row-major order, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from noria.core.dims import Size, product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ops.common import require_same_shape, shaped
from noria.ops.numeric import spec_of
from noria.ops.window import Padding, explicit_pads, per_axis


def _spatial(x: Any) -> int:
    n = len(x.shape) - 2
    if not 1 <= n <= 3:
        raise ShapeError("x must be [N, C, sizes...] with 1 to 3 sizes", got=f"rank {n + 2}")
    return n


def _places(x: Any) -> Any:
    """The index of every element, of the shape of x."""
    sizes = tuple(x.shape[2:])
    index = o.reshape(o.arange(stop=product(sizes)), shape=(1, 1, *sizes))
    return o.broadcast_to(index, shape=tuple(x.shape))


def max_pool_with_indices(x: Any, **how: Any) -> tuple[Any, Any]:
    """`max_pool1d`, `2d` or `3d` of x [N, C, sizes...], and the index of what each window took.

    how: the attributes of that op. Returns (out, indices), indices int64 of the shape of out; of
    equal elements the first counts.
    """
    x = shaped(x)
    n = _spatial(x)
    out = lookup(f"max_pool{n}d")(x, **how)
    return out, lookup(f"max_pool{n}d_pick")(x, out, _places(x), **how)


def adaptive_max_pool_with_indices(x: Any, *, size: int | Sequence[int]) -> tuple[Any, Any]:
    """`adaptive_max_pool1d`, `2d` or `3d`, and the index of what each window took.

    Returns (out, indices), indices int64 of the shape of out.
    """
    x = shaped(x)
    n = _spatial(x)
    out = lookup(f"adaptive_max_pool{n}d")(x, size=size)
    return out, lookup(f"adaptive_max_pool{n}d_pick")(x, out, _places(x))


def max_unpool(
    x: Any,
    indices: Any,
    *,
    kernel: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    sizes: Sequence[Size] | None = None,
) -> Any:
    """Zeros of the sizes before a max-pooling, with x where the largest stood.  (Zeiler, 2011)

    x: [N, C, windows...], indices: integers of that shape. The sizes are as given, or those of
    which windows of `kernel`, `stride` and `padding` leave nothing over. What two windows took is
    written once. Raises ArgumentError for an index that is out of range.
    """
    x, indices = shaped(x), shaped(indices)
    n = _spatial(x)
    require_same_shape(spec_of(x), spec_of(indices), "indices")
    if sizes is None:
        sizes = _sizes_before(x.shape[2:], n, kernel, stride, padding)
    if len(sizes) != n:
        raise ArgumentError("one size for each spatial axis", expected=f"{n}", got=repr(sizes))
    rows, whole = (*x.shape[:2], product(x.shape[2:])), (*x.shape[:2], product(sizes))
    zeros = o.fill(shape=whole, value=0, dtype=x.dtype)
    ids = o.reshape(indices, shape=rows)
    filled = o.scatter_elements(zeros, ids, o.reshape(x, shape=rows), axis=2)
    return o.reshape(filled, shape=(*x.shape[:2], *sizes))


def _sizes_before(
    windows: Sequence[Size], n: int, kernel: Any, stride: Any, padding: Padding
) -> tuple[Size, ...]:
    if kernel is None:
        raise ArgumentError("max_unpool needs either the kernel or the sizes", got="neither")
    sees = per_axis(kernel, n, "kernel")
    steps = sees if stride is None else per_axis(stride, n, "stride")
    pads = explicit_pads(padding, n)
    return tuple(
        (m - 1) * s + k - front - behind
        for m, s, k, (front, behind) in zip(windows, steps, sees, pads, strict=True)
    )


# ---- power means -------------------------------------------------------------------------------


def lp_pool(
    x: Any,
    *,
    p: float,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    rescale: bool = True,
) -> Any:
    """(the sum of |x| to the p over each window) to the 1/p.

    x: [N, C, sizes...]; p > 0. rescale: a window cut short by ceil_mode counts as a whole one with
    the same mean, as in PyTorch; else its sum counts. Raises ArgumentError for another p.
    """
    x = shaped(x)
    n = _spatial(x)
    elements = prod(per_axis(kernel, n, "kernel"))
    how = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    pool = lookup(f"avg_pool{n}d")
    if ceil_mode and not rescale:
        return _root(pool(_powers(x, p), kernel=kernel, divisor=1, **how), p)
    mean = pool(_powers(x, p), kernel=kernel, **how)
    return _root(o.mul(mean, float(elements)), p)


def global_lp_pool(x: Any, *, p: float) -> Any:
    """(the sum of |x| to the p over all spatial axes) to the 1/p: [N, C, 1...]."""
    x = shaped(x)
    total = o.reduce_sum(_powers(x, p), axis=tuple(range(2, len(x.shape))), keepdims=True)
    return _root(total, p)


def _powers(x: Any, p: float) -> Any:
    if not isinstance(p, (int, float)) or not p > 0:
        raise ArgumentError("p must be positive", got=repr(p))
    return o.square(x) if p == 2 else o.pow(o.abs(x), float(p))


def _root(total: Any, p: float) -> Any:
    """total to the 1/p, whose slope at 0 is taken to be 0."""
    zero = o.equal(total, 0.0)
    safe = o.where(zero, 1.0, total)
    return o.where(zero, 0.0, o.sqrt(safe) if p == 2 else o.pow(safe, 1.0 / p))
