"""Run a Program by every engine and through every round trip: the results must not change."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, to_numpy
from noria.ir.decode import Decoder
from noria.ir.encode import Encoder, json_text
from noria.ir.interpret import run_program
from noria.ir.program import Program
from noria.ir.text import format_program, large_constants, parse_program
from noria.ir.verify import verify
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from noria.testing.compare import TOLERANCE, assert_same
from noria.testing.record import strided

Arrays = Mapping[str, Any]
Engine = Callable[[Program, Arrays, Arrays], tuple[Arrays, Arrays]]


def executor(program: Program, feeds: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    """One step by the CPU engine: (outputs, new values of the state that is updated)."""
    scope = Scope().initialize(program, values=dict(state))
    outputs = Executor(program, scope).run(feeds)
    return outputs, {n: scope[n] for n in program.updates}


engines: list[Engine] = [executor]
"""What must run every case besides the reference: (program, feeds, state) -> (outputs, updates)."""

NARROW = {"int64": "int32", "uint64": "uint32", "float64": "float32"}  # jax without 64 bits


def check_program(
    program: Program,
    feeds: Arrays,
    want: Arrays,
    *,
    state: Arrays | None = None,
    tol: float | None = None,
) -> None:
    """The reference, every engine and every round trip give the outputs `want`, by name.

    Engines are also given feeds that are not contiguous in memory. Raises AssertionError.
    """
    verify(program)
    held = dict(state or {})
    got, updates = run_program(program, feeds, held)
    compare_named(got, want, "the traced Program", tol)
    for again, how in round_trips(program):
        compare_named(run_program(again, feeds, held)[0], got, f"the Program {how}", 0.0)
    for engine in engines:
        name = getattr(engine, "__name__", "engine")
        for arrays in (dict(feeds), {n: strided(np.asarray(a)) for n, a in feeds.items()}):
            outputs, new = engine(program, arrays, held)
            compare_named(outputs, want, f"engine {name}", tol)
            compare_named(new, updates, f"updates by engine {name}", tol)


def round_trips(program: Program) -> list[tuple[Program, str]]:
    """(Program, how) after printing and parsing, and after saving and loading.

    Raises AssertionError if what came back prints differently.
    """
    text = format_program(program)
    parsed = parse_program(text, large_constants(program))
    again = format_program(parsed)
    assert again == text, f"printed, parsed and printed again it differs:\n{text}\n{again}"
    return [(parsed, "printed and parsed"), (_saved_and_loaded(program), "saved and loaded")]


def _saved_and_loaded(program: Program) -> Program:
    """What comes back from the saved form; files and their archives are left to `ir/save.py`."""
    encoder = Encoder(program)
    text = json_text(encoder.data(has_state=False))
    decoder = Decoder(lambda name, spec, where: encoder.constants[name])
    loaded, _ = decoder.program(json.loads(text))
    again = json_text(Encoder(loaded).data(has_state=False))
    assert again == text, f"saved, loaded and saved again it differs:\n{text}\n{again}"
    return loaded


def check_jax(program: Program, feeds: Arrays, want: Arrays, tol: float | None = None) -> None:
    """The whole Program, compiled by jax, gives the outputs `want`, by name.

    jax keeps 64 bit numbers in 32 bits, so those are compared in 32. Raises AssertionError.
    """
    import jax

    def run(arrays: Any) -> Any:
        return run_program(program, arrays, {}, jax.numpy)[0]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Explicitly requested dtype")
        got = jax.jit(run)(dict(feeds))
    for name, array in want.items():
        dtype = as_dtype(array.dtype)
        narrow = NARROW.get(dtype, dtype)
        allowed = max(3 * TOLERANCE.get(narrow, 0.0), tol or 0.0)
        expected = np.asarray(array).astype(to_numpy(narrow))
        assert_same(np.asarray(got[name]), expected, f"jax, {name}", tol=allowed)


def has_jax() -> bool:
    """Whether the optional package is installed."""
    return find_spec("jax") is not None


def compare_named(got: Arrays, want: Arrays, what: str, tol: float | None = None) -> None:
    """`assert_same` for two dicts of arrays with the same names."""
    assert set(got) == set(want), f"{what}: has {sorted(got)}, expected {sorted(want)}"
    for name, array in want.items():
        assert_same(got[name], array, f"{what}, {name}", tol=tol)
