"""The test form of a Program: what is served, and what an evaluation runs."""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.dims import symbols_of
from noria.core.errors import ProgramError
from noria.ir.emit import Builder
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value, needed, symbols_used
from noria.passes.nested import map_blocks

NAME = "for_test"


def for_test(program: Program, outputs: Sequence[str] | None = None) -> Program:
    """The Program without updates, where every op does what it does at test time.

    outputs: names of those to keep, default all. What they do not need is left out: operators
    (those with effects too), inputs (such as labels, when only logits are wanted) and state.
    Raises MissingError for an unknown output, ProgramError if one needs a value that only training
    computes (the mask of a dropout, for a gradient).

    Given:
        program p {
          input x: float32[N, 3]
          state w: float32[5, 3] = fill(value=0.0) trainable
          state random: int64[2] = fill(value=0)
          dropout, mask: float32[N, 3], bool[N, 3] = dropout(x, random, p=0.1)
          linear: float32[N, 5] = linear(dropout, w)
          one: int64[2] = constant(value=array(int64[2], 0, 1))
          next: int64[2] = add(random, one)
          output y = linear
          update random = next
        }
    Result:
        program p {
          input x: float32[N, 3]
          state w: float32[5, 3] = fill(value=0.0) trainable
          linear: float32[N, 5] = linear(x, w)
          output y = linear
        }
    """
    out = program.copy()
    names = program.outputs if outputs is None else outputs
    out.outputs = {name: program.output(name) for name in names}
    out.updates = {}
    out.block.operators = needed(out.block, out.roots())
    operators, renamed = _test_form(Builder(out), out.block, out.roots())
    out = out.replaced(operators, renamed)
    out.block.operators = needed(out.block, out.roots())
    return _without_unused(out)


def _test_form(
    builder: Builder, block: Block, roots: Sequence[Value]
) -> tuple[list[Operator], dict[Value, Value]]:
    """(the operators in their test form, old value -> new one)."""
    renamed: dict[Value, Value] = {}
    builder.block = Block()
    lost: dict[Value, Operator] = {}
    for operator in block.operators:
        operator = operator.with_inputs(renamed)
        _need_present(operator.operands, lost)
        operator = map_blocks(operator, lambda inner: _inner_form(builder, inner))
        rule = lookup(operator.type).for_test_fn
        if rule is None:
            builder.append(operator)
            continue
        with builder, builder.on_behalf_of(operator, NAME):
            result = rule(*operator.inputs, **operator.attrs)
        new = result if isinstance(result, (tuple, list)) else (result,)
        renamed.update(zip(operator.outputs, new, strict=False))
        lost.update((v, operator) for v in operator.outputs[len(new) :])
    _need_present(roots, lost)
    return builder.block.operators, renamed


def _inner_form(outer: Builder, block: Block) -> Block:
    builder = Builder(outer.program, block, parent=outer)
    operators, renamed = _test_form(builder, block, block.outputs)
    if operators == block.operators:
        return block
    result = Block(list(block.inputs), operators, [renamed.get(v, v) for v in block.outputs])
    result.operators = needed(result, result.outputs)
    return result


def _need_present(values: Sequence[Value], lost: dict[Value, Operator]) -> None:
    for v in values:
        if v in lost:
            raise ProgramError(
                f"'{v.name}' is computed in training only",
                where=lost[v].where(),
                hint="leave the outputs that need it out: for_test(program, outputs=[...])",
            )


def _without_unused(program: Program) -> Program:
    """Inputs and state that no operator and no output takes are left out, except inputs that alone
    tell a size which some operator needs."""
    used = {v for o in program.operators for v in o.operands} | set(program.outputs.values())
    taken = [v for v in program.block.inputs if v in used]
    known = symbols_of(d for v in taken for d in v.shape)
    wanted = frozenset().union(*map(symbols_used, program.operators)) - known
    for v in program.block.inputs:
        if v not in used and wanted & symbols_of(v.shape):
            used.add(v)
            wanted -= symbols_of(v.shape)
    program.block.inputs = [v for v in program.block.inputs if v in used]
    program.state = {n: s for n, s in program.state.items() if s.value in used}
    return program
