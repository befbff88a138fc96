"""Which operators are needed, and which values no step changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from noria.core.dims import symbols_of
from noria.ir.nested import has_effect
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value, needed
from noria.passes.nested import map_blocks


def live(block: Block, roots: Sequence[Value]) -> list[Operator]:
    """The operators that the roots, or an effect, depend on; dead ones inside blocks removed.

    Operators that stay as they are are the same objects.
    """
    return [map_blocks(o, _pruned) if o.blocks else o for o in needed(block, roots, has_effect)]


def _pruned(block: Block) -> Block:
    operators = live(block, block.outputs)
    if operators == block.operators:
        return block
    return Block(list(block.inputs), operators, list(block.outputs))


def fixed_values(operators: Iterable[Operator], state: Iterable[Value]) -> set[Value]:
    """Values that are the same at each step: of the state given, and what pure operators make of
    it, of constants and of sizes. The planner computes these once per set of sizes, so like there
    arrays that grow with a symbolic size do not count, but for vectors.
    """
    fixed = set(state)
    for o in operators:
        large = any(v.ndim > 1 and symbols_of(v.shape) for v in o.outputs)
        if not large and lookup(o.type).effect == "pure" and all(v in fixed for v in o.operands):
            fixed.update(o.outputs)
    return fixed


def unchanged_state(program: Program) -> set[Value]:
    """State that no step updates."""
    return {s.value for n, s in program.state.items() if n not in program.updates}
