"""Softmax, log-softmax and softmax cross entropy along the last axis: one row at a time, three
short passes over a row that stays in the first cache."""

from __future__ import annotations

from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Prepared, register

_SPLIT = """
    team = team_size()
    first = rows * thread_id() // team
    last = rows * (thread_id() + 1) // team
"""

# Maximum of a row and the sum of exp(x - maximum), into `top` and `total`. NaN ends up in both.
_STATISTICS = """
        at = row * width
        top = load_float32(x, at)
        for i in range(width):
            top = maximum(top, load_float32(x, at + i))
        total = float32(0)
        for i in range(width):
            total += exp(load_float32(x, at + i) - top)
"""

_SOFTMAX = f"""
def softmax(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    rows = load_int64(args, 2)
    width = load_int64(args, 3){_SPLIT}
    for row in range(first, last):{_STATISTICS}
        scale = float32(1) / total
        for i in range(width):
            independent()
            store_float32(out, at + i, exp(load_float32(x, at + i) - top) * scale)
    return 0
"""

_LOG_SOFTMAX = f"""
def log_softmax(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    rows = load_int64(args, 2)
    width = load_int64(args, 3){_SPLIT}
    for row in range(first, last):{_STATISTICS}
        shift = log(total)
        for i in range(width):
            independent()
            store_float32(out, at + i, load_float32(x, at + i) - top - shift)
    return 0
"""

# A label that is no class fails the row (status 1), as the reference raises.
_CROSS_ENTROPY = f"""
def cross_entropy(args):
    x = load_int64(args, 0)
    labels = load_int64(args, 1)
    loss = load_int64(args, 2)
    out = load_int64(args, 3)
    rows = load_int64(args, 4)
    width = load_int64(args, 5)
    ignored = load_int64(args, 6)
    has_ignored = load_int64(args, 7){_SPLIT}
    for row in range(first, last):{_STATISTICS}
        shift = log(total)
        for i in range(width):
            independent()
            store_float32(out, at + i, load_float32(x, at + i) - top - shift)
        label = load_LABEL(labels, row)
        if has_ignored != 0 and label == ignored:
            store_float32(loss, row, float32(0))
        else:
            if label < 0 or label >= width:
                return 1
            store_float32(loss, row, -load_float32(out, at + label))
    return 0
"""

_CROSS_ENTROPY_GRAD = f"""
def cross_entropy_grad(args):
    log_prob = load_int64(args, 0)
    labels = load_int64(args, 1)
    g = load_int64(args, 2)
    out = load_int64(args, 3)
    rows = load_int64(args, 4)
    width = load_int64(args, 5)
    ignored = load_int64(args, 6)
    has_ignored = load_int64(args, 7){_SPLIT}
    for row in range(first, last):
        at = row * width
        scale = load_float32(g, row)
        label = load_LABEL(labels, row)
        if has_ignored != 0 and label == ignored:
            for i in range(width):
                independent()
                store_float32(out, at + i, float32(0))
        else:
            if label < 0 or label >= width:
                return 1
            for i in range(width):
                independent()
                store_float32(out, at + i, exp(load_float32(log_prob, at + i)) * scale)
            store_float32(out, at + label, load_float32(out, at + label) - scale)
    return 0
"""


def _last_axis(op: Operator) -> None:
    v = op.operands[0]
    if op.attrs["axis"] not in (-1, v.ndim - 1):
        raise Declined("the axis is not the last one")


def _rows(a: Array) -> tuple[int, int]:
    return prod(a.shape[:-1]), a.shape[-1]


def _work(size: int) -> dict[str, int]:
    """What a kernel of so many elements moves and computes."""
    return {"bytes": 8 * size, "ops": 40 * size}


class Softmax(Kernel):
    name = "numba:softmax"
    ops = ("softmax", "log_softmax")

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        _last_axis(op)

    def bind(self, bound: BoundOp) -> Prepared:
        rows, width = _rows(bound.outputs[0])
        entry = bound.op.type
        source = _SOFTMAX if entry == "softmax" else _LOG_SOFTMAX
        work = _work(rows * width)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [ins[0], outs[0], rows, width]
            return [launch(self.name, source, entry, table, threads=bound.threads, **work)]

        return Prepared(emit, in_place=((0, 0),))


class CrossEntropy(Kernel):
    """Hard labels, no smoothing; the rest is the reference's."""

    name = "numba:cross_entropy"
    ops = ("softmax_cross_entropy", "softmax_cross_entropy_grad")

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, 2))
        need(op, ("int64", "int32"), (1,))
        _last_axis(op)
        if op.attrs["soft"] or op.attrs["label_smoothing"]:
            raise Declined("soft labels")

    def bind(self, bound: BoundOp) -> Prepared:
        x, labels = bound.inputs[:2]
        assert x is not None and labels is not None
        rows, width = _rows(x)
        ignored = bound.attrs["ignore_index"]
        end = [rows, width, ignored or 0, int(ignored is not None)]
        backward = bound.op.type.endswith("grad")
        entry = "cross_entropy_grad" if backward else "cross_entropy"
        source = _CROSS_ENTROPY_GRAD if backward else _CROSS_ENTROPY
        source = bound.note("source", source.replace, "LABEL", labels.dtype)
        work = _work(rows * width)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, *end]
            return [launch(self.name, source, entry, table, threads=bound.threads, **work)]

        return Prepared(emit, in_place=((0, 0),) if backward else ())


register(Softmax())
register(CrossEntropy())
