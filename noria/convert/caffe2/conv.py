"""Convolutions, poolings and what moves windows into columns."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from noria.convert.caffe2.common import channels_first, channels_last, pullback
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.deform import deform_conv2d
from noria.ops.window import slide, taps

VALID, SAME, CAFFE = 1, 2, 3  # legacy_pad
MAX_TAPS = 4096  # elements of a window that become a column


class Window(NamedTuple):
    """kernel, stride, dilation: one number a spatial axis; pads: all in front, then all behind."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    ceil: bool = False


def window_of(op: Node, x: Any, kernel: tuple[int, ...] | None = None) -> Window:
    """The window an operator asks for on x [N, C, sizes...]."""
    rank = len(x.shape) - 2
    if rank < 1:
        raise ShapeError("images of rank 3 or more are needed", got=str(x))
    found = _sizes(op, "kernel", rank, None)
    if op.attr("global_pooling", False):
        found = _known(x.shape[2:])
    seen = kernel or found
    if seen is None:
        raise ArgumentError("the argument 'kernel' is missing")
    stride = _sizes(op, "stride", rank, (1,) * rank)
    dilation = _sizes(op, "dilation", rank, (1,) * rank)
    legacy = op.attr("legacy_pad", 0)
    pads = _pads(op, rank)
    if legacy == VALID:
        pads = (0,) * (2 * rank)
    if legacy == SAME:
        pads = _same(_known(x.shape[2:]), seen, stride, dilation)
    return Window(seen, stride or (), dilation or (), pads, legacy == CAFFE)


def _known(sizes: Any) -> tuple[int, ...]:
    if not all(isinstance(n, int) for n in sizes):
        raise ShapeError("the size of the images must be known", got=str(tuple(sizes)))
    return tuple(sizes)


def _sizes(op: Node, name: str, rank: int, default: Any) -> Any:
    if op.has(name + "s"):
        listed = op.ints(name + "s")
    elif op.has(name):
        listed = [op.attr(name, 1)] * rank
    elif op.has(name + "_h"):
        listed = [op.attr(name + "_h", 1), op.attr(name + "_w", 1)]
    else:
        return default
    if len(listed) != rank or any(n < 1 for n in listed):
        raise ArgumentError(f"bad {name}", expected=f"{rank} numbers, 1 or more", got=str(listed))
    return tuple(listed)


def _pads(op: Node, rank: int) -> tuple[int, ...]:
    if op.has("pads"):
        listed = op.ints("pads")
    elif op.has("pad"):
        listed = [op.attr("pad", 0)] * (2 * rank)
    elif rank == 2:
        listed = [op.attr(f"pad_{side}", 0) for side in "tlbr"]
    else:
        listed = [0] * (2 * rank)
    if len(listed) != 2 * rank or any(n < 0 for n in listed):
        raise ArgumentError("bad pads", expected=f"{2 * rank} numbers", got=str(listed))
    return tuple(listed)


