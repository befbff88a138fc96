"""Updates of an optimiser that can wait for each other become one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from noria.core.dims import symbols_of
from noria.core.dtypes import itemsize
from noria.ir.index import Index
from noria.ir.program import Operator, Program
from noria.ops.fused import UPDATES
from noria.ops.sweep import is_loop
from noria.passes.nested import enclosed
from noria.passes.report import Report, publish

NAME = "gather_updates"
SMALL = 64 << 10  # bytes of a tensor that is not worth a call of its own
WAITING = 256 << 10  # bytes of all tensors that may wait for each other
MOST = 32  # updates in one call: more save nothing, and a Program of thousands takes long to plan


def gather_updates(program: Program) -> Program:
    """Updates that become possible at the same moment are one `sweep`, as all are after clipping by
    the global norm. Those of small tensors wait for the next large one.

    A gradient is dropped when its update is done. So large ones that come one after the other stay
    apart: together they would keep all gradients until the end, for a fork of a microsecond each.

    Given:
        program p {
          input g: float32[4]
          input h: float32[3, 2]
          state a: float32[4] = fill(value=0.0)
          state b: float32[3, 2] = fill(value=0.0)
          state lr: float32[] = fill(value=0.1)
          sgd_update: float32[4] = sgd_update(a, g, lr)
          sgd_update_1: float32[3, 2] = sgd_update(b, h, lr)
          update a = sgd_update
          update b = sgd_update_1
        }
    Result:
        program p {
          input g: float32[4]
          input h: float32[3, 2]
          state a: float32[4] = fill(value=0.0)
          state b: float32[3, 2] = fill(value=0.0)
          state lr: float32[] = fill(value=0.1)
          sgd_update, sgd_update_1: float32[4], float32[3, 2] = sweep(a, g, lr, b, h) {
            body(a: float32[4], g: float32[4], lr: float32[], b: float32[3, 2], h: float32[3, 2]) {
              sgd_update: float32[4] = sgd_update(a, g, lr)
              sgd_update_1: float32[3, 2] = sgd_update(b, h, lr)
              return sgd_update, sgd_update_1
            }
          }
          update a = sgd_update
          update b = sgd_update_1
        }
    """
    report = Report(NAME)
    index = Index(program.block, program.roots())
    candidates = [op for op in program.operators if _is_update(op, index)]
    last: dict[Operator, Operator] = {}  # the last of a group -> its sweep
    gone: set[Operator] = set()
    for group in _groups(candidates, index):
        last[group[-1]] = enclosed(group, "sweep", NAME)
        gone.update(group)
        report.fired.append(f"{len(group)} updates at {group[-1].where()}")
    publish(report)
    if not last:
        return program
    out = program.copy()
    out.block.operators = [
        last.get(op, op) for op in program.operators if op not in gone or op in last
    ]
    return out


def _is_update(op: Operator, index: Index) -> bool:
    """Does it compute nothing but new values of state, of a known size?"""
    body = op.blocks["body"].operators if op.type == "fused" else [op]
    return (
        is_loop(op)
        and any(inner.type in UPDATES for inner in body)
        and not any(index.users[v] for v in op.outputs)
        and not any(symbols_of(v.shape) for v in (*op.operands, *op.outputs))
    )


def _groups(updates: Sequence[Operator], index: Index) -> Iterator[list[Operator]]:
    """Updates that are to be one call, each group in the order of the block."""
    moments: dict[int, list[Operator]] = {}
    for op in updates:
        made = [index.position[index.producer[v]] for v in op.operands if v in index.producer]
        moments.setdefault(max(made, default=-1), []).append(op)
    waiting: list[Operator] = []
    for moment in sorted(moments):
        waiting += moments[moment]
        if sum(map(_nbytes, waiting)) > WAITING or any(_nbytes(op) > SMALL for op in waiting):
            yield from _worthwhile(waiting, index)
            waiting = []
    yield from _worthwhile(waiting, index)


def _worthwhile(group: list[Operator], index: Index) -> list[list[Operator]]:
    """The group in parts that are not too long; one update alone is no group."""
    ordered = sorted(group, key=index.position.__getitem__)
    parts = [ordered[i : i + MOST] for i in range(0, len(ordered), MOST)]
    return [part for part in parts if len(part) > 1]


def _nbytes(op: Operator) -> int:
    """Of the tensor that is updated."""
    return max(
        prod(d for d in v.shape if isinstance(d, int)) * itemsize(v.dtype) for v in op.outputs
    )
