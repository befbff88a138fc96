"""A first convolution's gradient, from what its max-pooling took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.taken import POOL, taken_weight_grad
from noria.ops.window import per_axis
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_taken"
SEEN = 96  # numbers an element of the convolution sees: with more, dense products are as fast
APART = 4  # elements for each window: with fewer, most of what is pooled has a gradient
_BY_WEIGHT = ("kernel", "stride", "padding")


def fuse_taken(program: Program) -> Program:
    """conv2d_weight_grad of a max_pool2d_spread that nothing else needs, as behind the first layer
    of a network, becomes `taken_weight_grad`: it multiplies what windows took and nothing else.

    Given:
        program p {
          input x: float32[N, 1, 6, 6]
          input g: float32[N, 8, 2, 2]
          input places: uint8[N, 8, 2, 2]
          s: float32[N, 8, 4, 4] = max_pool2d_spread(g, places, sizes=(4, 4), kernel=2)
          gw: float32[8, 1, 3, 3] = conv2d_weight_grad(x, s, kernel=(3, 3))
          output gw = gw
        }
    Result:
        program p {
          input x: float32[N, 1, 6, 6]
          input g: float32[N, 8, 2, 2]
          input places: uint8[N, 8, 2, 2]
          gw: float32[8, 1, 3, 3] = taken_weight_grad(x, g, places, kernel=(3, 3), pool_kernel=2)
          output gw = gw
        }
    """
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
        spread = _spread(op, index)
        if spread is None:
            continue
        reason = _refusal(op, spread, index)
        if reason is None:
            report.fired.append(op.where())
            new |= {spread: None, op: _taken(op, spread)}
        else:
            report.declined.append((op.where(), reason))
    replaced = [new.get(op, op) for op in operators]
    return [op for op in replaced if op is not None]


def _inner(block: Block, report: Report) -> Block:
    operators = _fused(block, block.outputs, report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _spread(op: Operator, index: Index) -> Operator | None:
    """What makes the gradient that a gradient by the weight takes, if that is pooled."""
    if op.type != "conv2d_weight_grad":
        return None
    maker = index.producer.get(op.operands[1])
    return maker if maker is not None and maker.type == "max_pool2d_spread" else None


def _refusal(op: Operator, spread: Operator, index: Index) -> str | None:
    x, grad = op.operands
    if index.use_count(grad) > 1:
        return "the spread gradient is used elsewhere"
    if {v.dtype for v in (x, grad, op.outputs[0])} != {"float32"}:
        return "not all is float32"
    dilated = {*per_axis(op.attrs["dilation"], 2, ""), *per_axis(spread.attrs["dilation"], 2, "")}
    if dilated != {1} or op.attrs["groups"] != 1:
        return "dilated or grouped"
    channels, kernel = x.shape[1], per_axis(op.attrs["kernel"], 2, "")
    if not isinstance(channels, int) or channels * prod(kernel) > SEEN:
        return f"its elements see more than {SEEN} numbers"
    stride = spread.attrs["stride"]
    step = per_axis(spread.attrs["kernel"] if stride is None else stride, 2, "")
    return None if prod(step) >= APART else "windows lie close together"


def _taken(op: Operator, spread: Operator) -> Operator:
    attrs = {name: op.attrs[name] for name in _BY_WEIGHT}
    attrs |= {name: spread.attrs[name.removeprefix("pool_")] for name in POOL}
    attrs = taken_weight_grad.bind_attrs(attrs)
    inputs = (op.operands[0], *spread.operands)
    return replace(op, type=taken_weight_grad.name, inputs=inputs, attrs=attrs, made_by=NAME)
