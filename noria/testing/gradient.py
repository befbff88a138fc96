"""Check the gradients of a case: in float64 by finite differences, then in less precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, to_numpy
from noria.core.errors import ArgumentError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.program import Value
from noria.testing.case import Case
from noria.testing.compare import TOLERANCE, assert_same
from noria.testing.engines import check_program
from noria.testing.numeric import Rough, compare_directions
from noria.testing.record import Recorded, Subject, is_float_array, set_outputs

ATTEMPTS = 5  # points tried before a function is called nowhere smooth
SLACK = 100  # a gradient may lose this many times more than a result of the same precision

Grads = dict[int, np.ndarray]


@dataclass(eq=False, slots=True)
class Backward:
    """A recorded function followed by its gradients.

    wrt:     indices of the inputs to differentiate
    weights: one feed per float output; the gradients are those of sum(output * weight)
    first:   input index -> gradient, for the inputs an output depends on
    second:  the same for sum(first * direction), with one feed per first gradient
    """

    recorded: Recorded
    wrt: list[int]
    weights: list[Value]
    first: dict[int, Value]
    directions: dict[int, Value]
    second: dict[int, Value]

    def run(
        self, arrays: Sequence[Any], weights: Sequence[np.ndarray], directions: Grads
    ) -> tuple[Grads, Grads]:
        """(first, second) gradients at a point, as numbers; zeros where nothing depends."""
        outs, _ = run_program(self.recorded.program, self.feeds(arrays, weights, directions), {})
        zeros = {i: np.zeros_like(arrays[i]) for i in self.wrt}
        first = zeros | {i: outs[f"g{i}"] for i in self.first}
        second = zeros | {i: outs[f"h{i}"] for i in self.second}
        return first, second

    def feeds(
        self, arrays: Sequence[Any], weights: Sequence[np.ndarray], directions: Grads
    ) -> dict[str, np.ndarray]:
        """All feeds, by name."""
        feeds = self.recorded.feeds(arrays)
        feeds |= {v.name: w for v, w in zip(self.weights, weights, strict=True)}
        return feeds | {v.name: directions[i] for i, v in self.directions.items()}


def backward(subject: Subject, arrays: Sequence[Any], second: bool = False) -> Backward:
    """Trace a case and append its gradients (second: and those of the gradients)."""
    recorded = subject.record(arrays)
    program, wrt = recorded.program, subject.floats()
    sources = [recorded.inputs[i] for i in wrt]
    found: dict[int, Value] = {}
    directions: dict[int, Value] = {}
    again: dict[int, Value] = {}
    with Builder(program) as builder:
        floats = [v for v in recorded.outputs if is_float_array(v)]
        weights = [builder.input(f"w{j}", v.shape, v.dtype) for j, v in enumerate(floats)]
        found = _present(wrt, gradients(floats, sources, weights))
        if second and found:
            directions = {i: builder.input(f"v{i}", g.shape, g.dtype) for i, g in found.items()}
            goals = list(found.values())
            again = _present(wrt, gradients(goals, sources, list(directions.values())))
    set_outputs(program, {f"g{i}": v for i, v in found.items()})
    set_outputs(program, {f"h{i}": v for i, v in again.items()})
    return Backward(recorded, wrt, weights, found, directions, again)


def _present(wrt: Sequence[int], values: Sequence[Value | None]) -> dict[int, Value]:
    return {i: v for i, v in zip(wrt, values, strict=True) if v is not None}


def check_gradient(case: Case, fn: Callable[..., Any] | None = None) -> None:
    """Gradients in float64 agree with finite differences, and nearly with those of the case's
    own dtype (float32 if that is float64); with `case.grad2` the gradients of gradients too.

    A point near a kink is left for another, at most ATTEMPTS times. Raises AssertionError.
    """
    exact = Subject(case.with_floats("float64"), fn)
    arrays, sizes = exact.case.arrays(), case.sizes()
    if not all(np.isfinite(arrays[i]).all() for i in exact.floats()):
        raise ArgumentError("gradients are checked at finite inputs", hint="Case(..., grad=False)")
    rng = np.random.default_rng((case.seed, 7))
    outs = [a for a in exact.eager(arrays, sizes) if is_float_array(a)]
    weights = [rng.standard_normal(a.shape) for a in outs]
    directions = {i: rng.standard_normal(arrays[i].shape) for i in exact.floats()}
    back = backward(exact, arrays, case.grad2)
    for attempt in range(ATTEMPTS):
        arrays = exact.case.arrays(salt=attempt)
        try:
            _compare(exact, back, arrays, weights, directions, rng)
            break
        except Rough:
            continue
    else:
        raise AssertionError(
            f"finite differences contradict each other at all of {ATTEMPTS} points; "
            "use inputs away from kinks (distinct=True), or grad=False"
        )
    _check_low_precision(Subject(_low(case), fn), back, arrays, weights, directions)


def _compare(
    exact: Subject,
    back: Backward,
    arrays: Sequence[Any],
    weights: Sequence[np.ndarray],
    directions: Grads,
    rng: np.random.Generator,
) -> None:
    """First (and second) gradients at one point against finite differences."""
    sizes = exact.case.sizes()

    def outputs(at: Sequence[Any]) -> list[Any]:
        return [a for a in exact.eager(at, sizes) if is_float_array(a)]

    def slopes(at: Sequence[Any]) -> list[Any]:
        first, _ = back.run(at, weights, directions)
        return [first[i] for i in back.wrt]

    first, second = back.run(arrays, weights, directions)
    compare_directions(outputs, arrays, first, weights, rng, "first order")
    if exact.case.grad2:
        along = [directions[i] for i in back.wrt]
        compare_directions(slopes, arrays, second, along, rng, "second order")


def _low(case: Case) -> Case:
    """The case with no float64 left."""
    wide = any(is_float_array(x) and as_dtype(x.dtype) == "float64" for x in case.inputs)
    return case.with_floats("float32") if wide else case


def _check_low_precision(
    low: Subject,
    exact: Backward,
    arrays: Sequence[Any],
    weights: Sequence[np.ndarray],
    directions: Grads,
) -> None:
    """First gradients of a narrow dtype, by the reference and every engine."""
    want, _ = exact.run(arrays, weights, directions)
    narrow = [
        a.astype(to_numpy(as_dtype(x.dtype))) if is_float_array(x) else a
        for x, a in zip(low.case.inputs, arrays, strict=True)
    ]
    back = backward(low, narrow)
    cast = [w.astype(to_numpy(v.dtype)) for w, v in zip(weights, back.weights, strict=True)]
    feeds = back.feeds(narrow, cast, {})
    outs, _ = run_program(back.recorded.program, feeds, {})
    coarsest = max(TOLERANCE[narrow[i].dtype.name] for i in back.wrt)
    for i in back.first:
        got = outs[f"g{i}"]
        what = f"gradient of input {i} in {got.dtype}"
        assert got.dtype == narrow[i].dtype, f"{what}, expected that of the input"
        assert_same(got, want[i], what, tol=SLACK * coarsest, dtype=False)
    check_program(back.recorded.program, feeds, outs, tol=low.case.tol)
