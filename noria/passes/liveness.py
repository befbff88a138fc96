"""Which operators are needed, and which values no step changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from noria.core.dims import symbols_of
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value, needed, walk


def has_effect(operator: Operator) -> bool:
    """Whether it must run even if nobody takes its outputs: it, or one inside it, is ordered."""
    inner = (o for block in operator.blocks.values() for o in walk(block))
    return any(lookup(o.type).effect == "ordered" for o in (operator, *inner))


def live(block: Block, roots: Sequence[Value]) -> list[Operator]:
    """The operators that the roots, or an effect, depend on; dead ones inside blocks removed.

    Operators that stay as they are are the same objects.
    """
    return [_pruned(o) for o in needed(block, roots, has_effect)]


def _pruned(operator: Operator) -> Operator:
    blocks = {}
    for name, block in operator.blocks.items():
        kept = live(block, block.outputs)
        same = kept == block.operators
        blocks[name] = block if same else Block(list(block.inputs), kept, list(block.outputs))
    changed = any(blocks[n] is not b for n, b in operator.blocks.items())
    return replace(operator, blocks=blocks) if changed else operator


def fixed_values(operators: Iterable[Operator], state: Iterable[Value]) -> set[Value]:
    """Values that are the same at each step: of the state given, and what pure operators make of
    it and of constants. Their sizes are numbers, so they are computed once and for all.
    """
    fixed = set(state)
    for o in operators:
        sized = any(symbols_of(v.shape) for v in o.outputs)
        if not sized and lookup(o.type).effect == "pure" and all(v in fixed for v in o.operands):
            fixed.update(o.outputs)
    return fixed


def unchanged_state(program: Program) -> set[Value]:
    """State that no step updates."""
    return {s.value for n, s in program.state.items() if n not in program.updates}
