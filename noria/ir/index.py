"""Who makes and who uses each value of a Block: computed when asked, never stored in the IR."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

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
        self.producer: dict[Value, Operator] = {}
        self.users: dict[Value, list[Operator]] = _Users()
        self.position: dict[Operator, int] = {}
        self._counts = Counter(self.roots)
        for place, operator in enumerate(block.operators):
            self.position[operator] = place
            self._counts.update(operator.operands)
            for value in dict.fromkeys(operator.operands):
                self.users.setdefault(value, []).append(operator)
            for value in operator.outputs:
                self.producer[value] = operator

    def use_count(self, value: Value) -> int:
        """How often the value is used: once per operand it is, once per root."""
        return self._counts[value]
