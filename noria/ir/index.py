"""Who makes and who uses each value of a Block: computed when asked, never stored in the IR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from itertools import chain

from noria.ir.program import Block, Operator, Value


class _Users(dict[Value, list[Operator]]):
    def __missing__(self, value: Value) -> list[Operator]:
        return []


class Index:
    """The uses of one Block's values, as they were when the Index was made.

    producer: value -> the operator that makes it (inputs and state have none)
    users:    value -> the operators that take it, each once, in order; an unused value gives []
    position: operator -> its place in the block
    roots:    values kept whatever uses them: the block's outputs; for a main block pass
              `program.roots()`, which adds the updates
    """

    def __init__(self, block: Block, roots: Iterable[Value] | None = None) -> None:
        self.roots = list(block.outputs if roots is None else roots)
        self._operators = list(block.operators)

    @cached_property
    def producer(self) -> dict[Value, Operator]:
        return {value: operator for operator in self._operators for value in operator.outputs}

    @cached_property
    def users(self) -> dict[Value, list[Operator]]:
        found = _Users()
        for operator in self._operators:
            for value in dict.fromkeys(operator.operands):
                found.setdefault(value, []).append(operator)
        return found

    @cached_property
    def position(self) -> dict[Operator, int]:
        return {operator: place for place, operator in enumerate(self._operators)}

    @cached_property
    def _counts(self) -> Counter[Value]:
        operands = chain.from_iterable([operator.operands for operator in self._operators])
        return Counter(chain(self.roots, operands))

    def use_count(self, value: Value) -> int:
        """How often the value is used: once per operand it is, once per root."""
        return self._counts[value]
