"""Values in other shapes: reshaping, joining, cutting, padding, repeating."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Op, fluid_op
from noria.convert.fluid.math import one
from noria.core.dims import Dim, Size, product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops import join
from noria.ops.shape import expand as expand_to
from noria.ops.slicing import flip

END = (1 << 31) - 1  # what Fluid writes for "to the end"
MAX_PARTS = 1 << 14  # results of one operator


def several(result: Any) -> list[Any]:
    """The outputs of an op that gives one Value, or a tuple of them."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def numbers_of(op: Op, attr: str, tensor: str, listed: str, what: str) -> tuple[Size, ...]:
    """Sizes an operator takes from a tensor, from one scalar tensor each, or from an attribute."""
    given = op.get(tensor) if tensor else None
    if given is not None:
        return op.sizes(given, what)
    each = op.inputs(listed) if listed else []
    if each:
        return tuple(op.sizes(v, what)[0] for v in each)
    found = op.attr(attr, ())
    return tuple(found) if isinstance(found, Sequence) else (found,)


def with_xshape(op: Op, out: Any) -> dict[str, Any]:
    """The result, and the empty tensor that tells Fluid's gradients the old shape."""
    x = op.input("X")
    if "XShape" in op.outputs and not any(isinstance(d, Dim) for d in x.shape):
        return {"Out": out, "XShape": np.zeros((0, *x.shape), np.float32)}
    return {"Out": out}


def bounded(number: Any, low: int, high: int, what: str) -> int:
    """A number a file says how often something is done. Raises ArgumentError beyond the bounds."""
    if not isinstance(number, int) or not low <= number <= high:
        raise ArgumentError(f"{what} cannot be", expected=f"{low} to {high}", got=repr(number))
    return number


def at_least_1d(x: Any) -> Any:
    """Fluid has no scalars."""
    return x if x.shape else one(x)


# ---- the same elements -------------------------------------------------------------------------


@fluid_op("reshape", "reshape2")
def reshape(op: Op) -> dict[str, Any]:
    x = op.input("X")
    sizes = numbers_of(op, "shape", "Shape", "ShapeTensor", "the target of a reshape")
    kept = [
        x.shape[i] if not isinstance(d, Dim) and d == 0 and i < len(x.shape) else d
        for i, d in enumerate(sizes)
    ]
    return with_xshape(op, o.reshape(x, shape=tuple(kept)))


@fluid_op("transpose", "transpose2")
def transpose(op: Op) -> dict[str, Any]:
    return with_xshape(op, o.transpose(op.input("X"), perm=tuple(op.need_attr("axis"))))


@fluid_op("flatten", "flatten2")
def flatten(op: Op) -> dict[str, Any]:
    x, axis = op.input("X"), op.attr("axis", 1)
    shape = (product(x.shape[:axis]), product(x.shape[axis:]))
    return with_xshape(op, o.reshape(x, shape=shape))


@fluid_op("flatten_contiguous_range")
def flatten_contiguous_range(op: Op) -> dict[str, Any]:
    start, end = op.attr("start_axis", 1), op.attr("stop_axis", -1)
    return with_xshape(op, o.flatten(op.input("X"), start=start, end=end))


@fluid_op("squeeze", "squeeze2")
def squeeze(op: Op) -> dict[str, Any]:
    """Without axes: all of size 1. An axis of another size is left as it is."""
    x = op.input("X")
    asked = numbers_of(op, "axes", "AxesTensor", "AxesTensorList", "the axes of a squeeze")
    axes = [int(a) % len(x.shape) for a in asked] or range(len(x.shape))
    drop = tuple(dict.fromkeys(a for a in axes if x.shape[a] == 1))
    if len(drop) == len(x.shape):
        drop = drop[1:]
    return with_xshape(op, o.squeeze(x, axis=drop) if drop else o.identity(x))


@fluid_op("unsqueeze", "unsqueeze2")
def unsqueeze(op: Op) -> dict[str, Any]:
    """Each axis counts in the shape that the axes before it have made."""
    x = op.input("X")
    shape = list(x.shape)
    asked = numbers_of(op, "axes", "AxesTensor", "AxesTensorList", "the axes of an unsqueeze")
    for axis in asked:
        at = int(axis) + len(shape) + 1 if axis < 0 else int(axis)
        if not 0 <= at <= len(shape):
            raise ArgumentError("axis is out of range", got=f"{axis} for {len(shape)} axes")
        shape.insert(at, 1)
    return with_xshape(op, o.reshape(x, shape=tuple(shape)))


@fluid_op("reverse")
def reverse(op: Op) -> dict[str, Any]:
    axis = op.need_attr("axis")
    return {"Out": flip(op.input("X"), axis=axis if isinstance(axis, int) else tuple(axis))}


