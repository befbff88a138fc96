"""A function of Values as a Program, with the feeds that make it compute what arrays would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, is_float
from noria.ir.emit import Builder
from noria.ir.opdef import lookup
from noria.ir.program import Program, Shape, Value
from noria.testing.case import Case


@dataclass(eq=False, slots=True)
class Recorded:
    """A Program that calls a function on its feeds `x0, x1, ...` and fetches `out0, out1, ...`.

    inputs:  what the function was called with: Values where arrays were given
    outputs: what it returned
    """

    program: Program
    inputs: list[Any]
    outputs: list[Value]

    def feeds(self, arrays: Sequence[Any]) -> dict[str, np.ndarray]:
        """Feeds for other arrays of the same kind."""
        pairs = zip(self.inputs, arrays, strict=True)
        return {v.name: a for v, a in pairs if isinstance(v, Value)}


def record(
    fn: Callable[..., Any], arrays: Sequence[Any], shapes: Sequence[Shape | None] | None = None
) -> Recorded:
    """Trace `fn` on a feed for each array; scalars and None are passed as they are.

    shapes: declared shapes of the feeds, which may hold symbols; default those of the arrays.
    fn returns a Value or a sequence of Values.
    """
    program = Program("recorded")
    with Builder(program) as builder:
        inputs: list[Any] = []
        for i, a in enumerate(arrays):
            if isinstance(a, np.ndarray):
                open_shape = shapes[i] if shapes is not None else None
                a = builder.input(f"x{i}", open_shape or a.shape, as_dtype(a.dtype))
            inputs.append(a)
        outputs = as_list(fn(*inputs))
    set_outputs(program, named("out", outputs))
    return Recorded(program, inputs, outputs)


def set_outputs(program: Program, outputs: Mapping[str, Value]) -> None:
    """Add outputs to a Program."""
    program.outputs.update(outputs)
    program.block.outputs = list(program.outputs.values())


class Subject:
    """What a case calls, the op it names or `fn`: on arrays, or on Values."""

    def __init__(self, case: Case, fn: Callable[..., Any] | None = None) -> None:
        self.case, self.fn = case, fn

    def eager(self, arrays: Sequence[Any], sizes: Mapping[str, int]) -> list[np.ndarray]:
        """Computed at once; `sizes` binds the symbols in the attributes."""
        if self.fn is not None:
            return as_list(self.fn(*arrays))
        return as_list(lookup(self.case.op)(*arrays, **self.case.attrs_at(sizes)))

    def record(self, arrays: Sequence[Any]) -> Recorded:
        """Traced, with open sizes where the case says so."""
        call = self.fn or (lambda *a: lookup(self.case.op)(*a, **self.case.attrs))
        return record(call, arrays, [self.case.shape(i) for i in range(len(arrays))])

    def floats(self) -> list[int]:
        """Indices of the inputs to differentiate."""
        found = [i for i, x in enumerate(self.case.inputs) if is_float_array(x)]
        only = self.case.grad
        return found if only is None or isinstance(only, bool) else [i for i in found if i in only]

    def differentiable(self) -> bool:
        """Whether the gradient is to be checked."""
        if self.case.grad is not None:
            return self.case.grad is not False
        has_rule = self.fn is not None or lookup(self.case.op).grad_fn is not None
        return has_rule and bool(self.floats())


def is_float_array(given: Any) -> bool:
    """Whether it is an array (or the recipe of one, or a Value) of a float dtype."""
    return hasattr(given, "dtype") and is_float(as_dtype(given.dtype))


def as_list(result: Any) -> list[Any]:
    """The results of an op or function that returns one or several."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def named(base: str, items: Sequence[Any]) -> dict[str, Any]:
    """`{base0: first, base1: second, ...}`"""
    return {f"{base}{i}": x for i, x in enumerate(items)}


def strided(array: np.ndarray) -> np.ndarray:
    """The same numbers in memory that is not contiguous (a scalar stays as it is)."""
    if array.ndim == 0:
        return array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]
