"""Ops that move elements or write one element all over: each is a few copies of boxes."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from noria.core.dtypes import itemsize, to_numpy
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.move import Part, copy_part, fill_part
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

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """A box of an input, or the value `fill` where there is none, into a box of an output."""

    sizes: Sizes
    dst: Part
    src: Part | None
    input: int = 0
    output: int = 0


Plan = Callable[[BoundOp], Iterator[Move]]


# ---- one box -----------------------------------------------------------------------------------


def _broadcast_to(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    lead = len(out.shape) - len(x.shape)
    repeated = [n == 1 and m != 1 for n, m in zip(x.shape, out.shape[lead:], strict=True)]
    steps = (0 if r else s for r, s in zip(repeated, x.strides, strict=True))
    yield Move(out.shape, Part(out.strides), Part(((0,) * lead) + tuple(steps)))


def _transpose(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    rank = len(x.shape)
    perm = bound.attrs["perm"]
    order = range(rank)[::-1] if perm is None else [p % rank for p in perm]
    yield Move(out.shape, Part(out.strides), Part(tuple(x.strides[p] for p in order)))


def _tile(bound: BoundOp) -> Iterator[Move]:
    """Axes come in pairs: which copy, and where in x."""
    x, out = _ends(bound)
    sizes, source, target = [], [], []
    for n, count, s, t in zip(
        x.shape, bound.attrs["repeats"], x.strides, out.strides, strict=True
    ):
        sizes += [count, n]
        source += [0, s]
        target += [n * t, t]
    yield Move(tuple(sizes), Part(tuple(target)), Part(tuple(source)))


def _slice(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    yield Move(out.shape, Part(out.strides), _cut(x, bound.attrs))


def _cut(a: Array, attrs: Any) -> Part:
    """The box that the attributes of `slice` cut out of an array."""
    strides, offset = list(a.strides), 0
    steps = attrs["steps"] or (1,) * len(attrs["axes"])
    cuts = zip(attrs["axes"], attrs["starts"], attrs["stops"], steps, strict=True)
    for axis, start, stop, step in cuts:
        axis %= len(strides)
        first, _, _ = builtins.slice(start, stop, step).indices(a.shape[axis])
        offset += first * strides[axis]
        strides[axis] *= step
    return Part(tuple(strides), offset)


def _unpad(bound: BoundOp) -> Iterator[Move]:
    x, out = _ends(bound)
    offset = sum(s * before for s, (before, _) in zip(x.strides, bound.attrs["pads"], strict=True))
    yield Move(out.shape, Part(out.strides), Part(x.strides, offset))


def _fill(bound: BoundOp) -> Iterator[Move]:
    out = bound.outputs[0]
    yield Move(out.shape, Part(out.strides), None)


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
    target, steps = _cut(out, bound.attrs), bound.attrs["steps"] or (1,)
    if all(step == 1 for step in steps):
        rest, starts = target.offset, []
        for s in out.strides:  # row-major or channels-last: the larger step first
            starts.append(s)
        lows = _starts(out, bound.attrs)
        yield from _framed(x, out, lows)
        return
    yield Move(out.shape, Part(out.strides), None)
    yield Move(x.shape, target, Part(x.strides))
