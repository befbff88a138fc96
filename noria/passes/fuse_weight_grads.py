"""Gradients by weights that share what comes back become one operator."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from noria.core.dtypes import itemsize
from noria.ir.index import Index
from noria.ir.program import Operator, Program, Value
from noria.passes.report import Report, publish

NAME = "fuse_weight_grads"
DTYPE = "float32"
OUTS, INS = 16, 64  # outputs and inputs of a weight, below which tiles of the product stay empty
MOST_BYTES = 8 << 20  # of all results: more do not stay in a cache from block to block of rows


def fuse_weight_grads(program: Program) -> Program:
    """Products of one gradient, transposed, and its sum over rows become one `weight_grads`, which
    reads and packs the gradient once. So it is with the two weights and the bias of a recurrent
    layer. Sums that a loop makes anyway are left to it.

    Given:
        program p {
          input g: float32[N, 16]
          input x: float32[N, 64]
          input h: float32[N, 80]
          matmul: float32[16, 64] = matmul(g, x, transpose_x=true)
          matmul_1: float32[16, 80] = matmul(g, h, transpose_x=true)
          reduce_sum: float32[16] = reduce_sum(g, axis=0)
          output x = matmul
          output h = matmul_1
          output b = reduce_sum
        }
    Result:
        program p {
          input g: float32[N, 16]
          input x: float32[N, 64]
          input h: float32[N, 80]
          matmul, matmul_1, reduce_sum: float32[16, 64], float32[16, 80], float32[16]
            = weight_grads(g, x, h, bias=true)
          output x = matmul
          output h = matmul_1
          output b = reduce_sum
        }
    """
    report = Report(NAME)
    index = Index(program.block, program.roots())
    made: dict[Operator, Operator] = {}  # what it comes in front of -> the operator of a group
    gone: set[Operator] = set()
    for group in _groups(program.operators):
        place = _place(group, program.operators, index)
        if place is None:
            report.declined.append((group[0].where(), "one is used before another can be made"))
            continue
        made[place] = _together(group)
        gone.update(group)
        report.fired.append(f"{group[-1].where()}: {len(group)} of {group[0].operands[0].name}")
    publish(report)
    if not gone:
        return program
    out = program.copy()
    out.block.operators = []
    for op in program.operators:
        if op in made:
            out.block.operators.append(made[op])
        if op not in gone:
            out.block.operators.append(op)
    return out


def _groups(operators: Sequence[Operator]) -> list[list[Operator]]:
    """Products that share their first operand, then its sum over rows."""
    products: dict[Value, list[Operator]] = {}
    sums: dict[Value, Operator] = {}
    for op in operators:
        if op.type == "matmul" and _is_weight_grad(op):
            products.setdefault(op.operands[0], []).append(op)
        elif op.type == "reduce_sum" and _is_sum_of_rows(op):
            sums.setdefault(op.operands[0], op)
    groups = [[*ops, *([sums[g]] if g in sums else [])] for g, ops in products.items()]
    return [g for g in groups if len(g) > 1 and sum(map(_nbytes, g)) <= MOST_BYTES]


def _is_weight_grad(op: Operator) -> bool:
    (out,) = op.outputs
    if any(v.ndim != 2 or v.dtype != DTYPE for v in (*op.operands, out)):
        return False
    if not op.attrs["transpose_x"] or op.attrs["transpose_y"]:
        return False
    sizes = [d for d in out.shape if isinstance(d, int)]
    return len(sizes) == 2 and sizes[0] >= OUTS and sizes[1] >= INS


def _nbytes(op: Operator) -> int:
    """Of the gradient by a weight or by a bias."""
    return prod(d for d in op.outputs[0].shape if isinstance(d, int)) * itemsize(DTYPE)


def _is_sum_of_rows(op: Operator) -> bool:
    axis = op.attrs["axis"]
    return op.operands[0].ndim == 2 and axis in (0, (0,), [0]) and not op.attrs["keepdims"]


def _place(
    group: Sequence[Operator], operators: Sequence[Operator], index: Index
) -> Operator | None:
    """The operator of the group, or user of one, that is the first when all operands are made; None
    if something is needed earlier."""
    made = [
        index.position[index.producer[v]]
        for op in group
        for v in op.operands
        if v in index.producer
    ]
    ready = max(made, default=-1)
    users = [index.position[u] for op in group for u in index.users[op.outputs[0]]]
    if min(users, default=len(operators)) <= ready:
        return None
    own = [index.position[op] for op in group]
    return operators[min(p for p in (*users, *own) if p > ready)]


def _together(group: Sequence[Operator]) -> Operator:
    products = [op for op in group if op.type == "matmul"]
    inputs = (group[0].operands[0], *(op.operands[1] for op in products))
    outputs = tuple(op.outputs[0] for op in group)
    attrs = {"bias": len(products) < len(group)}
    return Operator("weight_grads", inputs, outputs, attrs, {}, group[-1].source, NAME)
