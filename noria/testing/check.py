"""Prove an op from one test case.

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_case(case):
        check_case(case)

One call checks that inference predicts what is computed; that the computation equals an
independent formula; that a traced Program, with open sizes, run by the reference and by every
engine, printed and read back, saved and loaded, computes the same; that jax compiles it to the
same; and that gradients agree with finite differences. The same serves a function of several
ops, `check_case(case, fn)`: control flow, modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from noria.core.dims import evaluate, symbols_of
from noria.core.dtypes import as_dtype
from noria.core.shapes import solve
from noria.ir.interpret import bind_attrs, block_function, run_block, run_program
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Program, Spec, Value
from noria.ops.library import FAMILIES
from noria.testing.case import Case
from noria.testing.compare import assert_all_same
from noria.testing.engines import check_jax, check_program, compare_named, engines, has_jax
from noria.testing.gradient import check_gradient
from noria.testing.record import Recorded, Subject, as_list, named

__all__ = ["check_case", "check_gradient", "check_program", "engines"]


def load_ops() -> None:
    """Every family of ops is registered once this module is imported."""
    assert FAMILIES


def check_case(case: Case, fn: Callable[..., Any] | None = None) -> None:
    """Prove everything the case allows. Raises AssertionError at the first thing that is wrong.

    fn: a function of the inputs that calls ops, checked instead of the op `case.op`.
    """
    load_ops()
    subject = Subject(case, fn)
    arrays, sizes = case.arrays(), case.sizes()
    want = subject.eager(arrays, sizes)
    if case.expect is not None:
        expected = as_list(case.expect(*arrays))
        assert_all_same(want, expected, "computed", tol=case.tol, dtype=False)
    recorded = subject.record(arrays)
    feeds, outputs = recorded.feeds(arrays), named("out", want)
    if fn is None:
        _check_inference(recorded.program, case.op, feeds)
    check_program(recorded.program, feeds, outputs, tol=case.tol)
    if case.resizable:
        _check_resized(subject, recorded, sizes)
    if case.jax and has_jax():
        check_jax(recorded.program, feeds, outputs, case.tol)
    if subject.differentiable():
        check_gradient(case, fn)


def _check_inference(program: Program, name: str, feeds: Mapping[str, np.ndarray]) -> None:
    """The dtypes and shapes that inference tells are those of the bare computation."""
    found = [op for op in program.operators if op.type == name]
    assert found, f"calling '{name}' emitted no such operator"
    operator = found[-1]
    raw, sizes = _bare_outputs(program, operator, feeds)
    assert len(raw) == len(operator.outputs), (
        f"compute gave {len(raw)} outputs, inference {len(operator.outputs)}"
    )
    for i, (got, value) in enumerate(zip(raw, operator.outputs, strict=True)):
        assert hasattr(got, "dtype"), f"compute of output {i} gave a {type(got).__name__}"
        actual = Spec(got.shape, as_dtype(got.dtype))
        assert actual.dtype == value.dtype and _fits(value, actual, sizes), (
            f"output {i}: inference said {Spec.__str__(value)}, computed was {actual}"
        )


def _fits(value: Value, actual: Spec, sizes: Mapping[str, int]) -> bool:
    """Whether the declared shape, where its symbols are bound, is the actual one."""
    declared = bind_known(value.shape, sizes)
    return len(declared) == actual.ndim and all(
        want is None or want == got for want, got in zip(declared, actual.shape, strict=True)
    )


def bind_known(shape: Sequence[Any], sizes: Mapping[str, int]) -> list[int | None]:
    """Sizes as numbers; None where a symbol is known only from data."""
    return [None if symbols_of(n) - sizes.keys() else evaluate(n, dict(sizes)) for n in shape]


def _bare_outputs(
    program: Program, operator: Operator, feeds: Mapping[str, np.ndarray]
) -> tuple[tuple[Any, ...], dict[str, int]]:
    """(Outputs of one operator before they are cast to the declared dtype, sizes bound)."""
    before = program.copy()
    before.block.operators = program.operators[: program.operators.index(operator)]
    bindings: dict[str, int] = {}
    for v in program.block.inputs:
        bindings.update(solve(v.shape, feeds[v.name].shape, bindings))
    with np.errstate(all="ignore"):
        env = run_block(before.block, {v: feeds[v.name] for v in program.block.inputs}, bindings)
        inputs = [None if v is None else env[v] for v in operator.inputs]
        blocks = {n: block_function(b, bindings) for n, b in operator.blocks.items()}
        attrs = bind_attrs(operator.attrs, bindings)
        return lookup(operator.type).run(np, inputs, attrs, blocks), bindings


def _check_resized(subject: Subject, recorded: Recorded, sizes: Mapping[str, int]) -> None:
    """The same Program at larger sizes of its symbols."""
    larger = {name: n + 1 + i for i, (name, n) in enumerate(sorted(sizes.items()))}
    arrays = subject.case.arrays(larger)
    want = named("out", subject.eager(arrays, larger))
    got, _ = run_program(recorded.program, recorded.feeds(arrays), {})
    compare_named(got, want, f"the Program at {larger}", subject.case.tol)
