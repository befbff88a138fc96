"""Loops that do not depend on each other, dealt to one team in one call.

Each thread does its share of every loop: no thread waits for another before all are done, so many
small tensors cost one fork, and the last large one is shared like the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.elementwise import Elementwise, Fused
from noria.kernels.numba.parallel import parallel
from noria.kernels.registry import (
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

_SWEEP = """
def sweep(args):
    for i in range(load_int64(args, 0)):
        status = call1(load_int64(args, 2 * i + 1), load_int64(args, 2 * i + 2))
        if status & 0xFFFFFFFF:
            return status
    return 0
"""


_ONE, _FUSED = Elementwise(), Fused()


def kernel_of(inner: Operator) -> Kernel:
    """The kernel of an operator of a sweep. Raises Declined if it is no loop."""
    kernel: Kernel = _FUSED if inner.type == "fused" else _ONE
    if inner.type not in kernel.ops:
        raise Declined(f"'{inner.type}' is no loop")
    return kernel


class Sweep(Kernel):
    """All operators of a `sweep`."""

    name = "numba:sweep"
    ops = ("sweep",)

    def accepts(self, op: Operator) -> None:
        for inner in op.blocks["body"].operators:
            kernel_of(inner).accepts(inner)

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        body = op.blocks["body"]
        wanted: dict[Value, str | None] = dict.fromkeys(body.inputs)
        for inner in body.operators:
            plain: list[str | None] = [None if v is None else PLAIN for v in inner.inputs]
            asked, _ = kernel_of(inner).layout(inner, plain)
            wanted.update(
                (v, a)
                for v, a in zip(inner.inputs, asked, strict=True)
                if v is not None and a is not None
            )
        return [wanted[v] for v in body.inputs], [PLAIN] * len(op.outputs)

    def bind(self, bound: BoundOp) -> Prepared:
        body = bound.op.blocks["body"]
        arrays = dict(zip(body.inputs, bound.inputs, strict=True))
        arrays.update(zip(body.outputs, bound.outputs, strict=True))
        parts = [(inner, self._part(inner, arrays)) for inner in body.operators]
        return _together(self.name, bound, parts)

    def _part(self, inner: Operator, arrays: Mapping[Value, Array | None]) -> Prepared:
        ins = [None if v is None else arrays[v] for v in inner.inputs]
        outs = [a for v in inner.outputs if (a := arrays[v]) is not None]
        one = BoundOp(inner, inner.attrs, ins, outs, 1, [False] * len(ins))
        return kernel_of(inner).bind(one)


def _together(name: str, bound: BoundOp, parts: Sequence[tuple[Operator, Prepared]]) -> Prepared:
    body = bound.op.blocks["body"]
    at = {v: i for i, v in enumerate(body.inputs)}
    made = {v: o for o, v in enumerate(body.outputs)}
    moved = sum(a.nbytes for a in (*bound.inputs, *bound.outputs) if a is not None)
    work = sum(prepared.work for _, prepared in parts)
    in_place = [
        (made[op.outputs[o]], at[source])
        for op, prepared in parts
        for o, i in prepared.in_place
        if (source := op.inputs[i]) is not None
    ]

    def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
        calls: list[Call] = []
        for op, prepared in parts:
            mine = [0 if v is None else ins[at[v]] for v in op.inputs]
            calls += prepared.emit(mine, [outs[made[v]] for v in op.outputs], [], 0)
        rows = [number for call in calls for number in (call.fn, call.args[0])]
        address, table = table_of([len(calls), *rows])
        function = jit.compile_source(_SWEEP, "sweep")
        call = Call(name, function.address, (address, 0, 0, 0), (table, function, calls))
        return [call if bound.threads == 1 else parallel(call, bytes=moved, ops=int(work))]

    return Prepared(emit, in_place=in_place, work=work)


register(Sweep())
