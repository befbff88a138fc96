"""Deformable convolution: each element of each window is read where an offset says."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import need_rank, require_equal, shaped
from noria.ops.numeric import spec_of
from noria.ops.window import Padding, Windows, slide


def deform_conv2d(
    x: Any,
    offset: Any,
    weight: Any,
    bias: Any = None,
    *,
    mask: Any = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> Any:
    """Convolution whose windows are bent.  (Dai et al., 2017; with mask: Zhu et al., 2019)

    x:      [N, C, H, W]; weight: [O, C / groups, kh, kw]; bias: [O]; out: [N, O, H', W']
    offset: [N, D * kh * kw * 2, H', W']: for each of D groups of channels and each element of the
            kernel how far to look beside it, (down, right) in pixels; between pixels is bilinear,
            outside there are zeros
    mask:   [N, D * kh * kw, H', W']: what is seen is multiplied by it
    Raises ShapeError if these do not fit each other.
    """
    x, offset, weight = shaped(x), shaped(offset), shaped(weight)
    for value, what in ((x, "x"), (offset, "offset"), (weight, "weight")):
        need_rank(spec_of(value), 4, what=what)
    groups = _share(x.shape[1], weight.shape[1], "channels of x and of weight")
    if weight.shape[0] % groups:
        raise ShapeError(f"{weight.shape[0]} outputs do not fall into {groups} equal groups")
    windows = slide(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    elements = prod(windows.kernel)
    parts = _share(offset.shape[1], 2 * elements, "channels of offset and elements of a window")
    if x.shape[1] % parts:
        raise ShapeError(f"{x.shape[1]} channels do not fall into {parts} groups of offsets")
    for axis in (0, 1):
        require_equal(windows.out[axis], offset.shape[2 + axis], "windows and sizes of offset")
    seen = _seen(x, offset, windows, parts)
    if mask is not None:
        mask = shaped(mask)
        require_equal(parts * elements, mask.shape[1], "offsets and channels of mask")
        shape = (x.shape[0], parts, 1, elements, *windows.out)
        seen = o.mul(seen, o.reshape(mask, shape=shape))
    out = _product(seen, weight, groups, windows)
    return out if bias is None else o.add(out, o.reshape(bias, shape=(-1, 1, 1)))


def _share(whole: Any, part: Any, what: str) -> int:
    """whole / part. Raises ShapeError."""
    if (
        not isinstance(whole, int)
        or not isinstance(part, int)
        or part < 1
        or whole < part
        or whole % part
    ):
        raise ShapeError(f"{what} must divide", got=f"{whole} and {part}")
    return whole // part


def _seen(x: Any, offset: Any, windows: Windows, parts: int) -> Any:
    """What every element of every window sees: [N, D, C / D, elements, H', W']."""
    n, channels = x.shape[:2]
    elements, rows = prod(windows.kernel), n * parts
    shift = o.reshape(offset, shape=(rows, elements, 2, *windows.out))
    down, right = (
        o.add(o.slice(shift, axes=(2,), starts=(i,), stops=(i + 1,)), _plain(windows, i, x.dtype))
        for i in (0, 1)
    )
    places = o.transpose(o.concat(down, right, axis=2), perm=(0, 1, 3, 4, 2))
    image = o.reshape(x, shape=(rows, channels // parts, *x.shape[2:]))
    seen = o.grid_sample(image, places, pixels=True)
    return o.reshape(seen, shape=(n, parts, channels // parts, elements, *windows.out))


def _plain(windows: Windows, axis: int, dtype: Any) -> Any:
    """Where a window that is not bent looks along one axis: [elements, 1, H' or 1, 1 or W']."""
    step, apart = windows.stride[axis], windows.dilation[axis]
    (front, _), out = windows.pads[axis], windows.out[axis]
    first = o.arange(start=-front, stop=out * step - front, step=step, dtype=dtype)
    inner = o.arange(stop=windows.kernel[axis] * apart, step=apart, dtype=dtype)
    shape = [1] * 5
    shape[axis] = windows.kernel[axis]
    inner = o.reshape(inner, shape=tuple(shape))
    inner = o.broadcast_to(inner, shape=(*windows.kernel, 1, 1, 1))
    inner = o.reshape(inner, shape=(prod(windows.kernel), 1, 1, 1))
    return o.add(inner, o.reshape(first, shape=(1, 1, -1, 1) if axis == 0 else (1, 1, 1, -1)))


def _product(seen: Any, weight: Any, groups: int, windows: Windows) -> Any:
    """[N, D, C / D, elements, H', W'] by weight [O, C / G, kh, kw]: [N, O, H', W']."""
    n, outputs = seen.shape[0], weight.shape[0]
    depth = prod(weight.shape[1:])
    places = windows.out[0] * windows.out[1]
    columns = o.reshape(seen, shape=(n, groups, depth, places))
    matrix = o.reshape(weight, shape=(groups, outputs // groups, depth))
    return o.reshape(o.matmul(matrix, columns), shape=(n, outputs, *windows.out))
