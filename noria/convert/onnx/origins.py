"""Where a Value comes from: its numbers if no input decides them, else the inputs that do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.core.errors import NoriaError
from noria.ir.emit import Builder, building
from noria.ir.interpret import run_operator
from noria.ir.program import Operator, Value, symbols_used

MAX_ELEMENTS = 1 << 24  # of any value worked out while a model is converted


class Origins:
    """Follows Values of one Program back to its inputs and state.

    arrays: the numbers of state
    """

    def __init__(self, root: Builder) -> None:
        self.root = root
        self.arrays: dict[Value, np.ndarray] = {}
        self._found: dict[Value, np.ndarray | None] = {}

    def inputs(self, value: Value) -> tuple[str, ...]:
        """The inputs of the Program it depends on; all, where a loop is in between."""
        _, leaves, _ = self._behind(value)
        declared = self.root.block.inputs
        if any(v not in self.arrays and v not in declared for v in leaves):
            return tuple(v.name for v in declared)
        return tuple(v.name for v in declared if v in leaves)

    def symbols(self, value: Value) -> list[str]:
        """The symbolic sizes it depends on."""
        operators, _, _ = self._behind(value)
        return sorted(frozenset().union(*map(symbols_used, operators)))

    def known(self, value: Value) -> np.ndarray | None:
        """Its numbers, if they depend on nothing but state and constants."""
        if value not in self._found:
            self._found[value] = self._computed(value)
        return self._found[value]

    def _computed(self, value: Value) -> np.ndarray | None:
        operators, leaves, inner = self._behind(value)
        if not all(v in self.arrays for v in leaves):
            return None
        if any(_count(v) > MAX_ELEMENTS for o in operators for v in o.outputs):
            return None
        env: dict[Value, Any] = {v: self.arrays[v] for v in leaves}
        bindings: dict[str, int] = {}
        try:
            for operator in operators:
                args = [None if v is None else env[inner.get(v, v)] for v in operator.inputs]
                env.update(
                    zip(operator.outputs, run_operator(operator, args, bindings), strict=True)
                )
        except NoriaError:  # a symbolic size, or numbers that only a run may refuse
            return None
        return env[inner.get(value, value)]

    def _behind(self, value: Value) -> tuple[list[Operator], set[Value], dict[Value, Value]]:
        """What it takes to make a value: operators in order, leaves, inner name -> outer value."""
        wanted, made = {value}, set[Value]()
        operators: list[Operator] = []
        inner: dict[Value, Value] = {}
        builder: Builder | None = building()
        while builder is not None:
            for operator in reversed(builder.block.operators):
                if any(v in wanted for v in operator.outputs):
                    operators.append(operator)
                    made.update(operator.outputs)
                    wanted.update(operator.operands)
            for outer, seen in builder.captures.items():
                if seen in wanted:
                    inner[seen] = outer
                    wanted.add(outer)
            builder = builder.parent
        for seen in list(inner):
            while inner[seen] in inner:
                inner[seen] = inner[inner[seen]]
        return operators[::-1], wanted - made - inner.keys(), inner


def _count(value: Value) -> float:
    return math.prod(d if isinstance(d, int) else 1 for d in value.shape)
