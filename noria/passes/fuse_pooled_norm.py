"""Batch norm in training, its ReLU and the max-pooling behind it as one operator, and likewise the
gradients of both: what is pooled, the largest value of a residual network, and its gradient are
never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.pooled_norm import pooled_batch_norm, pooled_batch_norm_grad, pooling_of
from noria.ops.window import per_axis
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_pooled_norm"
TAPS, APART = 49, 16  # of a window, elements from one to the next: kernels have a line for each


def fuse_pooled_norm(program: Program) -> Program:
    """max_pool2d_places of a batch_norm_relu whose output nothing else needs becomes
    `pooled_batch_norm`, and batch_norm_grad of a gradient that max_pool2d_spread makes for it alone
    `pooled_batch_norm_grad`.

    Given:
        program p {
          input x: float32[N, 8, 6, 6]
          input g: float32[N, 8, 3, 3]
          state scale: float32[8] = fill(value=1.0) trainable
          state bias: float32[8] = fill(value=0.0) trainable
          state mean: float32[8] = fill(value=0.0)
          state var: float32[8] = fill(value=1.0)
          r, m, s, m2, v2: float32[N, 8, 6, 6], float32[8], float32[8], float32[8], float32[8] = batch_norm_relu(x, scale, bias, mean, var, _)
          y, p: float32[N, 8, 3, 3], uint8[N, 8, 3, 3] = max_pool2d_places(r, kernel=3, stride=2, padding=1)
          gr: float32[N, 8, 6, 6] = max_pool2d_spread(g, p, sizes=(6, 6), kernel=3, stride=2, padding=1)
          gx, gs, gb: float32[N, 8, 6, 6], float32[8], float32[8] = batch_norm_grad(x, scale, m, s, gr)
          output y = y
          output gx = gx
          output gs = gs
          output gb = gb
          update mean = m2
          update var = v2
        }
    Result:
        program p {
          input x: float32[N, 8, 6, 6]
          input g: float32[N, 8, 3, 3]
          state scale: float32[8] = fill(value=1.0) trainable
          state bias: float32[8] = fill(value=0.0) trainable
          state mean: float32[8] = fill(value=0.0)
          state var: float32[8] = fill(value=1.0)
          y, m, s, m2, v2, p: float32[N, 8, 3, 3], float32[8], float32[8], float32[8], float32[8], uint8[N, 8, 3, 3] = pooled_batch_norm(x, scale, bias, mean, var, kernel=3, stride=2, padding=1)
          gx, gs, gb: float32[N, 8, 6, 6], float32[8], float32[8] = pooled_batch_norm_grad(x, scale, m, s, g, p, kernel=3, stride=2, padding=1)
          output y = y
          output gx = gx
          output gs = gs
          output gb = gb
          update mean = m2
          update var = v2
        }
    """  # noqa: E501
    report = Report(NAME)
    out = program.copy()
    out.block.operators = _fused(program.block, program.roots(), report)
    publish(report)
    return out


def _fused(block: Block, roots: Sequence[Value], report: Report) -> list[Operator]:
    operators = [map_blocks(op, lambda inner: _inner(inner, report)) for op in block.operators]
    index = Index(Block(block.inputs, operators), roots)
    new: dict[Operator, Operator | None] = {}
    for op in operators:
        kind = _KINDS.get(op.type)
        before = kind and index.producer.get(op.operands[kind.value])
        if kind is None or before is None or before.type != kind.before:
            continue
        reason = _refusal(op, before, index)
        if reason is None:
            report.fired.append(op.where())
            new |= {before: None, op: kind.made(op, before)}
        else:
            report.declined.append((op.where(), reason))
    replaced = [new.get(op, op) for op in operators]
    return [op for op in replaced if op is not None]


def _inner(block: Block, report: Report) -> Block:
    operators = _fused(block, block.outputs, report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _refusal(op: Operator, before: Operator, index: Index) -> str | None:
    if index.use_count(before.outputs[0]) > 1:
        return "what is between is used elsewhere"
    place = index.position
    later = [u for v in before.outputs[1:] for u in index.users[v]]
    if any(place[u] < place[op] for u in later):
        return "the statistics are used before the pooling"
    norm = op if op.type == "batch_norm_grad" else before
    if {v.dtype for v in norm.operands if v.ndim == 4} not in ({"float32"}, {"bfloat16"}):
        return f"of {norm.operands[0].dtype}"
    if norm.attrs["axis"] % 4 != 1:
        return "channels are not axis 1"
    if norm is before and (norm.attrs["mask"] or any(v is not None for v in norm.inputs[5:])):
        return "a residual or a mask"
    return _refused_windows(before if norm is op else op)


def _refused_windows(pool: Operator) -> str | None:
    kernel, stride = pool.attrs["kernel"], pool.attrs["stride"]
    taps = prod(per_axis(kernel, 2, ""))
    apart = prod(per_axis(kernel if stride is None else stride, 2, ""))
    return "large windows, or far apart" if taps > TAPS or apart > APART else None


def _pooled(op: Operator, norm: Operator) -> Operator:
    attrs = {name: norm.attrs[name] for name in ("momentum", "epsilon")}
    attrs = pooled_batch_norm.bind_attrs({**attrs, **pooling_of(op.attrs)})
    out, places = op.outputs
    outputs = (out, *norm.outputs[1:], places)
    made = replace(op, type=pooled_batch_norm.name, inputs=norm.inputs[:5], outputs=outputs)
    return replace(made, attrs=attrs, made_by=NAME)


def _spread(op: Operator, spread: Operator) -> Operator:
    attrs = pooled_batch_norm_grad.bind_attrs(pooling_of(spread.attrs))
    inputs = (*op.inputs[:4], *spread.inputs)
    name = pooled_batch_norm_grad.name
    return replace(op, type=name, inputs=inputs, attrs=attrs, made_by=NAME)


class _Kind(NamedTuple):
    """An anchor: which operand must come from an operator of what type, and what both become."""

    value: int
    before: str
    made: Callable[[Operator, Operator], Operator]


_KINDS = {
    "max_pool2d_places": _Kind(0, "batch_norm_relu", _pooled),
    "batch_norm_grad": _Kind(4, "max_pool2d_spread", _spread),
}
