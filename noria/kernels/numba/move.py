"""Copies between strided arrays, whatever is in them: the engine of all ops that only move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod

import numpy as np

from noria.core.dtypes import itemsize
from noria.ir.program import Shape
from noria.kernels.call import Call
from noria.kernels.numba.body import copy_body
from noria.kernels.numba.codegen import form_of, table_end
from noria.kernels.numba.generate import source_of
from noria.kernels.numba.launch import launch
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.space import Space, fold, memory_order
from noria.kernels.numba.transpose_loop import TILES, transpose_source
from noria.kernels.registry import Array

Emit = Callable[[int, int], list[Call]]
SHORT = 8  # an axis shorter than this is not worth a tile


@dataclass(frozen=True, slots=True)
class Part:
    """A box of an array: steps and the place of its first element, in elements."""

    strides: tuple[int, ...]
    offset: int = 0


def copy_kernel(src: Array, dst: Array, threads: int | None = None) -> Emit:
    """Calls that copy an array into another of the same shape and dtype, laid out otherwise.

    The result takes (address of src, address of dst). The arrays must not overlap.
    """
    team = thread_count() if threads is None else threads
    return copy_part(src.shape, Part(src.strides), Part(dst.strides), itemsize(dst.dtype), team)


def copy_part(
    sizes: Sequence[int],
    src: Part,
    dst: Part,
    width: int,
    threads: int,
    declared: Shape | None = None,
    name: str = "numba:copy",
) -> Emit:
    """`copy_kernel` for boxes of arrays with elements of `width` bytes.

    A step of 0 in the source repeats an element. declared: the sizes as written in the Program.
    """
    if 0 in sizes:
        return lambda source, target: []
    order = memory_order(dst.strides)
    space = fold(declared or tuple(sizes), sizes, [src.strides, dst.strides], order)
    shift, to = src.offset * width, dst.offset * width
    make = _straight if _along(space) is None else _transposed
    inner = make(space, width, threads, name)
    return lambda source, target: [inner(source + shift, target + to)]


def fill_part(
    sizes: Sequence[int], value: np.ndarray, dst: Part, threads: int, name: str = "numba:fill"
) -> Callable[[int], list[Call]]:
    """Calls that write one element all over a box; value: an array [] that holds it."""
    rank = len(sizes)
    emit = copy_part(sizes, Part((0,) * rank), dst, value.itemsize, threads, None, name)

    def filled(target: int) -> list[Call]:
        calls = emit(value.ctypes.data, target)
        return [replace(c, keep=(c.keep, value)) for c in calls]

    return filled


def _along(space: Space) -> int | None:
    """The loop along which the source is contiguous, if tiles are to be used.

    A tile is written along the last loop; that is not where the target is contiguous if a very
    short loop gave it its place.
    """
    source, target = space.strides[-1]
    if source in (0, 1) or target != 1 or space.sizes[-1] < SHORT:
        return None
    for d, (n, steps) in enumerate(zip(space.sizes[:-1], space.strides[:-1], strict=True)):
        if steps[0] == 1 and n >= SHORT:
            return d
    return None


def _straight(space: Space, width: int, threads: int, name: str) -> Callable[[int, int], Call]:
    source = source_of(form_of(copy_body(f"uint{8 * width}"), space))
    end, moved = table_end(space), 2 * width * prod(space.sizes)

    def emit(src: int, dst: int) -> Call:
        return launch(name, source, "map", [src, dst, *end], threads=threads, bytes=moved)

    return emit


_transpose_source = cache(transpose_source)


def _transposed(space: Space, width: int, threads: int, name: str) -> Callable[[int, int], Call]:
    along = _along(space)
    assert along is not None
    last = len(space.sizes) - 1
    axes = [*(d for d in range(last) if d != along), along, last]
    source = _transpose_source(len(axes) - 2, width)
    steps = [space.strides[d][o] for o in range(2) for d in axes]
    end = [*(space.sizes[d] for d in axes), *steps]
    moved = 2 * width * prod(space.sizes)
    team = 1 if threads == 1 else max(threads, thread_count())

    def emit(src: int, dst: int) -> Call:
        buffers = np.empty(team * TILES[width] ** 2 + 64 // width, f"uint{8 * width}")
        aligned = whole_lines(buffers.ctypes.data)
        table = [src, dst, aligned, *end]
        call = launch(name, source, "transpose", table, threads=threads, bytes=4 * moved)
        call.keep = (call.keep, buffers)
        return call

    return emit
