"""Ops over the rows of a ragged batch: reduced, expanded, shifted, their ends taken and placed.

A thread works on the rows that begin in its part of the packed steps. What is only moved is moved
as bytes, so any dtype is.
"""

from __future__ import annotations

import struct
from functools import cache
from math import prod

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.texts import CHECK_SPLITS, reading
from noria.kernels.registry import BoundOp, Kernel, Prepared, register

SPLITS = ("int64", "int32")

# Wrong splits fail the row (status 1), and the reference then tells what is wrong with them. An
# empty row behind the last step belongs to the last thread. DO works on row n, from step `begin` to
# before step `end`.
_ROWS = """
def sequence(args):
KNOWN
    team = team_size()
    me = thread_id()
    for n in range(rows):
        begin = int64(load_SPLITS(splits, n))
        end = int64(load_SPLITS(splits, n + 1))
        if min(begin * team // total, team - 1) == me:
DO
    return 0
"""

_SUM = """
            to = out + n * nbytes
            fill_bytes(to, 0, nbytes)
            for p in range(begin, end):
                row = x + p * nbytes
                for c in range(width):
                    independent()
                    store_float32(to, c, load_float32(to, c) + load_float32(row, c))
"""
_MAX = """
            to = out + n * nbytes
            if end > begin:
                copy_bytes(to, x + begin * nbytes, nbytes)
            else:
                for c in range(width):
                    independent()
                    store_float32(to, c, EMPTY)
            for p in range(begin + 1, end):
                row = x + p * nbytes
                for c in range(width):
                    independent()
                    store_float32(to, c, maximum(load_float32(to, c), load_float32(row, c)))
"""
# Each thread has a row of scratch memory for counts.
_MAX_GRAD = """
            top = largest + n * nbytes
            share = scratch + me * nbytes
            slope = grad + n * nbytes
            fill_bytes(share, 0, nbytes)
            for p in range(begin, end):
                row = x + p * nbytes
                for c in range(width):
                    independent()
                    same = where(load_float32(row, c) == load_float32(top, c), ONE, ZERO)
                    store_float32(share, c, load_float32(share, c) + same)
            for c in range(width):
                independent()
                store_float32(share, c, load_float32(slope, c) / max(load_float32(share, c), ONE))
            for p in range(begin, end):
                row = x + p * nbytes
                to = out + p * nbytes
                for c in range(width):
                    independent()
                    same = where(load_float32(row, c) == load_float32(top, c), ONE, ZERO)
                    store_float32(to, c, same * load_float32(share, c))
"""
_IDS = """
            for p in range(begin, end):
                store_int64(out, p, int64(n))
"""
_EXPAND = """
            for p in range(begin, end):
                copy_bytes(out + p * nbytes, x + n * nbytes, nbytes)
"""
_END = """
            if end > begin:
                place = end - 1
                if turned != 0:
                    place = begin
                copy_bytes(out + n * nbytes, x + place * nbytes, nbytes)
            elif empty != 0:
                copy_bytes(out + n * nbytes, empty + n * nbytes, nbytes)
            else:
                fill_bytes(out + n * nbytes, 0, nbytes)
"""
_PLACE = """
            fill_bytes(out + begin * nbytes, 0, (end - begin) * nbytes)
            if end > begin:
                place = end - 1
                if turned != 0:
                    place = begin
                copy_bytes(out + place * nbytes, x + n * nbytes, nbytes)
"""
_SHIFT = """
            if end > begin:
                edge = begin
                source = begin
                to = begin + 1
                if turned != 0:
                    edge = end - 1
                    source = begin + 1
                    to = begin
                moved = (end - begin - 1) * nbytes
                copy_bytes(out + to * nbytes, x + source * nbytes, moved)
                if start != 0:
                    copy_bytes(out + edge * nbytes, start + n * nbytes, nbytes)
                else:
                    fill_bytes(out + edge * nbytes, 0, nbytes)
"""


NUMBERS = ("scratch", "out", "rows", "total", "width", "nbytes", "turned")


