"""Places counted: `arange`, and row by row `ragged_range` where its size is known."""

from __future__ import annotations

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

# Status 1: the reference tells what is wrong. Each thread finds where its rows begin by itself.
_SOURCE = """
def ragged_range(args):
    starts = load_int64(args, 0)
    lengths = load_int64(args, 1)
    low = load_int64(args, 2)
    high = load_int64(args, 3)
    out = load_int64(args, 4)
    rows = load_int64(args, 5)
    size = load_int64(args, 6)
    step = load_int64(args, 7)
    total = int64(0)
    for n in range(rows):
        count = int64(load_LENGTHS(lengths, n))
        if count < 0:
            return 1
        total += count
        first = int64(load_STARTS(starts, n))
        last = first + step * (count - 1)
        if count > 0 and low != 0:
            if min(first, last) < load_LOW(low, n):
                return 1
        if count > 0 and high != 0:
            if max(first, last) >= load_HIGH(high, n):
                return 1
    if total != size:
        return 1
    team = team_size()
    me = thread_id()
    at = int64(0)
    for n in range(rows):
        count = int64(load_LENGTHS(lengths, n))
        if min(at * team // size, team - 1) == me:
            first = int64(load_STARTS(starts, n))
            for k in range(count):
                independent()
                store_int64(out, at + k, first + step * k)
        at += count
    return 0
"""


class RaggedRange(Kernel):
    name = "numba:ragged_range"
    ops = ("ragged_range",)

    def accepts(self, op: Operator) -> None:
        if isinstance(op.attrs["size"], str):
            raise Declined("only the data tell its size")
        need(op, ("int64", "int32"))

    def bind(self, bound: BoundOp) -> Prepared:
        inputs = [*bound.inputs, None, None][:4]
        source = _SOURCE
        for name, array in zip(("STARTS", "LENGTHS", "LOW", "HIGH"), inputs, strict=True):
            source = source.replace(name, "int64" if array is None else array.dtype)
        starts, out = inputs[0], bound.outputs[0]
        assert starts is not None
        sizes = [starts.shape[0], out.shape[0], bound.attrs["step"]]
        moved = starts.nbytes * 2 + out.nbytes

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            given = [*ins, 0, 0][:4]
            table = [*given, *outs, *sizes]
            threads = bound.threads
            return [launch(self.name, source, "ragged_range", table, threads=threads, bytes=moved)]

        return Prepared(emit)


_ARANGE = """
def arange(args):
    out = load_int64(args, 0)
    size = load_int64(args, 1)
    start = load_int64(args, 2)
    step = load_int64(args, 3)
    for i in range(size * thread_id() // team_size(), size * (thread_id() + 1) // team_size()):
        independent()
        store_int64(out, i, start + i * step)
    return 0
"""


class Arange(Kernel):
    """Whole numbers."""

    name = "numba:arange"
    ops = ("arange",)

    def accepts(self, op: Operator) -> None:
        if op.outputs[0].dtype != "int64" or isinstance(op.attrs["start"], float):
            raise Declined("not int64")
        if not isinstance(op.attrs["step"], int):
            raise Declined("the step is no whole number")

    def bind(self, bound: BoundOp) -> Prepared:
        out, start, step = bound.outputs[0], bound.attrs["start"], bound.attrs["step"]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table, moved = [*outs, out.size, start, step], out.nbytes
            name, threads = self.name, bound.threads
            return [launch(name, _ARANGE, "arange", table, threads=threads, bytes=moved)]

        return Prepared(emit)


register(RaggedRange())
register(Arange())
