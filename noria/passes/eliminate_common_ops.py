"""What is computed twice is computed once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from noria.ir.literals import digest
from noria.ir.program import Block, Operator, Program, Value
from noria.passes.nested import effects, map_blocks
from noria.passes.report import Report, publish


def eliminate_common_ops(program: Program) -> Program:
    """Of pure operators with the same type, inputs, attributes and blocks, the first one serves.

    Random and ordered operators are never merged.

    Given:
        program p {
          input x: float32[N, 3]
          exp: float32[N, 3] = exp(x)
          exp_1: float32[N, 3] = exp(x)
          mul: float32[N, 3] = mul(exp, exp_1)
          output y = mul
        }
    Result:
        program p {
          input x: float32[N, 3]
          exp: float32[N, 3] = exp(x)
          mul: float32[N, 3] = mul(exp, exp)
          output y = mul
        }
    """
    report = Report("eliminate_common_ops")
    operators, replaced = _merged(program.block, report)
    publish(report)
    return program.replaced(operators, replaced)


def _merged(block: Block, report: Report) -> tuple[list[Operator], dict[Value, Value]]:
    """(the operators that remain, removed value -> the one that takes its place)."""
    first: dict[Any, Operator] = {}
    replaced: dict[Value, Value] = {}
    out: list[Operator] = []
    for operator in block.operators:
        operator = operator.with_inputs(replaced)
        operator = map_blocks(operator, lambda inner: _merged_block(inner, report))
        if set(effects(operator)) != {"pure"}:
            out.append(operator)
            continue
        same = first.setdefault(operator_key(operator), operator)
        if same is operator:
            out.append(operator)
        else:
            replaced.update(zip(operator.outputs, same.outputs, strict=True))
            report.fired.append(operator.where())
    return out, replaced


def _merged_block(block: Block, report: Report) -> Block:
    operators, replaced = _merged(block, report)
    if operators == block.operators:
        return block
    return Block(list(block.inputs), operators, [replaced.get(v, v) for v in block.outputs])


def operator_key(operator: Operator, names: dict[Value, Any] | None = None) -> Any:
    """Equal for operators that compute the same.

    names: for an operator of a nested block, the number of each value of the block
    """
    inputs = tuple(v if names is None or v is None else names[v] for v in operator.inputs)
    attrs = tuple(sorted((k, _attribute_key(v)) for k, v in operator.attrs.items()))
    blocks = tuple((n, _block_key(b)) for n, b in operator.blocks.items())
    return operator.type, inputs, attrs, blocks, operator.full_precision


def signature(operator: Operator) -> Any:
    """Equal for operators that compute the same, each of its own inputs, of the same dtypes and
    shapes."""
    return _block_key(Block(list(dict.fromkeys(operator.operands)), [operator]))


def _block_key(block: Block) -> Any:
    """Values are numbered in the order they are defined, so their names do not matter."""
    names: dict[Value, Any] = {}

    def define(values: Iterable[Value]) -> tuple[Any, ...]:
        for v in values:
            names[v] = len(names)
        return tuple((v.dtype, v.shape) for v in values)

    inputs = define(block.inputs)
    lines = tuple((operator_key(o, names), define(o.outputs)) for o in block.operators)
    return inputs, lines, tuple(names[v] for v in block.outputs)


def _attribute_key(value: Any) -> Any:
    """True, 1 and 1.0 are three things, and so are 0.0 and -0.0."""
    if isinstance(value, tuple):
        return f"({','.join(map(_attribute_key, value))})"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{digest(value)}"
    return f"{type(value).__name__} {value!r}"
