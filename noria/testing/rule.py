"""Prove a pass from a picture: a Program before it, and the same after it.

    check_rule(fuse_linear)                  # the pictures in its docstring
    check_rule(my_rule, GIVEN, RESULT)       # texts of Programs, as `print(program)` shows them

A picture in a docstring is two indented texts behind lines `Given:` and `Result:`; there may be
several.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from noria.core.dims import evaluate, symbols_of
from noria.core.dtypes import is_float, to_numpy
from noria.core.errors import ArgumentError
from noria.ir.compare import difference
from noria.ir.interpret import run_program
from noria.ir.program import Program, Value
from noria.ir.text import format_program, parse_program
from noria.ir.verify import verify
from noria.passes.rule import Rule
from noria.testing.check import load_ops
from noria.testing.engines import compare_named

GIVEN, RESULT = "Given:", "Result:"
Transform = Rule | Callable[[Program], Program]


def check_rule(
    transform: Transform,
    given: str | None = None,
    result: str | None = None,
    *,
    same_numbers: bool = True,
    sizes: Mapping[str, int] | None = None,
    tol: float | None = None,
) -> None:
    """The pass makes of one Program the other, and both compute the same.

    given, result: texts of Programs; default all pictures in the docstring of the pass
    same_numbers:  False for a pass that is meant to change what is computed
    sizes:         numbers for the symbols, default 3, 4, 5 ... by name
    tol:           relative to the largest number of an output, default by dtype

    Raises AssertionError if something else comes out, if it breaks the rules of the IR or changes
    its argument, and if the numbers differ; ArgumentError if there is no picture.
    """
    load_ops()
    if (given is None) != (result is None):
        raise ArgumentError("a picture is two texts", expected="given and result, or neither")
    pairs = pictures(transform) if given is None or result is None else [(given, result)]
    for before_text, after_text in pairs:
        before, wanted = parse_program(before_text), parse_program(after_text)
        verify(before)
        verify(wanted)
        after = _applied(transform, before)
        found = difference(after, wanted)
        assert found is None, f"{_name(transform)}: another Program comes out\n{found}"
        if same_numbers:
            check_same_numbers(before, after, sizes=sizes, tol=tol)


def pictures(transform: Transform) -> list[tuple[str, str]]:
    """(Given, Result) texts of a pass's docstring. Raises ArgumentError if there is none."""
    lines = inspect.cleandoc(transform.__doc__ or "").splitlines()
    texts: dict[str, list[str]] = {GIVEN: [], RESULT: []}
    for at, line in enumerate(lines):
        if line in texts:
            rest = lines[at + 1 :]
            end = next((i for i, r in enumerate(rest) if r and not r.startswith(" ")), len(rest))
            texts[line].append("\n".join(rest[:end]))
    if not texts[GIVEN] or len(texts[GIVEN]) != len(texts[RESULT]):
        raise ArgumentError(
            f"{_name(transform)} has no picture in its docstring",
            expected=f"{GIVEN} and {RESULT}, each with the text of a Program behind it",
            got=f"{len(texts[GIVEN])} times {GIVEN}, {len(texts[RESULT])} times {RESULT}",
            hint="check_rule(transform, given, result)",
        )
    return list(zip(texts[GIVEN], texts[RESULT], strict=True))


def check_same_numbers(
    before: Program,
    after: Program,
    *,
    sizes: Mapping[str, int] | None = None,
    tol: float | None = None,
) -> None:
    """Both Programs give the same outputs and updates on random numbers, by the reference.

    The second may do without some inputs and state. Raises AssertionError.
    """
    values = [*before.block.inputs, *(s.value for s in before.state.values())]
    names = sorted({s for v in values for s in symbols_of(v.shape)})
    known = {s: 3 + i for i, s in enumerate(names)} | dict(sizes or {})
    arrays = {v.name: _numbers(v, known) for v in values}
    want, got = (_results(p, arrays) for p in (before, after))
    for before_arrays, after_arrays in zip(want, got, strict=True):
        compare_named(after_arrays, before_arrays, "the result of the pass", tol)


def _results(program: Program, arrays: Mapping[str, np.ndarray]) -> tuple[Any, Any]:
    """(outputs, updates)."""
    absent = [n for n in (*program.inputs, *program.state) if n not in arrays]
    assert not absent, f"the pass invents {', '.join(absent)}"
    feeds = {n: arrays[n] for n in program.inputs}
    return run_program(program, feeds, {n: arrays[n] for n in program.state})


def _applied(transform: Transform, program: Program) -> Program:
    text = format_program(program)
    after = transform(program)
    assert format_program(program) == text, f"{_name(transform)} changed the Program it was given"
    verify(after)
    return after


def _numbers(value: Value, sizes: Mapping[str, int]) -> np.ndarray:
    """The same numbers for the same name: floats in [0.5, 1.5), integers and booleans 0 or 1."""
    rng = np.random.default_rng(zlib.crc32(value.name.encode()))
    shape = tuple(evaluate(d, dict(sizes)) for d in value.shape)
    low, high = (0.5, 1.5) if is_float(value.dtype) else (0, 2)
    drawn = rng.uniform(low, high, shape)
    return np.asarray(drawn).astype(to_numpy(value.dtype))


def _name(transform: Transform) -> str:
    return transform.name if isinstance(transform, Rule) else transform.__name__
