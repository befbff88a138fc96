"""Resizing along one, two or three axes, and its gradient: rows of sparse weights.

An array is [outer, n1, n2, inner] in memory. For each of its new rows i the rows of x that it is
made of are added up in a buffer that stays in the cache, and what is made of the elements of that
buffer goes out. Which those are, and with which weights, lies behind the numbers of the table; so
one kernel serves every mode, both layouts, and the gradient, whose weights are the transpose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need_one
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
    strides_of,
)
from noria.ops.resample import Filter, Taps, taps_along

# Sums `count` times (position, weight) at `at` of the table into `width` numbers at `to`.
_SUM = """
            if count == 0:
                for c in range(width):
                    independent()
                    store_float32(to, c, float32(beyond))
            elif count == 1:
                p0 = x + load_int64(args, at) * width * 4
                w0 = float32(load_float64(args, at + 1))
                for c in range(width):
                    independent()
                    store_float32(to, c, w0 * load_float32(p0, c))
            else:
                p0 = x + load_int64(args, at) * width * 4
                w0 = float32(load_float64(args, at + 1))
                p1 = x + load_int64(args, at + 2) * width * 4
                w1 = float32(load_float64(args, at + 3))
                for c in range(width):
                    independent()
                    v = w0 * load_float32(p0, c) + w1 * load_float32(p1, c)
                    store_float32(to, c, v)
                for k in range(2, count):
                    p0 = x + load_int64(args, at + 2 * k) * width * 4
                    w0 = float32(load_float64(args, at + 2 * k + 1))
                    for c in range(width):
                        independent()
                        v = load_float32(to, c) + w0 * load_float32(p0, c)
                        store_float32(to, c, v)