@fluid_op("flip")
def flip_(op: Op) -> dict[str, Any]:
    axes = op.attr("dims", op.attr("axis", ()))
    return {"Out": flip(op.input("X"), axis=tuple(axes))}


@fluid_op("roll")
def roll(op: Op) -> dict[str, Any]:
    x = op.input("X")
    axes = tuple(op.attr("dims", op.attr("axis", ())))
    shifts = tuple(int(s) for s in numbers_of(op, "shifts", "ShiftsTensor", "", "shifts"))
    if axes:
        return {"Out": o.roll(x, shift=shifts, axis=axes)}
    return {"Out": o.roll(x, shift=shifts[0])}


# ---- several values ----------------------------------------------------------------------------


@fluid_op("concat")
def concat(op: Op) -> dict[str, Any]:
    (axis,) = numbers_of(op, "axis", "AxisTensor", "", "the axis of a concat")
    return {"Out": o.concat(*op.inputs("X"), axis=int(axis))}


@fluid_op("split", "split_byref")
def split(op: Op) -> dict[str, Any]:
    x = op.input("X")
    (axis,) = numbers_of(op, "axis", "AxisTensor", "", "the axis of a split") or (0,)
    at = int(axis)
    sections = numbers_of(op, "sections", "", "SectionsTensorList", "the sections of a split")
    parts = len(op.outputs.get("Out", ()))
    if not sections:
        count = bounded(op.attr("num", 0) or parts, 1, MAX_PARTS, "the number of parts")
        return {"Out": several(o.split(x, num=count, axis=at))}
    open_ones = [i for i, s in enumerate(sections) if not isinstance(s, Dim) and s == -1]
    if len(open_ones) > 1:
        raise ArgumentError("one section may be -1", got=str(sections))
    sizes = list(sections)
    for i in open_ones:
        rest = sum((s for k, s in enumerate(sections) if k != i), start=0)
        sizes[i] = x.shape[at] - rest
    return {"Out": several(o.split(x, sizes=tuple(sizes), axis=at))}


@fluid_op("stack")
def stack(op: Op) -> dict[str, Any]:
    return {"Y": join.stack(*op.inputs("X"), axis=op.attr("axis", 0))}


@fluid_op("unstack", "unbind")
def unstack(op: Op) -> dict[str, Any]:
    x, axis, slot = op.input("X"), op.attr("axis", 0), "Y" if op.type == "unstack" else "Out"
    bounded(x.shape[axis], 0, MAX_PARTS, "the number of slices")
    return {slot: [at_least_1d(p) for p in join.unstack(x, axis=axis)]}


@fluid_op("partial_concat", "partial_sum")
def partial(op: Op) -> dict[str, Any]:
    """Some columns of each matrix, side by side or added: `length` of them, -1 to the end."""
    start, length = op.attr("start_index", 0), op.attr("length", -1)
    parts = []
    for x in op.inputs("X"):
        first = start % x.shape[1] if start < 0 else start
        stop = None if length < 0 else first + length
        parts.append(o.slice(x, axes=(1,), starts=(first,), stops=(stop,)))
    if op.type == "partial_concat":
        return {"Out": o.concat(*parts, axis=1)}
    total, *others = parts
    for part in others:
        total = o.add(total, part)
    return {"Out": total}


@fluid_op("meshgrid")
def meshgrid(op: Op) -> dict[str, Any]:
    xs = op.inputs("X")
    shape = tuple(x.shape[0] if x.shape else 1 for x in xs)
    grids = []
    for i, x in enumerate(xs):
        own = tuple(d if k == i else 1 for k, d in enumerate(shape))
        grids.append(o.broadcast_to(o.reshape(x, shape=own), shape=shape))
    return {"Out": grids}


# ---- parts of a value --------------------------------------------------------------------------


@fluid_op("slice", "strided_slice")
def slice_(op: Op) -> dict[str, Any]:
    x, axes = op.input("Input"), tuple(op.need_attr("axes"))
    starts, stops = (
        numbers_of(
            op, f"{n.lower()}", f"{n}Tensor", f"{n}TensorList", f"the {n.lower()} of a slice"
        )
        for n in ("Starts", "Ends")
    )
    steps = numbers_of(
        op, "strides", "StridesTensor", "StridesTensorList", "the strides of a slice"
    )
    steps = tuple(int(s) for s in steps) or (1,) * len(axes)
    sizes = [x.shape[a] for a in axes]
    cuts = [_cut(*c) for c in zip(starts, stops, steps, sizes, strict=True)]
    out = o.slice(
        x, axes=axes, starts=tuple(a for a, _ in cuts), stops=tuple(b for _, b in cuts), steps=steps
    )
    drop = tuple(op.attr("decrease_axis", ()))
    if drop:
        out = at_least_1d(o.squeeze(out, axis=drop))
    return {"Out": out}