class _Rows(Kernel):
    """Binds an op of ragged rows.

    inputs: names in the kernel; does: what is done with a row; cost: operations an element
    floats: positions of inputs that must be float32; turned: an attribute; counts: whether a thread
    needs a row of scratch memory
    """

    inputs: tuple[str, ...] = ("x", "splits")
    does = ""
    cost = 0
    floats: tuple[int, ...] = ()
    turned = ""
    counts = False
    in_place: tuple[tuple[int, int], ...] = ()

    def accepts(self, op: Operator) -> None:
        need(op, SPLITS, (self.inputs.index("splits"),))
        need(op, ("float32",), self.floats)

    def bind(self, bound: BoundOp) -> Prepared:
        splits, out, x = (
            bound.inputs[self.inputs.index("splits")],
            bound.outputs[0],
            bound.inputs[0],
        )
        assert splits is not None and x is not None
        steps = out if "total" in bound.attrs else x
        width, turned = prod(steps.shape[1:]), bool(self.turned and bound.attrs[self.turned])
        nbytes = width * itemsize(steps.dtype)
        end = [splits.shape[0] - 1, steps.shape[0], width, nbytes, int(turned)]
        source, team = bound.note("source", self.source, bound, splits.dtype), bound.threads
        moved, work = x.nbytes + out.nbytes, self.cost * steps.size

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            given = ins + [0] * (len(self.inputs) - len(ins))
            table = [*given, scratch, *outs, *end]
            row = launch(self.name, source, "sequence", table, threads=team, bytes=moved, ops=work)
            return [row]

        scratch_bytes = team * nbytes if self.counts else 0
        return Prepared(emit, scratch_bytes, [], self.in_place, work)

    def source(self, bound: BoundOp, splits: str) -> str:
        return _text(self.inputs, self.does, splits)


@cache
def _text(inputs: tuple[str, ...], does: str, splits: str) -> str:
    known = reading(*inputs, *NUMBERS) + CHECK_SPLITS
    text = _ROWS.replace("KNOWN", known).replace("DO", does.strip("\n"))
    text = text.replace("ONE", "float32(1)").replace("ZERO", "float32(0)")
    return text.replace("SPLITS", splits)


class SequenceSum(_Rows):
    name = "numba:sequence_sum"
    ops = ("sequence_sum",)
    does, cost, floats = _SUM, 1, (0,)


class SequenceMax(_Rows):
    name = "numba:sequence_max"
    ops = ("sequence_max",)
    does, cost, floats = _MAX, 1, (0,)

    def source(self, bound: BoundOp, splits: str) -> str:
        (bits,) = struct.unpack("<i", struct.pack("<f", bound.attrs["empty"]))
        return super().source(bound, splits).replace("EMPTY", f"from_bits(int32({bits}))")


class SequenceMaxGrad(_Rows):
    name = "numba:sequence_max_grad"
    ops = ("sequence_max_grad",)
    inputs = ("x", "largest", "splits", "grad")
    does, cost, floats, in_place = _MAX_GRAD, 4, (0, 1, 3), ((0, 0),)
    counts = True


class SequenceIds(_Rows):
    name = "numba:sequence_ids"
    ops = ("sequence_ids",)
    inputs = ("splits",)
    does = _IDS


class SequenceExpand(_Rows):
    name = "numba:sequence_expand"
    ops = ("sequence_expand",)
    does = _EXPAND


class SequenceEnd(_Rows):
    name = "numba:sequence_end"
    ops = ("sequence_end",)
    inputs = ("x", "splits", "empty")
    does, turned = _END, "first"


class SequencePlace(_Rows):
    name = "numba:sequence_place"
    ops = ("sequence_place",)
    does, turned = _PLACE, "first"


class SequenceShift(_Rows):
    name = "numba:sequence_shift"
    ops = ("sequence_shift",)
    inputs = ("x", "splits", "start")
    does, turned = _SHIFT, "reverse"


for _kernel in (
    SequenceSum(),
    SequenceMax(),
    SequenceMaxGrad(),
    SequenceIds(),
    SequenceExpand(),
    SequenceEnd(),
    SequencePlace(),
    SequenceShift(),
):
    register(_kernel)