def _same(sizes: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[int, ...]:
    """Pads that give ceil(size / stride) windows, an odd one in front as Caffe2 has it."""
    total = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total.append(max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0))
    return (*(-(-t // 2) for t in total), *(t // 2 for t in total))


# ---- convolution -------------------------------------------------------------------------------


def convolved(op: Node, x: Any, w: Any, b: Any = None) -> Any:
    """x [N, C, ...], w [O, C / group, kernel...], both with channels last where the order is so."""
    last = op.last
    x, w = channels_first(x, last), channels_first(w, last)
    win = window_of(op, x, _known(w.shape[2:]))
    rank = len(x.shape) - 2
    conv = getattr(o, f"conv{rank}d")
    how = {"stride": win.stride, "dilation": win.dilation, "groups": op.attr("group", 1)}
    return channels_last(conv(x, w, b, padding=win.pads, **how), last)


@caffe2_op("Conv", "Conv1D", "Conv2D", "Conv3D")
def conv(op, x, w, b=None):
    return convolved(op, x, w, b)


@caffe2_op("ConvRelu")
def conv_relu(op, x, w, b=None):
    return o.relu(convolved(op, x, w, b))


@caffe2_op("ConvGradient", "Conv1DGradient", "Conv2DGradient", "Conv3DGradient")
def conv_gradient(op, x, w, dy):
    """(dW, db, dX), without db where `no_bias` is set."""
    if op.attr("no_bias", 0):
        dx, dw = pullback(lambda *v: convolved(op, *v), [x, w], [dy], [0, 1])
        return dw, dx
    bias = o.fill(shape=(w.shape[0],), value=0.0, dtype=w.dtype)
    dx, dw, db = pullback(lambda *v: convolved(op, *v), [x, w, bias], [dy], [0, 1, 2])
    return dw, db, dx


@caffe2_op("ConvTranspose")
def conv_transpose(op, x, w, b=None):
    """w [C, O / group, kernel...]; `adj` more elements at the end of each axis."""
    return _transposed(op, x, w, b)


def _transposed(op: Node, x: Any, w: Any, b: Any = None) -> Any:
    last = op.last
    x, w = channels_first(x, last), channels_first(w, last)
    rank = len(x.shape) - 2
    win = window_of(op, x, _known(w.shape[2:]))
    adj = op.ints("adjs", [op.attr("adj", 0)] * rank)
    if op.has("adj_h"):
        adj = [op.attr("adj_h", 0), op.attr("adj_w", 0)]
    groups = op.attr("group", 1)
    how = {"stride": win.stride, "padding": win.pads, "output_padding": tuple(adj)}
    y = getattr(o, f"conv_transpose{rank}d")(x, w, b, groups=groups, **how)
    return channels_last(y, last)


@caffe2_op("ConvTransposeGradient")
def conv_transpose_gradient(op, x, w, dy):
    """(dW, db, dX), without db where `no_bias` is set."""
    if op.attr("no_bias", False):
        dx, dw = pullback(lambda *v: _transposed(op, *v), [x, w], [dy], [0, 1])
        return dw, dx
    channels = dy.shape[-1] if op.last else dy.shape[1]
    bias = o.fill(shape=(channels,), value=0.0, dtype=w.dtype)
    dx, dw, db = pullback(lambda *v: _transposed(op, *v), [x, w, bias], [dy], [0, 1, 2])
    return dw, db, dx


@caffe2_op("DeformConv")
def deform_conv(op, x, offset, w, b=None):
    """A convolution whose windows are bent by offsets [N, 2 * kernel * groups, H', W']."""
    return _deformed(op, x, offset, w, b)


def _deformed(op: Node, x: Any, offset: Any, w: Any, b: Any = None) -> Any:
    win = window_of(op, x, _known(w.shape[2:]))
    how = {"stride": win.stride, "padding": win.pads, "dilation": win.dilation}
    return deform_conv2d(x, offset, w, b, **how)


@caffe2_op("DeformConvGradient")
def deform_conv_gradient(op, x, offset, w, dy):
    """(dOffset, dW, db, dX), without db where `no_bias` is set."""
    if op.attr("no_bias", False):
        dx, doffset, dw = pullback(lambda *v: _deformed(op, *v), [x, offset, w], [dy], [0, 1, 2])
        return doffset, dw, dx
    bias = o.fill(shape=(w.shape[0],), value=0.0, dtype=w.dtype)
    fn = lambda *v: _deformed(op, *v)  # noqa: E731
    dx, doffset, dw, db = pullback(fn, [x, offset, w, bias], [dy], [0, 1, 2, 3])
    return doffset, dw, db, dx


# ---- windows as columns ------------------------------------------------------------------------


def _columns(x: Any, win: Window) -> Any:
    """What every window of x [N, C, sizes...] sees: [N, C, kernel, windows...]."""
    rank = len(x.shape) - 2
    if prod(win.kernel) > MAX_TAPS:
        raise ArgumentError("a kernel is too large", expected=f"{MAX_TAPS} elements", got=str(win))
    windows = slide(_known(x.shape[2:]), win.kernel, win.stride, win.pads, win.dilation)
    pads = ((0, 0), (0, 0), *windows.pads)
    around = o.pad(x, pads=pads) if any(map(any, windows.pads)) else x
    axes = tuple(range(2, rank + 2))
    seen = []
    for tap in taps(windows):
        starts, stops, steps = zip(*((s.start, s.stop, s.step) for s in tap), strict=True)
        seen.append(
            o.unsqueeze(o.slice(around, axes=axes, starts=starts, stops=stops, steps=steps), axis=2)
        )
    return o.concat(*seen, axis=2)


def locally_connected(op: Node, x: Any, w: Any, b: Any = None) -> Any:
    """A convolution with a filter of its own at every place.

    w [places..., O, C / group, kernel...], with channels last [places..., O, kernel..., C / group];
    b [places..., O]
    """
    last = op.last
    x = channels_first(x, last)
    rank, groups = len(x.shape) - 2, op.attr("group", 1)
    if last:
        order = (*range(rank + 1), 2 * rank + 1, *range(rank + 1, 2 * rank + 1))
        w = o.transpose(w, perm=order)
    kernel = _known(w.shape[-rank:])
    columns = _columns(x, window_of(op, x, kernel))
    places = columns.shape[3:]
    n, p, m, k = x.shape[0], prod(places), w.shape[rank] // groups, prod(kernel)
    c = x.shape[1] // groups
    seen = o.reshape(columns, shape=(n, groups, c * k, p))
    seen = o.transpose(seen, perm=(3, 1, 0, 2))
    filters = o.reshape(w, shape=(p, groups, m, c * k))
    y = o.matmul(filters, seen, transpose_y=True)  # [p, groups, m, n]
    y = o.reshape(o.transpose(y, perm=(3, 1, 2, 0)), shape=(n, groups * m, *places))
    if b is not None:
        vectors = o.transpose(o.reshape(b, shape=(p, groups * m)), perm=(1, 0))
        y = o.add(y, o.reshape(vectors, shape=(groups * m, *places)))
    return channels_last(y, last)


@caffe2_op("LC", "LC1D", "LC2D", "LC3D")
def lc(op, x, w, b=None):
    return locally_connected(op, x, w, b)


@caffe2_op("LCGradient", "LC1DGradient", "LC2DGradient", "LC3DGradient")
def lc_gradient(op, x, w, dy):
    """(dW, db, dX), without db where `no_bias` is set."""
    rank = len(x.shape) - 2
    if op.attr("no_bias", False):
        dx, dw = pullback(lambda *v: locally_connected(op, *v), [x, w], [dy], [0, 1])
        return dw, dx
    bias = o.fill(shape=w.shape[: rank + 1], value=0.0, dtype=w.dtype)
    dx, dw, db = pullback(lambda *v: locally_connected(op, *v), [x, w, bias], [dy], [0, 1, 2])
    return dw, db, dx


@caffe2_op("Im2Col")
def im2col(op, x):
    """[N, C, H, W] -> [N, C * kernel, windows H, windows W]"""
    last = op.last
    x = channels_first(x, last)
    columns = _columns(x, window_of(op, x))
    n, c, k = columns.shape[:3]
    if last:
        y = o.transpose(columns, perm=(0, 3, 4, 2, 1))
        return o.reshape(y, shape=(n, *columns.shape[3:], k * c))
    return o.reshape(columns, shape=(n, c * k, *columns.shape[3:]))


@caffe2_op("Col2Im")
def col2im(op, columns, like):
    """The transpose of Im2Col: windows that overlap are added up. like: gives the shape."""
    return pullback(lambda v: im2col(op, v), [like], [columns], [0])[0]


# ---- pooling -----------------------------------------------------------------------------------


def _pool(op: Node, kind: str, x: Any) -> Any:
    last = op.last
    x = channels_first(x, last)
    rank = len(x.shape) - 2
    win = window_of(op, x)
    if win.dilation != (1,) * rank and kind == "avg":
        raise ArgumentError(
            "a mean over windows with holes is not supported", got=str(win.dilation)
        )
    how: dict[str, Any] = {"kernel": win.kernel, "stride": win.stride, "padding": win.pads}
    how["ceil_mode"] = win.ceil
    if kind == "avg":
        how["count_include_pad"] = bool(op.attr("count_include_pad", False))
    else:
        how["dilation"] = win.dilation
    return channels_last(getattr(o, f"{kind}_pool{rank}d")(x, **how), last)


def _define_pools(kind: str, name: str) -> None:
    words = [name + n for n in ("", "1D", "2D", "3D")]

    @caffe2_op(*words)
    def pool(op, x):
        return _pool(op, kind, x)

    @caffe2_op(*[f"{word}Gradient" for word in words])
    def gradient(op, x, y, dy):
        return pullback(lambda v: _pool(op, kind, v), [x], [dy], [0])[0]


_define_pools("max", "MaxPool")
_define_pools("avg", "AveragePool")


@caffe2_op("LpPool")
def lp_pool(op, x):
    return _lp(op, x)


def _lp(op: Node, x: Any) -> Any:
    """(sum of |x|^p over a window)^(1 / p)"""
    p, last = op.attr("p", 2.0), op.last
    x = channels_first(x, last)
    total = o.reduce_sum(_columns(o.pow(o.abs(x), p), window_of(op, x)), axis=2)
    return channels_last(o.pow(total, 1.0 / p), last)


@caffe2_op("LpPoolGradient")
def lp_pool_gradient(op, x, y, dy):
    return pullback(lambda v: _lp(op, v), [x], [dy], [0])[0]


# ---- edges, blocks -----------------------------------------------------------------------------


@caffe2_op("PadImage")
def pad_image(op, x):
    return _padded(op, x)


def _padded(op: Node, x: Any) -> Any:
    top, left, bottom, right = _pads(op, 2)
    mode = op.attr("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise ArgumentError("unknown mode", expected="constant, reflect or edge", got=repr(mode))
    sides = ((top, bottom), (left, right))
    pads = ((0, 0), *sides, (0, 0)) if op.last else ((0, 0), (0, 0), *sides)
    value = op.attr("value", 0.0) if mode == "constant" else 0.0
    return o.pad(x, pads=pads, mode=mode, value=value)


@caffe2_op("PadImageGradient")
def pad_image_gradient(op, dy):
    top, left, bottom, right = _pads(op, 2)
    sides = ((top, bottom), (left, right))
    pads = ((0, 0), *sides, (0, 0)) if op.last else ((0, 0), (0, 0), *sides)
    return o.unpad(dy, pads=pads, mode=op.attr("mode", "constant"))


@caffe2_op("SpaceToBatch")
def space_to_batch(op, x):
    """[N, C, H, W] -> [N * b * b, C, (H + pads) / b, (W + pads) / b]"""
    b, pads = op.attr("block_size", 2), _pads(op, 2)
    x = o.pad(x, pads=((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    n, c, h, w = x.shape
    y = o.reshape(x, shape=(n, c, h // b, b, w // b, b))
    return o.reshape(o.transpose(y, perm=(3, 5, 0, 1, 2, 4)), shape=(b * b * n, c, h // b, w // b))


@caffe2_op("BatchToSpace")
def batch_to_space(op, x):
    """What SpaceToBatch takes, with its pads cut off."""
    b, (top, left, bottom, right) = op.attr("block_size", 2), _pads(op, 2)
    n, c, h, w = x.shape
    y = o.reshape(x, shape=(b, b, n // (b * b), c, h, w))
    y = o.reshape(o.transpose(y, perm=(2, 3, 4, 0, 5, 1)), shape=(n // (b * b), c, h * b, w * b))
    return o.unpad(y, pads=((0, 0), (0, 0), (top, bottom), (left, right)))