"""


def _sum(x: str, width: str) -> str:
    return _SUM.strip("\n").replace("x + ", f"{x} + ").replace("width", width)


SOURCE = f"""
def resample(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    scratch = load_int64(args, 2)
    outer = load_int64(args, 3)
    n1 = load_int64(args, 4)
    m1 = load_int64(args, 5)
    n2 = load_int64(args, 6)
    m2 = load_int64(args, 7)
    inner = load_int64(args, 8)
    beyond = load_float64(args, 9)
    rows = load_int64(args, 10)
    columns = load_int64(args, 11)
    wide = n2 * inner
    team = team_size()
    me = thread_id()
    for row in range(outer * m1 * me // team, outer * m1 * (me + 1) // team):
        image = x + row // m1 * n1 * wide * 4
        at = load_int64(args, rows + row % m1)
        count = (load_int64(args, rows + row % m1 + 1) - at) // 2
        source = scratch + me * wide * 4
        if count == 1 and load_float64(args, at + 1) == 1.0:
            source = image + load_int64(args, at) * wide * 4
        else:
            to = source
{_sum("image", "wide")}
        for j in range(m2):
            at = load_int64(args, columns + j)
            count = (load_int64(args, columns + j + 1) - at) // 2
            to = out + (row * m2 + j) * inner * 4
{_sum("source", "inner")}
    return 0
"""
HEAD = 12  # numbers of the table before the weights
FEW = 8  # channels with which rows are longer in row-major memory


class Resize(Kernel):
    """Any mode, on float32 in either layout."""

    name = "numba:resize"
    ops = ("resize", "resize_grad")

    def accepts(self, op: Operator) -> None:
        need_one(op, ("float32",))

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        x = op.operands[0]
        channels = x.shape[1] if x.ndim > 3 else 0
        layout = LAST if isinstance(channels, int) and channels >= FEW else PLAIN
        return [layout], [layout]

    def bind(self, bound: BoundOp) -> Prepared:
        (x,), (out,) = bound.inputs, bound.outputs
        assert x is not None
        if not out.size or not x.size:
            raise Declined("there is nothing in it")
        order = _memory_order(x)
        maps = {order.index(axis): rows for axis, rows in _maps(bound, x, out)}
        steps = _steps([x.shape[a] for a in order], maps)
        beyond = float_bits(float(bound.attrs.get("beyond", 0.0)))
        row = max(64 + 4 * numbers[3] * numbers[5] for numbers, _ in steps) * bound.threads
        sizes = [4 * numbers[0] * numbers[2] * numbers[4] * numbers[5] for numbers, _ in steps]
        places = np.cumsum([row, *sizes]).tolist()

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            calls = []
            targets = [*(scratch + p for p in places[: len(steps) - 1]), outs[0]]
            sources = [ins[0], *targets]
            for (numbers, weights), source, target in zip(steps, sources, targets, strict=False):
                table = [source, target, scratch, *numbers, beyond, *weights]
                how = {"bytes": x.nbytes + out.nbytes, "ops": 8 * out.size}
                launched = launch(
                    self.name, SOURCE, "resample", table, threads=bound.threads, **how
                )
                calls.append(launched)
            return calls

        return Prepared(emit, places[-2])


def _memory_order(x: Array) -> list[int]:
    """The axes from the outermost in memory to the innermost."""
    if x.strides == strides_of(x.shape, PLAIN):
        return list(range(len(x.shape)))
    return [0, *range(2, len(x.shape)), 1]


# ---- weights -----------------------------------------------------------------------------------


class Rows(NamedTuple):
    """What m elements are made of n: element i of those from starts[i] on, to before the next.

    starts: m + 1 integers; ids, weights: one after the other for all elements
    """

    n: int
    starts: list[int]
    ids: list[int]
    weights: list[float]

    def at(self, place: int) -> list[int]:
        """As it lies in a table: starts as places in it, then ids and weights in turn."""
        first = place + len(self.starts)
        pairs = zip(self.ids, map(float_bits, self.weights), strict=True)
        return [*(first + 2 * s for s in self.starts), *itertools.chain.from_iterable(pairs)]


def _maps(bound: BoundOp, x: Array, out: Array) -> Iterator[tuple[int, Rows]]:
    """(axis, what its elements are made of) of the axes that change."""
    backward = bound.op.type == "resize_grad"
    old, new = (out, x) if backward else (x, out)
    attrs = bound.attrs
    axes = [a % len(x.shape) for a in attrs["axes"] or range(2, len(x.shape))]
    how = Filter(**{name: attrs[name] for name in Filter._fields})
    sizes = [new.shape[a] for a in axes]
    for axis, found in taps_along(old.shape, axes, sizes, attrs["scales"], attrs["crop"], how):
        yield axis, _rows(found, old.shape[axis], backward)


def _rows(found: Taps, n: int, backward: bool) -> Rows:
    """The weights without those of elements beyond the array; of equal places, the sum."""
    m, k = found.ids.shape
    rows = np.repeat(np.arange(m), k)
    ids, weights = found.ids.ravel(), found.weights.ravel()
    if found.beyond is not None:
        kept = ~np.repeat(found.beyond, k)
        rows, ids, weights = rows[kept], ids[kept], weights[kept]
    if backward:
        rows, ids, m, n = ids, rows, n, m
    keys, where = np.unique(rows * n + ids, return_inverse=True)
    total = np.bincount(where.ravel(), weights, len(keys))
    starts = np.searchsorted(keys, np.arange(m + 1) * n)
    return Rows(n, starts.tolist(), (keys % n).tolist(), total.tolist())


def _same(n: int) -> Rows:
    return Rows(n, list(range(n + 1)), list(range(n)), [1.0] * n)


def _steps(sizes: list[int], maps: dict[int, Rows]) -> list[tuple[list[int], list[int]]]:
    """Each call: its numbers between the addresses and `beyond`, and what follows.

    maps: axis in memory -> its weights. Two axes that follow each other share a call.
    """
    steps = []
    left = sorted(maps) or [len(sizes) - 1]
    while left:
        axis = left.pop(0)
        after = maps.get(axis, _same(sizes[axis]))
        first, end, before = axis, axis + 1, _same(1)
        if left and left[0] == axis + 1:
            before, after, end = after, maps[left.pop(0)], axis + 2
        outer, inner = prod(sizes[:first]), prod(sizes[end:])
        m1, m2 = len(before.starts) - 1, len(after.starts) - 1
        rows = before.at(HEAD)
        columns = after.at(HEAD + len(rows))
        numbers = [outer, before.n, m1, after.n, m2, inner]
        steps.append((numbers, [HEAD, HEAD + len(rows), *rows, *columns]))
        sizes = [*sizes[:first], *([m1] if end - first == 2 else []), m2, *sizes[end:]]
    return steps


register(Resize())
