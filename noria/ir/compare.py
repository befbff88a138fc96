"""Are two Programs the same? Where do they first differ?

Names of inner values, the Program's name, comments and the order of declarations do not matter;
the names of inputs, state and outputs, the operators and their order do.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest

from noria.ir.literals import name_text
from noria.ir.program import Block, Operator, Program, Value
from noria.ir.text import operator_lines, program_lines, value_name

CONTEXT = 3  # lines shown around a difference
MAX_DIFF = 60  # lines of the unified diff


def same(a: Program, b: Program) -> bool:
    """Whether the Programs are equal up to the names of inner values."""
    return normal_lines(a) == normal_lines(b)


def structural_hash(program: Program) -> str:
    """SHA-256, in hexadecimal, of what `same` compares: equal for Programs that are the same."""
    return hashlib.sha256("\n".join(normal_lines(program)).encode()).hexdigest()


def difference(a: Program, b: Program) -> str | None:
    """Where two Programs first differ and what differs after, for a person; None if they do not."""
    left, right = normal_lines(a), normal_lines(b)
    if left == right:
        return None
    diff = list(difflib.unified_diff(left, right, a.name, b.name, lineterm="", n=CONTEXT))
    if len(diff) > MAX_DIFF:
        diff = [*diff[:MAX_DIFF], f"... and {len(diff) - MAX_DIFF} more lines"]
    return "\n".join([_first_difference(a, b), *diff])


def normal_lines(program: Program) -> list[str]:
    """The text of the Program with inner values named after their op and nothing accidental."""
    inputs = sorted(program.block.inputs, key=lambda v: v.name)
    plain = Program(
        "program",
        Block(inputs, program.block.operators),
        dict(sorted(program.state.items())),
        dict(sorted(program.outputs.items())),
        dict(sorted(program.updates.items())),
    )
    return list(program_lines(plain, _normal_names(plain)))


def _normal_names(program: Program) -> Callable[[Value], str]:
    """Inputs and state keep their names, others become `%relu`, `%relu#1`, ... by op.

    Counting each op apart keeps later names, and so the diff, stable when one op is added.
    """
    names = {v: value_name(v) for v in program.block.inputs}
    names |= {s.value: value_name(s.value) for s in program.state.values()}
    seen: Counter[str] = Counter()
    for value, base in _inner_values(program.block):
        k = seen[base]
        seen[base] += 1
        names[value] = f"%{name_text(base)}#{k}" if k else f"%{name_text(base)}"
    return lambda v: names.get(v) or f"%undefined {value_name(v)}"


def _inner_values(block: Block) -> Iterator[tuple[Value, str]]:
    for operator in block.operators:
        for title, inner in operator.blocks.items():
            yield from ((v, title) for v in inner.inputs)
            yield from _inner_values(inner)
        yield from ((v, operator.type) for v in operator.outputs)


def _first_difference(a: Program, b: Program) -> str:
    """The first operators of the main blocks that differ, as each Program writes them."""
    names = _normal_names(a), _normal_names(b)
    for place, pair in enumerate(zip_longest(a.operators, b.operators)):
        if _normal_text(pair[0], names[0]) != _normal_text(pair[1], names[1]):
            lines = [f"the Programs first differ at operator {place}:"]
            lines += [f"  {p.name}: {_shown(op)}" for p, op in zip((a, b), pair, strict=True)]
            return "\n".join(lines)
    return "the Programs have the same operators; inputs, state, outputs or updates differ:"


def _normal_text(operator: Operator | None, name: Callable[[Value], str]) -> str:
    if operator is None:
        return ""
    return "\n".join(operator_lines(operator, name, sources=False, indent=""))


def _shown(operator: Operator | None) -> str:
    if operator is None:
        return "(no operator)"
    return next(operator_lines(operator, value_name, sources=True, indent=""))
