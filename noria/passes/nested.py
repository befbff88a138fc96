"""Descending into the blocks of control flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, walk

SEALED = frozenset(
    ("fused", "fused_recurrent", "sweep")
)  # ops whose blocks stay as they are: a kernel reads them


def map_blocks(operator: Operator, change: Callable[[Block], Block]) -> Operator:
    """The operator with `change` applied to its blocks; itself if nothing changed.

    `change` returns the block it was given, or a new one. Blocks of SEALED ops are left alone.
    """
    if not operator.blocks or operator.type in SEALED:
        return operator
    blocks = {name: change(block) for name, block in operator.blocks.items()}
    if all(blocks[name] is block for name, block in operator.blocks.items()):
        return operator
    return replace(operator, blocks=blocks)


def effects(operator: Operator) -> Iterator[str]:
    """The effect of the operator, and those of the operators inside it."""
    yield lookup(operator.type).effect
    for block in operator.blocks.values():
        for inner in walk(block):
            yield lookup(inner.type).effect
