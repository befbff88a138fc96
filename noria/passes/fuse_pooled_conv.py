"""A first convolution and the max-pooling behind it as one operator, in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.pooled_conv import pooled_conv2d
from noria.ops.window import per_axis
from noria.passes.fuse_taken import SEEN
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_pooled_conv"
ELEMENTS = 9  # of a window at most: their sums are in registers
_KINDS = ("conv2d", "fused_conv2d")
_OF_CONV = ("stride", "padding")


def fuse_pooled_conv(program: Program) -> Program:
    """max_pool2d_places of a convolution whose output nothing else needs, and whose elements see
    few numbers, becomes `pooled_conv2d`: what is pooled, the largest value of such a network, is
    never in memory.

    Given:
        program p {
          input x: float32[N, 1, 6, 6]
          state w: float32[8, 1, 3, 3] = fill(value=0.0) trainable
          c: float32[N, 8, 4, 4] = conv2d(x, w)
          y, places: float32[N, 8, 2, 2], uint8[N, 8, 2, 2] = max_pool2d_places(c, kernel=2)
          output y = y
          output places = places
        }
    Result:
        program p {
          input x: float32[N, 1, 6, 6]
          state w: float32[8, 1, 3, 3] = fill(value=0.0) trainable
          y, places: float32[N, 8, 2, 2], uint8[N, 8, 2, 2] = pooled_conv2d(x, w, pool_kernel=2)
          output y = y
          output places = places
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
        conv = index.producer.get(op.operands[0]) if op.type == "max_pool2d_places" else None
        if conv is None or conv.type not in _KINDS:
            continue
        reason = _refusal(op, conv, index)
        if reason is None:
            report.fired.append(op.where())
            new |= {conv: None, op: _pooled(op, conv)}
        else:
            report.declined.append((op.where(), reason))
    replaced = [new.get(op, op) for op in operators]
    return [op for op in replaced if op is not None]


def _inner(block: Block, report: Report) -> Block:
    operators = _fused(block, block.outputs, report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _refusal(op: Operator, conv: Operator, index: Index) -> str | None:
    if index.use_count(conv.outputs[0]) > 1:
        return "what is pooled is used elsewhere"
    if {v.dtype for v in (*conv.operands, conv.outputs[0])} != {"float32"}:
        return "not all is float32"
    if conv.inputs[3:] not in ((), (None,)):
        return "the convolution has a residual"
    if conv.attrs.get("activation") not in (None, "relu"):
        return f"{conv.attrs['activation']} is no bound from below"
    dilated = {*per_axis(conv.attrs["dilation"], 2, ""), *per_axis(op.attrs["dilation"], 2, "")}
    if dilated != {1} or conv.attrs["groups"] != 1:
        return "dilated or grouped"
    numbers = conv.operands[1].shape[1:]
    if not all(isinstance(n, int) for n in numbers) or prod(map(int, numbers)) > SEEN:
        return f"its elements see more than {SEEN} numbers"
    return _refused_windows(op)


def _refused_windows(op: Operator) -> str | None:
    kernel, stride = op.attrs["kernel"], op.attrs["stride"]
    size = per_axis(kernel, 2, "")
    step = per_axis(kernel if stride is None else stride, 2, "")
    if any(s < k for s, k in zip(step, size, strict=True)):
        return "windows overlap"
    if prod(size) > ELEMENTS:
        return f"windows of more than {ELEMENTS} elements"
    inside = op.attrs["padding"] in (0, (0, 0), (0, 0, 0, 0), "valid")
    return None if inside and not op.attrs["ceil_mode"] else "windows reach over the border"


def _pooled(op: Operator, conv: Operator) -> Operator:
    attrs = {name: conv.attrs[name] for name in _OF_CONV}
    attrs["activation"] = conv.attrs.get("activation")
    attrs |= {f"pool_{name}": op.attrs[name] for name in ("kernel", "stride")}
    inputs = conv.inputs[:3]
    attrs = pooled_conv2d.bind_attrs(attrs)
    return replace(op, type=pooled_conv2d.name, inputs=inputs, attrs=attrs, made_by=NAME)