def _cut(start: Size, stop: Size, step: Any, size: Size) -> tuple[Any, Any]:
    """A start and stop of Fluid as those of Python."""
    if not isinstance(stop, Dim) and (stop >= END or (step < 0 and stop <= -END)):
        return start, None
    if step < 0 and not isinstance(stop, Dim) and not isinstance(size, Dim) and stop < -size:
        return start, None
    return start, stop


@fluid_op("crop", "crop_tensor")
def crop(op: Op) -> dict[str, Any]:
    """A part of the size of `shape` (or of Y) from `offsets` on; -1: what remains."""
    x, like = op.input("X"), op.get("Y")
    listed = op.type == "crop_tensor"
    offsets = numbers_of(
        op, "offsets", "Offsets", "OffsetsTensor" if listed else "", "the offsets of a crop"
    )
    offsets = offsets or (0,) * len(x.shape)
    if like is not None:
        sizes: tuple[Size, ...] = tuple(like.shape)
    else:
        tensors = ("Shape", "ShapeTensor") if listed else ("", "")
        sizes = numbers_of(op, "shape", *tensors, "the shape of a crop")
    stops = [
        None if not isinstance(n, Dim) and n == -1 else first + n
        for first, n in zip(offsets, sizes, strict=True)
    ]
    axes = tuple(range(len(x.shape)))
    return {"Out": o.slice(x, axes=axes, starts=tuple(offsets), stops=tuple(stops))}


# ---- more of a value ---------------------------------------------------------------------------


@fluid_op("pad")
def pad(op: Op) -> dict[str, Any]:
    pads = tuple(op.need_attr("paddings"))
    pairs = tuple(zip(pads[::2], pads[1::2], strict=True))
    return {"Out": _padded(op.input("X"), pairs, op.attr("pad_value", 0.0), "constant")}


@fluid_op("pad2d", "pad3d")
def pad_spatial(op: Op) -> dict[str, Any]:
    """pad2d: top, bottom, left, right; pad3d: left, right, top, bottom, front, back."""
    x = op.input("X")
    pads = tuple(int(p) for p in numbers_of(op, "paddings", "Paddings", "", "the padding"))
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    if op.type == "pad3d":
        pairs.reverse()
    none = (0, 0)
    last = op.attr("data_format", "NCHW")[-1] == "C"
    around = (none, *pairs, none) if last else (none, none, *pairs)
    mode = {"replicate": "edge"}.get(op.attr("mode", "constant"), op.attr("mode", "constant"))
    value = op.attr("pad_value", op.attr("value", 0.0))
    return {"Out": _padded(x, around, value, mode)}


def _padded(x: Any, pairs: Any, value: float, mode: str) -> Any:
    number = value if x.dtype in ("float64", "float32", "float16", "bfloat16") else int(value)
    return o.pad(x, pads=tuple(pairs), value=number, mode=mode)


@fluid_op("pad_constant_like")
def pad_constant_like(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.input("Y")
    pairs = tuple((0, a - b) for a, b in zip(x.shape, y.shape, strict=True))
    return {"Out": _padded(y, pairs, op.attr("pad_value", 0.0), "constant")}


@fluid_op("expand", "tile")
def expand(op: Op) -> dict[str, Any]:
    x = op.input("X")
    names = (
        ("expand_times", "ExpandTimes", "expand_times_tensor")
        if op.type == "expand"
        else ("repeat_times", "RepeatTimes", "repeat_times_tensor")
    )
    times = numbers_of(op, *names, "the number of repeats")
    rank = max(len(times), len(x.shape))
    wide = o.reshape(x, shape=(1,) * (rank - len(x.shape)) + tuple(x.shape))
    times = (1,) * (rank - len(times)) + tuple(times)
    return {"Out": o.tile(wide, repeats=times)}


@fluid_op("expand_as")
def expand_as(op: Op) -> dict[str, Any]:
    x, target = op.input("X"), op.input("target_tensor")
    times = tuple(a // b for a, b in zip(target.shape, x.shape, strict=True))
    if any(t * b != a for t, a, b in zip(times, target.shape, x.shape, strict=True)):
        raise ShapeError("sizes must divide those of the target", got=f"{x.shape}, {target.shape}")
    return {"Out": o.tile(x, repeats=times)}


@fluid_op("expand_v2", "expand_as_v2")
def broadcast(op: Op) -> dict[str, Any]:
    x = op.input("X")
    if op.type == "expand_as_v2":
        target = op.get("Y")
        return {"Out": o.broadcast_to(x, shape=op.attr("target_shape") or target.shape)}
    sizes = numbers_of(op, "shape", "Shape", "expand_shapes_tensor", "the shape to expand to")
    return {"Out": expand_to(x, sizes)}
