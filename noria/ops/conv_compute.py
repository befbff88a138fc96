"""The three linear maps of a convolution on arrays: forward, gradient of x, gradient of weight.

x: [N, C, sizes...], weight: [O, C / groups, kernel...], out: [N, O, windows...]. NumPy gathers what
the windows of one example see into a matrix, so each is one product an example; XLA has its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noria.ops.window import Windows, extents, padded, taps, unpadded


def forward(xp: Any, x: Any, weight: Any, windows: Windows, groups: int) -> Any:
    """out, summed over what each window sees."""
    if xp.__name__ != "numpy":
        return _xla(x, weight, windows, groups)
    out = xp.empty((x.shape[0], weight.shape[0], *windows.out), x.dtype)
    matrix = _grouped(weight, groups)
    around = padded(xp, x, windows)
    for i in range(x.shape[0]):
        product = matrix @ _columns(xp, around[i], windows, groups)
        out[i] = product.reshape(out.shape[1:])
    return out


def input_grad(
    xp: Any, g: Any, weight: Any, windows: Windows, groups: int, sizes: Sequence[int]
) -> Any:
    """The transpose of `forward` in x: [N, C, sizes...] from g of out's shape."""
    shape = (g.shape[0], weight.shape[1] * groups, *sizes)
    if xp.__name__ != "numpy":
        return _transposed(lambda x: _xla_padded_first(xp, x, weight, windows, groups), shape, g)
    around = xp.zeros((*shape[:2], *_around(windows, sizes)), g.dtype)
    matrix = _grouped(weight, groups).swapaxes(1, 2)
    for i in range(g.shape[0]):
        columns = matrix @ _grouped_windows(g[i], groups)
        columns = columns.reshape(shape[1], math.prod(windows.kernel), *windows.out)
        for k, tap in enumerate(taps(windows)):
            around[(i, slice(None), *tap)] += columns[:, k]
    return xp.ascontiguousarray(unpadded(around, windows, sizes))


def weight_grad(xp: Any, x: Any, g: Any, windows: Windows, groups: int) -> Any:
    """The transpose of `forward` in weight: [O, C / groups, kernel...]."""
    shape = (g.shape[1], x.shape[1] // groups, *windows.kernel)
    if xp.__name__ != "numpy":
        return _transposed(lambda w: _xla(x, w, windows, groups), shape, g)
    total = xp.zeros((groups, shape[0] // groups, math.prod(shape[1:])), x.dtype)
    around = padded(xp, x, windows)
    for i in range(x.shape[0]):
        columns = _columns(xp, around[i], windows, groups)
        total += _grouped_windows(g[i], groups) @ columns.swapaxes(1, 2)
    return total.reshape(shape)


def _grouped(weight: Any, groups: int) -> Any:
    """[O, C/G, kernel...] as [G, O/G, C/G * kernel]."""
    return weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))


def _grouped_windows(g: Any, groups: int) -> Any:
    """[O, windows...] as [G, O/G, windows]."""
    return g.reshape(groups, g.shape[0] // groups, math.prod(g.shape[1:]))


def _columns(xp: Any, x: Any, windows: Windows, groups: int) -> Any:
    """What all windows see of a padded [C, ...]: [G, C/G * kernel, windows]."""
    seen = xp.stack([x[(slice(None), *tap)] for tap in taps(windows)], axis=1)
    depth = x.shape[0] // groups * math.prod(windows.kernel)
    return seen.reshape(groups, depth, math.prod(windows.out))


def _around(windows: Windows, sizes: Sequence[int]) -> list[int]:
    """Sizes with padding."""
    return [f + n + b for (f, b), n in zip(extents(windows, sizes), sizes, strict=True)]


def _xla(x: Any, weight: Any, windows: Windows, groups: int) -> Any:
    from jax import lax

    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=windows.stride,
        padding=windows.pads,
        rhs_dilation=windows.dilation,
        feature_group_count=groups,
    )


def _xla_padded_first(xp: Any, x: Any, weight: Any, windows: Windows, groups: int) -> Any:
    """`_xla`, with padding as a step of its own where its transpose would abort the process.

    That is an axis with kernel 2, stride 2 and padding 1 in front: XLA's SwapConvOperands takes it
    for one of groups and then fails a check of its own.
    """
    axes = zip(windows.kernel, windows.stride, windows.pads, strict=True)
    if any(k == s == 2 and front == 1 for k, s, (front, _) in axes):
        x = padded(xp, x, windows)
        windows = windows._replace(pads=((0, 0),) * len(windows.pads))
    return _xla(x, weight, windows, groups)


def _transposed(linear: Any, shape: tuple[int, ...], g: Any) -> Any:
    """The transpose of a linear function of an array of `shape`, at g."""
    import jax

    (out,) = jax.linear_transpose(linear, jax.ShapeDtypeStruct(shape, g.dtype))(g)
    return out
