"""Ops that move elements or write one element all over: each is a few copies of boxes."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from noria.core.dtypes import itemsize, to_numpy
from noria.ir.program import Operator, Shape, as_shape
from noria.kernels.call import Call
from noria.kernels.numba.move import Part, copy_part, fill_part
from noria.kernels.numba.space import spread_strides
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.kernels.traced import table_of

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A box of an input, or one element where there is no `src`, into a box of an output.

    written: the sizes as the Program has them, if the box has other axes than the output
    """

    sizes: Sizes
    dst: Part
    src: Part | None = None
    input: int = 0
    output: int = 0
    written: Shape | None = None


Plan = Callable[[BoundOp], Iterator[Move]]


# ---- one box -----------------------------------------------------------------------------------


def _broadcast_to(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    strides = spread_strides(bound.op.operands[0].shape, x, bound.op.outputs[0].shape)
    yield Move(out.shape, Part(out.strides), Part(strides))


def _transpose(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    rank = len(x.shape)
    perm = bound.attrs["perm"]
    order = range(rank)[::-1] if perm is None else [p % rank for p in perm]
    yield Move(out.shape, Part(out.strides), Part(tuple(x.strides[p] for p in order)))


def _tile(bound: BoundOp) -> Iterator[Move]:
    """Axes come in pairs: which copy, and where in x."""
    x, out = _ends(bound)
    counts = [int(n) for n in as_shape(bound.attrs["repeats"])]
    sizes: list[int] = []
    source: list[int] = []
    target: list[int] = []
    for n, count, s, t in zip(x.shape, counts, x.strides, out.strides, strict=True):
        sizes += [count, n]
        source += [0, s]
        target += [n * t, t]
    pairs = zip(as_shape(bound.op.attrs["repeats"]), bound.op.operands[0].shape, strict=True)
    written: Shape = tuple(itertools.chain.from_iterable(pairs))
    yield Move(tuple(sizes), Part(tuple(target)), Part(tuple(source)), written=written)


def _slice(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    yield Move(out.shape, Part(out.strides), _cut(x, bound.attrs))


def _cuts(a: Array, attrs: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """(axis, first element, step) of each cut that the attributes of `slice` make in an array."""
    steps = attrs["steps"] or (1,) * len(attrs["axes"])
    axes = [axis % len(a.shape) for axis in attrs["axes"]]
    ends = zip(axes, attrs["starts"], attrs["stops"], steps, strict=True)
    return [
        (axis, builtins.slice(start, stop, step).indices(a.shape[axis])[0], step)
        for axis, start, stop, step in ends
    ]


def _cut(a: Array, attrs: Mapping[str, Any]) -> Part:
    strides, offset = list(a.strides), 0
    for axis, first, step in _cuts(a, attrs):
        offset += first * strides[axis]
        strides[axis] *= step
    return Part(tuple(strides), offset)


def _unpad(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    offset = sum(s * before for s, (before, _) in zip(x.strides, bound.attrs["pads"], strict=True))
    yield Move(out.shape, Part(out.strides), Part(x.strides, offset))


def _fill(bound: BoundOp) -> Iterator[Move]:
    out = bound.outputs[0]
    yield Move(out.shape, Part(out.strides))


# ---- several boxes -----------------------------------------------------------------------------


def _concat(bound: BoundOp) -> Iterator[Move]:
    out = bound.outputs[0]
    axis, at = bound.attrs["axis"] % len(out.shape), 0
    for i, x in enumerate(bound.inputs):
        assert x is not None
        yield Move(x.shape, Part(out.strides, at * out.strides[axis]), Part(x.strides), input=i)
        at += x.shape[axis]


def _split(bound: BoundOp) -> Iterator[Move]:
    (x,) = bound.inputs
    assert x is not None
    axis, at = bound.attrs["axis"] % len(x.shape), 0
    for o, out in enumerate(bound.outputs):
        source = Part(x.strides, at * x.strides[axis])
        yield Move(out.shape, Part(out.strides), source, output=o)
        at += out.shape[axis]


def _pad(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    yield from _framed(x, out, [before for before, _ in bound.attrs["pads"]])


def _unslice(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    cuts = _cuts(out, bound.attrs)
    if all(step == 1 for _, _, step in cuts):
        first = {axis: start for axis, start, _ in cuts}
        yield from _framed(x, out, [first.get(axis, 0) for axis in range(len(out.shape))])
        return
    yield Move(out.shape, Part(out.strides))
    yield Move(x.shape, _cut(out, bound.attrs), Part(x.strides))


def _framed(x: Array, out: Array, firsts: Sequence[int]) -> Iterator[Move]:
    """x inside out, with its first element at `firsts`, and what is around it filled."""
    whole = list(out.shape)
    for axis, (first, n, m) in enumerate(zip(firsts, x.shape, out.shape, strict=True)):
        for start, stop in ((0, first), (first + n, m)):
            sizes = [*x.shape[:axis], stop - start, *whole[axis + 1 :]]
            corner = [*firsts[:axis], start]
            yield Move(tuple(sizes), Part(out.strides, _place(corner, out.strides)))
    yield Move(x.shape, Part(out.strides, _place(firsts, out.strides)), Part(x.strides))


def _place(index: Sequence[int], strides: Sequence[int]) -> int:
    return sum(i * s for i, s in zip(index, strides, strict=False))


def _roll(bound: BoundOp) -> Iterator[Move]:
    """Each axis is cut in two, and the halves change places."""
    x, out = _ends(bound)
    shift, axis = bound.attrs["shift"], bound.attrs["axis"]
    if axis is None:
        x, out = _flat(x), _flat(out)
        axis = (0,)
    shifts = dict.fromkeys(range(len(x.shape)), 0)
    for a, s in zip(_tuple(axis), _tuple(shift), strict=True):
        shifts[a % len(x.shape)] = s % x.shape[a]
    halves = [((0, n - shifts[a]), (n - shifts[a], n)) for a, n in enumerate(x.shape)]
    for box in itertools.product(*halves):
        starts = [start for start, _ in box]
        moved = [(s + shifts[a]) % n for a, (s, n) in enumerate(zip(starts, x.shape, strict=True))]
        sizes = tuple(stop - start for start, stop in box)
        target = Part(out.strides, _place(moved, out.strides))
        yield Move(sizes, target, Part(x.strides, _place(starts, x.strides)))


def _tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _flat(a: Array) -> Array:
    return Array((a.size,), a.dtype, (1,))


def _ends(bound: BoundOp) -> tuple[Array, Array]:
    x = bound.inputs[0]
    assert x is not None
    return x, bound.outputs[0]


# ---- the kernel --------------------------------------------------------------------------------

_PLANS: dict[str, Plan] = {
    "broadcast_to": _broadcast_to,
    "transpose": _transpose,
    "tile": _tile,
    "slice": _slice,
    "unslice": _unslice,
    "pad": _pad,
    "unpad": _unpad,
    "roll": _roll,
    "concat": _concat,
    "split": _split,
    "fill": _fill,
    "dim_value": _fill,
}
_KEEPS_LAYOUT = ("tile", "slice", "unslice", "pad", "unpad", "roll", "concat", "split")


class Copy(Kernel):
    """Elements to other places, unchanged; and one element everywhere."""

    name = "numba:copy"
    ops = tuple(_PLANS)

    def accepts(self, op: Operator) -> None:
        if op.attrs.get("mode", "constant") != "constant":
            raise Declined(f"mode '{op.attrs['mode']}'")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        if op.type == "broadcast_to" and _over_space(op):
            return [None], [LAST]
        plain = op.type not in _KEEPS_LAYOUT or (op.type == "roll" and op.attrs["axis"] is None)
        if plain or LAST not in given:
            flat = op.type == "roll"
            return [PLAIN if flat else None] * len(op.inputs), [PLAIN] * len(op.outputs)
        return [None] * len(op.inputs), [LAST] * len(op.outputs)

    def bind(self, bound: BoundOp) -> Prepared:
        emitters = [self._emitter(bound, move) for move in _PLANS[bound.op.type](bound)]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            return [call for e in emitters for call in e(ins, outs)]

        return Prepared(emit)

    def _emitter(self, bound: BoundOp, move: Move) -> Callable[[list[int], list[int]], list[Call]]:
        """What copies or fills one box, given the addresses of all inputs and outputs."""
        out = bound.outputs[move.output]
        if move.src is None and bound.op.type == "dim_value" and out.dtype == "int64":
            return self._told(bound, move)
        if move.src is None:
            value = np.array(_value(bound), to_numpy(out.dtype))
            fill = fill_part(move.sizes, value, move.dst, bound.threads, self.name)
            return lambda ins, outs: fill(outs[move.output])
        written = move.written or _written(move.sizes, bound.op.outputs[move.output].shape)
        width = itemsize(out.dtype)
        copy = copy_part(move.sizes, move.src, move.dst, width, bound.threads, written, self.name)
        return lambda ins, outs: copy(ins[move.input], outs[move.output])

    def _told(self, bound: BoundOp, move: Move) -> Callable[[list[int], list[int]], list[Call]]:
        """What writes a size, which is a number of a table like others."""
        source, size = Part((0,) * len(move.sizes)), bound.attrs["dim"]
        copy = copy_part(move.sizes, source, move.dst, 8, bound.threads, None, self.name)

        def emit(ins: list[int], outs: list[int]) -> list[Call]:
            address, memory = table_of([size])
            return [replace(c, keep=(c.keep, memory)) for c in copy(address, outs[move.output])]

        return emit


def _over_space(op: Operator) -> bool:
    """Does it repeat a number of each channel all over an image? What takes that, the gradient of a
    mean, is a convolution in the end, which likes channels last."""
    x, out = op.operands[0], op.outputs[0]
    return x.ndim == out.ndim > 2 and x.shape[1] != 1 and all(d == 1 for d in x.shape[2:])


def _value(bound: BoundOp) -> Any:
    """The element that `fill` and its like write."""
    if bound.op.type == "dim_value":
        return bound.attrs["dim"]
    return bound.attrs.get("value", 0)


def _written(sizes: Sizes, declared: Shape) -> Shape:
    """Sizes of a box, but symbolic where the output's are: those may be 1 today, not tomorrow."""
    if len(sizes) != len(declared):  # of a flattened array
        return sizes
    return tuple(n if isinstance(d, int) else d for n, d in zip(sizes, declared, strict=True))


register(Copy())
