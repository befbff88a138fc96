"""Gradients of a convolution, from what its max-pooling took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.taken import POOL, taken_input_grad, taken_weight_grad
from noria.ops.window import per_axis
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_taken"
SEEN = 96  # numbers an element of the convolution sees: with more, dense products are as fast
PATCH, TAPS = 512, 16  # unless it has so many taps: then so many numbers
APART = 4  # elements for each window: with fewer, most of what is pooled has a gradient
_BY_INPUT = ("sizes", "stride", "padding")
_BY_WEIGHT = ("kernel", "stride", "padding")


def fuse_taken(program: Program) -> Program:
    """conv2d_weight_grad of a max_pool2d_spread that nothing else needs, as behind the first layer
    of a network, becomes `taken_weight_grad`: it multiplies what windows took and nothing else.
    So does conv2d_input_grad where taps are many and channels few: `taken_input_grad`.

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
    spreads: list[Operator] = []
    for kind, (refusal, taken) in _KINDS.items():
        for op in operators:
            spread = _spread(op, kind, index)
            if spread is None:
                continue
            reason = refusal(op, spread, _left(spread, index, new))
            if reason is None:
                report.fired.append(op.where())
                new[op] = taken(op, spread)
                spreads.append(spread)
            else:
                report.declined.append((op.where(), reason))
    new |= {spread: None for spread in spreads if _left(spread, index, new) == 0}
    replaced = [new.get(op, op) for op in operators]
    return [op for op in replaced if op is not None]


def _inner(block: Block, report: Report) -> Block:
    operators = _fused(block, block.outputs, report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _spread(op: Operator, kind: str, index: Index) -> Operator | None:
    """What makes the gradient that an operator of this kind takes, if that is pooled."""
    if op.type != kind:
        return None
    maker = index.producer.get(op.operands[_GRADIENT[kind]])
    return maker if maker is not None and maker.type == "max_pool2d_spread" else None


def _left(spread: Operator, index: Index, new: Mapping[Operator, Operator | None]) -> int:
    """How often the spread gradient is used by what is not replaced."""
    (out,) = spread.outputs
    return index.use_count(out) - sum(user in new for user in index.users[out])


def _refusal(op: Operator, spread: Operator) -> str | None:
    if {v.dtype for v in (*op.operands, *op.outputs)} != {"float32"}:
        return "not all is float32"
    dilated = {*per_axis(op.attrs["dilation"], 2, ""), *per_axis(spread.attrs["dilation"], 2, "")}
    if dilated != {1} or op.attrs["groups"] != 1:
        return "dilated or grouped"
    stride = spread.attrs["stride"]
    step = per_axis(spread.attrs["kernel"] if stride is None else stride, 2, "")
    return None if prod(step) >= APART else "windows lie close together"


def _refused_weight(op: Operator, spread: Operator, left: int) -> str | None:
    if left > 1:
        return "the spread gradient is used elsewhere"
    channels, taps = op.operands[0].shape[1], prod(per_axis(op.attrs["kernel"], 2, ""))
    most = SEEN if taps < TAPS else PATCH
    if not isinstance(channels, int) or channels * taps > most:
        return f"its elements see more than {most} numbers"
    return _refusal(op, spread)


def _taken_weight(op: Operator, spread: Operator) -> Operator:
    attrs = {name: op.attrs[name] for name in _BY_WEIGHT}
    attrs |= {name: spread.attrs[name.removeprefix("pool_")] for name in POOL}
    attrs = taken_weight_grad.bind_attrs(attrs)
    inputs = (op.operands[0], *spread.operands)
    return replace(op, type=taken_weight_grad.name, inputs=inputs, attrs=attrs, made_by=NAME)


def _refused_input(op: Operator, spread: Operator, left: int) -> str | None:
    numbers = op.operands[1].shape[1:]
    if not all(isinstance(n, int) for n in numbers) or prod(map(int, numbers)) > PATCH:
        return f"its elements see more than {PATCH} numbers"
    if prod(map(int, numbers[1:])) < TAPS:
        return f"fewer than {TAPS} taps"
    if spread.attrs["padding"] not in (0, (0, 0), (0, 0, 0, 0), "valid"):
        return "windows reach over the border"
    return "windows reach over the border" if spread.attrs["ceil_mode"] else _refusal(op, spread)


def _taken_input(op: Operator, spread: Operator) -> Operator:
    attrs = {name: op.attrs[name] for name in _BY_INPUT}
    attrs |= {f"pool_{name}": spread.attrs[name] for name in ("kernel", "stride")}
    attrs = taken_input_grad.bind_attrs(attrs)
    inputs = (*spread.operands, op.operands[1])
    return replace(op, type=taken_input_grad.name, inputs=inputs, attrs=attrs, made_by=NAME)


_GRADIENT = {"conv2d_input_grad": 0, "conv2d_weight_grad": 1}  # which operand it is
_KINDS = {
    "conv2d_input_grad": (_refused_input, _taken_input),
    "conv2d_weight_grad": (_refused_weight, _taken_weight),
}
