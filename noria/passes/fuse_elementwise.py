"""Elementwise operators that feed each other become one loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.ir.program import Block, Operator, Program, Value
from noria.passes.grouping import Group, Grouping
from noria.passes.liveness import live, unchanged_state
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_elementwise"


def fuse_elementwise(program: Program) -> Program:
    """Elementwise operators on one space of indices, and reductions of what they make, become one
    `fused` operator, which reads its inputs and writes its outputs once.

    Optimiser updates are such operators too. Numbers and broadcasts are made anew in every loop
    that uses them. What is computed once for all steps stays apart from what each step computes.
    It is the last pass, because a kernel of a product can take an activation with it for nothing.

    Given:
        program p {
          input x: float32[N, 4]
          input g: float32[N, 4]
          state b: float32[4] = fill(value=0.0)
          fill: float32[] = fill(shape=(), value=0.0)
          add: float32[N, 4] = add(x, b)
          exp: float32[N, 4] = exp(add)
          greater: bool[N, 4] = greater(exp, fill)
          where: float32[N, 4] = where(greater, g, fill)
          reduce_sum: float32[4] = reduce_sum(where, axis=(0,))
          transpose: float32[4, N] = transpose(exp, perm=(1, 0))
          output y = transpose
          output gb = reduce_sum
        }
    Result:
        program p {
          input x: float32[N, 4]
          input g: float32[N, 4]
          state b: float32[4] = fill(value=0.0)
          exp, gb: float32[N, 4], float32[4] = fused(x, b, g) {
            body(x: float32[N, 4], b: float32[4], g: float32[N, 4]) {
              add: float32[N, 4] = add(x, b)
              exp: float32[N, 4] = exp(add)
              fill: float32[] = fill(shape=(), value=0.0)
              greater: bool[N, 4] = greater(exp, fill)
              where: float32[N, 4] = where(greater, g, fill)
              gb: float32[4] = reduce_sum(where, axis=(0,))
              return exp, gb
            }
          }
          transpose: float32[4, N] = transpose(exp, perm=(1, 0))
          output y = transpose
          output gb = gb
        }
    """
    report = Report(NAME)
    out = program.copy()
    state = unchanged_state(program)
    out.block.operators = _fused_block(program.block, program.roots(), state, report)
    publish(report)
    return out


def _fused_block(
    block: Block, roots: Sequence[Value], state: set[Value], report: Report
) -> list[Operator]:
    inner = [map_blocks(o, lambda b: _fused_inner(b, report)) for o in block.operators]
    grouping = Grouping(Block(block.inputs, inner), roots, state)
    report.declined.extend(grouping.apart)
    if not grouping.groups:
        return inner
    fused = {id(group): fuse(group, grouping) for group in grouping.groups}
    report.fired.extend(f"{o.where()}: {_contents(o)}" for o in fused.values())
    units = grouping.in_order()
    operators = [fused[id(u)] if isinstance(u, Group) else u for u in units]
    return live(Block(block.inputs, operators), roots)


def _fused_inner(block: Block, report: Report) -> Block:
    operators = _fused_block(block, block.outputs, set(), report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _contents(operator: Operator) -> str:
    body = operator.blocks["body"].operators
    return ", ".join(o.type for o in body if o.type != "fill")


def fuse(group: Group, grouping: Grouping) -> Operator:
    """The `fused` operator of a group. It defines the same outer values as its members did."""
    body = _Body(grouping)
    for member in group.members:
        body.add(member)
    outputs = grouping.outputs_of(group)
    body.block.outputs = [body.seen[v] for v in outputs]
    last = group.members[-1]
    inputs, blocks = tuple(body.inputs), {"body": body.block}
    return Operator("fused", inputs, tuple(outputs), {}, blocks, last.source, NAME)


class _Body:
    """The block of a `fused` operator while it grows."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.block = Block()
        self.inputs: list[Value] = []
        self.seen: dict[Value, Value] = {}  # outer value -> the one inside

    def add(self, operator: Operator) -> None:
        """A copy of the operator, after copies of the numbers and broadcasts it takes."""
        inputs = tuple(None if v is None else self.value(v, operator) for v in operator.inputs)
        outputs = tuple(_copy(v) for v in operator.outputs)
        self.seen.update(zip(operator.outputs, outputs, strict=True))
        self.block.operators.append(replace(operator, inputs=inputs, outputs=outputs))

    def value(self, outer: Value, user: Operator) -> Value:
        if outer not in self.seen:
            maker = self.grouping.absorbed(outer, user)
            if maker is not None:
                self.add(maker)
            else:
                self.seen[outer] = _copy(outer)
                self.inputs.append(outer)
                self.block.inputs.append(self.seen[outer])
        return self.seen[outer]


def _copy(value: Value) -> Value:
    return Value(value.name, value.shape, value.dtype)
