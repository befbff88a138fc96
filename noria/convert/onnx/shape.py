"""Shapes: reshaping, joining, cutting, padding, repeating."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.math import dtype_name, is_text
from noria.convert.onnx.sizes import tensor
from noria.core.dims import Dim, Size, ceil_div, dim_max, known_ge, product
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axis_of, shaped


def sizes_of(x: Any) -> tuple[Size, ...]:
    """The shape of a Value or an array."""
    return tuple(shaped(x).shape)


# ---- shapes as tensors -------------------------------------------------------------------------


@onnx_op("Shape")
def shape(node: Node, x: Any) -> Any:
    return tensor(sizes_of(x)[slice(node.attr("start", 0), node.attr("end"))])


@onnx_op("Size")
def size(node: Node, x: Any) -> Any:
    return tensor(product(sizes_of(x)))


# ---- reshaping ---------------------------------------------------------------------------------


@onnx_op("Reshape", since=5)
def reshape(node: Node, x: Any, target: Any) -> Any:
    return _reshaped(node, x, node.sizes(target, "the shape"))


@onnx_op("Reshape")
def reshape_before_5(node: Node, x: Any) -> Any:
    return _reshaped(node, x, node.need("shape"))


def _reshaped(node: Node, x: Any, target: tuple[Size, ...]) -> Any:
    """0 keeps the size of x, unless `allowzero`."""
    own = sizes_of(x)
    if not node.attr("allowzero", 0):
        target = tuple(own[i] if _is(d, 0) else d for i, d in enumerate(target))
    if is_text(x):
        return np.reshape(x, target)
    return o.reshape(x, shape=_settled(own, target))


def _settled(own: tuple[Size, ...], target: tuple[Size, ...]) -> tuple[Size, ...]:
    """-1 worked out from the axes that the shapes do not share: N * 12 / N is not 12 for N = 0."""
    open_axes = [i for i, d in enumerate(target) if _is(d, -1)]
    if len(open_axes) != 1:
        return target
    rest, left = list(own), []
    for d in target:
        if isinstance(d, Dim) and d in rest:
            rest.remove(d)
        elif not _is(d, -1):
            left.append(d)
    known, total = product(left), product(rest)
    if _is(known, 0):  # -1 beside an empty axis
        size: Size = 0
    elif isinstance(known, int) and isinstance(total, int) and total % known:
        return target  # which the reshape refuses
    else:
        size = total // known
    at = open_axes[0]
    return (*target[:at], size, *target[at + 1 :])


def _is(size: Size, number: int) -> bool:
    return isinstance(size, int) and size == number


@onnx_op("Flatten")
def flatten(node: Node, x: Any) -> Any:
    own = sizes_of(x)
    at = node.attr("axis", 1)
    at = at + len(own) if at < 0 else at
    return o.reshape(x, shape=(product(own[:at]), product(own[at:])))


@onnx_op("Squeeze")
def squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    """Without axes: those of size 1; a symbolic size is none of them, whatever it is in a run."""
    listed = node.axes(axes)
    if listed is None:
        listed = tuple(i for i, d in enumerate(sizes_of(x)) if _is(d, 1))
    if is_text(x):
        return np.squeeze(x, tuple(listed))
    return o.squeeze(x, axis=tuple(listed)) if listed else x


@onnx_op("Unsqueeze")
def unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    listed = tuple(node.axes(axes) or ())
    if is_text(x):
        return np.expand_dims(x, listed)
    return o.unsqueeze(x, axis=listed) if listed else x


@onnx_op("Transpose")
def transpose(node: Node, x: Any) -> Any:
    if is_text(x):
        return np.transpose(x, node.attr("perm"))
    return o.transpose(x, perm=node.attr("perm"))


@onnx_op("Identity")
def identity(node: Node, x: Any) -> Any:
    return x


# ---- joining and cutting -----------------------------------------------------------------------


@onnx_op("Concat")
def concat(node: Node, *xs: Any) -> Any:
    axis = node.attr("axis", 1 if node.opset < 4 else 0)
    if is_text(xs[0]):
        return np.concatenate([node.const(x, "a part") for x in xs], axis)
    return o.concat(*xs, axis=axis)


@onnx_op("Split")
def split(node: Node, x: Any, parts: Any = None) -> Any:
    axis = node.attr("axis", 0)
    listed = node.attr("split") if parts is None else node.sizes(parts, "the parts")
    total, count = sizes_of(x)[axis], node.attr("num_outputs") or len(node.outputs)
    if listed is None:
        listed = even_parts(total, count, uneven="num_outputs" in node.attrs)
    got = o.split(x, sizes=tuple(listed), axis=axis)
    return got if isinstance(got, tuple) else (got,)


def even_parts(total: Size, count: int, *, uneven: bool) -> tuple[Size, ...]:
    """Sizes of `count` equal parts; uneven: the last may be smaller."""
    if not uneven and isinstance(total, Dim):
        return (total // count,) * count
    each = ceil_div(total, count)
    return (*(each,) * (count - 1), total - each * (count - 1))


@onnx_op("Slice", since=10)
def slice_(node: Node, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    first, last = node.sizes(starts, "the starts"), node.sizes(ends, "the ends")
    along = range(len(first)) if axes is None else node.ints(axes, "the axes")
    by = (1,) * len(first) if steps is None else node.ints(steps, "the steps")
    return _sliced(x, first, last, tuple(along), by)


@onnx_op("Slice")
def slice_before_10(node: Node, x: Any) -> Any:
    first, last = node.need("starts"), node.need("ends")
    along = node.attr("axes", tuple(range(len(first))))
    return _sliced(x, first, last, along, (1,) * len(first))


def _sliced(x: Any, first: Any, last: Any, axes: Any, steps: Any) -> Any:
    if not axes:
        return x
    own = sizes_of(x)
    along = [own[axis_of(a, len(own))] for a in axes]
    starts, stops = zip(*map(_cut, first, last, along, steps), strict=True)
    return o.slice(x, axes=tuple(axes), starts=starts, stops=stops, steps=tuple(steps))


FAR = (1 << 31) - 1  # what exporters write for an end that is open


def _cut(first: Size, last: Size, size: Size, step: int) -> tuple[Any, Any]:
    """Positions for `ops.slice`, whose open ends are None: so a symbolic size stays itself.

    A start before the first element is that element, also backwards (in Python it is nothing).
    """
    if step < 0 and isinstance(first, int):
        before = first < -size if isinstance(size, int) else first <= -FAR
        first = 0 if before else first
    start = None if isinstance(first, int) and first * -step >= FAR * abs(step) else first
    stop = None if isinstance(last, int) and last * step >= FAR * abs(step) else last
    return _not_negative(start), _not_negative(stop)


def _not_negative(position: Any) -> Any:
    if isinstance(position, Dim) and known_ge(position, 0) is not True:
        return dim_max(position, 0)
    return position


# ---- repeating and padding ---------------------------------------------------------------------


@onnx_op("Tile", since=6)
def tile(node: Node, x: Any, repeats: Any) -> Any:
    return o.tile(x, repeats=node.sizes(repeats, "the repeats"))


@onnx_op("Tile")
def tile_before_6(node: Node, x: Any, tiles: Any, axis: Any) -> Any:
    counts = [1] * len(sizes_of(x))
    counts[int(scalar(node.const(axis, "the axis")))] = int(scalar(node.const(tiles, "the tiles")))
    return o.tile(x, repeats=tuple(counts))


@onnx_op("Expand")
def expand(node: Node, x: Any, target: Any) -> Any:
    """Broadcasting both ways: a 1 in the target keeps what x has."""
    own, wanted = sizes_of(x), node.sizes(target, "the shape")
    rank = max(len(own), len(wanted))
    own = (1,) * (rank - len(own)) + own
    wanted = (1,) * (rank - len(wanted)) + wanted
    out = tuple(d if _is(w, 1) else w for d, w in zip(own, wanted, strict=True))
    return o.broadcast_to(x, shape=out)


@onnx_op("Pad", since=11)
def pad(node: Node, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    listed = node.sizes(pads, "the pads")
    own = sizes_of(x)
    along = tuple(range(len(own))) if axes is None else node.ints(axes, "the axes")
    number = 0 if value is None else scalar(node.const(value, "the value"))
    return _padded(node, x, listed, along, number)


@onnx_op("Pad")
def pad_before_11(node: Node, x: Any) -> Any:
    listed = node.attr("pads") or node.need("paddings")
    return _padded(node, x, listed, tuple(range(len(sizes_of(x)))), node.attr("value", 0.0))


_MODES = ("constant", "reflect", "edge", "wrap")


def _padded(node: Node, x: Any, pads: Any, axes: tuple[int, ...], value: Any) -> Any:
    """Negative pads cut off."""
    mode = node.attr("mode", "constant")
    if mode not in _MODES:
        raise FormatError("unknown mode", where=str(node), expected=", ".join(_MODES), got=mode)
    rank = len(sizes_of(x))
    pairs: list[Any] = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pairs[axis_of(axis, rank)] = (pads[i], pads[i + len(axes)])
    x = _cropped(x, pairs)
    pairs = [tuple(d if known_ge(d, 0) else 0 for d in p) for p in pairs]
    if all(_is(d, 0) for p in pairs for d in p):
        return x
    if mode == "wrap":
        return _wrapped(x, pairs)
    if mode == "constant" and dtype_name(x) == "bool":
        value = bool(value)
    return o.pad(x, pads=tuple(pairs), mode=mode, value=value)


def _cropped(x: Any, pairs: list[Any]) -> Any:
    for axis, (before, after) in enumerate(pairs):
        low = -before if known_ge(before, 0) is False else 0
        high = after if known_ge(after, 0) is False else None
        if low or high is not None:
            x = o.slice(x, axes=(axis,), starts=(low,), stops=(high,))
    return x


def _wrapped(x: Any, pairs: list[Any]) -> Any:
    """As if x were repeated on both sides."""
    for axis, (before, after) in enumerate(pairs):
        if _is(before, 0) and _is(after, 0):
            continue
        total = sizes_of(x)[axis]
        steps = o.sub(o.arange(stop=before + total + after), o.dim_value(dim=before))
        x = o.gather(x, o.remainder(steps, o.dim_value(dim=total)), axis=axis)
    return x


@onnx_op("CenterCropPad")
def center_crop_pad(node: Node, x: Any, target: Any) -> Any:
    own = sizes_of(x)
    wanted = node.sizes(target, "the shape")
    axes = node.attr("axes", tuple(range(len(own))))
    for axis, size_ in zip(axes, wanted, strict=True):
        x = _centred(x, axis_of(axis, len(own)), size_)
    return x


def _centred(x: Any, axis: int, wanted: Size) -> Any:
    size_ = sizes_of(x)[axis]
    if known_ge(size_, wanted):
        start = (size_ - wanted) // 2
        return o.slice(x, axes=(axis,), starts=(start,), stops=(start + wanted,))
    if known_ge(wanted, size_) is not True:
        raise FormatError("it must be known which of two sizes is larger", got=f"{size_}, {wanted}")
    pads: list[Any] = [(0, 0)] * len(sizes_of(x))
    before = (wanted - size_) // 2
    pads[axis] = (before, wanted - size_ - before)
    return o.pad(x, pads=tuple(pads))


# ---- blocks of pixels --------------------------------------------------------------------------


@onnx_op("DepthToSpace")
def depth_to_space(node: Node, x: Any) -> Any:
    n, c, h, w = sizes_of(x)
    b = node.need("blocksize")
    if node.attr("mode", "DCR") == "DCR":
        apart = o.reshape(x, shape=(n, b, b, c // (b * b), h, w))
        turned = o.transpose(apart, perm=(0, 3, 4, 1, 5, 2))
    else:
        apart = o.reshape(x, shape=(n, c // (b * b), b, b, h, w))
        turned = o.transpose(apart, perm=(0, 1, 4, 2, 5, 3))
    return o.reshape(turned, shape=(n, c // (b * b), h * b, w * b))


@onnx_op("SpaceToDepth")
def space_to_depth(node: Node, x: Any) -> Any:
    n, c, h, w = sizes_of(x)
    b = node.need("blocksize")
    apart = o.reshape(x, shape=(n, c, h // b, b, w // b, b))
    if node.attr("mode", "DCR") == "CRD":
        turned = o.transpose(apart, perm=(0, 1, 3, 5, 2, 4))
    else:
        turned = o.transpose(apart, perm=(0, 3, 5, 1, 2, 4))
    return o.reshape(turned, shape=(n, c * b * b, h // b, w // b))
