import numpy as np
import pytest

from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.testing import engines
from noria.testing.check import load_ops
from noria.testing.engines import check_jax, check_program, compare_named, round_trips

load_ops()
FEEDS = {"x": np.array([[0.5, -1.0]], np.float32)}
STATE = {"w": np.array([2.0, 3.0], np.float32)}
WANT = {"y": np.array([[1.0, -3.0]], np.float32)}


@pytest.fixture
def program():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (1, 2))
        w = builder.state("w", (2,))
        program.outputs = {"y": o.mul(x, w)}
        builder.update("w", o.add(w, 1.0))
    program.block.outputs = list(program.outputs.values())
    return program


@pytest.fixture
def engine(monkeypatch):
    """Adds an engine for the length of a test."""
    monkeypatch.setattr(engines, "engines", [])
    return engines.engines.append


def test_a_right_program_passes(program, engine):
    engine(run_program)
    check_program(program, FEEDS, WANT, state=STATE)


def test_the_cpu_engine_runs_a_program_and_tells_its_updates(program):
    outputs, updates = engines.executor(program, FEEDS, STATE)
    np.testing.assert_array_equal(outputs["y"], WANT["y"])
    np.testing.assert_array_equal(updates["w"], STATE["w"] + 1)
    assert engines.executor in engines.engines


def test_other_numbers_than_wanted_are_found(program):
    with pytest.raises(AssertionError, match="the traced Program, y"):
        check_program(program, FEEDS, {"y": WANT["y"] + 1}, state=STATE)


def test_a_missing_output_is_found(program):
    with pytest.raises(AssertionError, match=r"has \['y'\], expected \['y', 'z'\]"):
        check_program(program, FEEDS, {**WANT, "z": 1}, state=STATE)


def test_an_engine_with_wrong_updates_is_found(program, engine):
    def stale(program, feeds, state):
        outputs, _ = run_program(program, feeds, state)
        return outputs, dict(state)

    engine(stale)
    with pytest.raises(AssertionError, match="updates by engine stale, w"):
        check_program(program, FEEDS, WANT, state=STATE)


def test_an_engine_that_reads_only_contiguous_memory_is_found(program, engine):
    def flat(program, feeds, state):
        raw = {
            n: np.frombuffer(a.base if a.base is not None else a, a.dtype) for n, a in feeds.items()
        }
        same = {n: raw[n][: a.size].reshape(a.shape) for n, a in feeds.items()}
        return run_program(program, same, state)

    engine(flat)
    with pytest.raises(AssertionError, match="engine flat, y"):
        check_program(program, FEEDS, WANT, state=STATE)


def test_a_program_that_reads_back_differently_is_found(program, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(engines, "parse_program", lambda text, constants: Program("other"))
        with pytest.raises(AssertionError, match="printed again it differs"):
            round_trips(program)
    monkeypatch.setattr(engines.Decoder, "program", lambda self, data: (Program("other"), False))
    with pytest.raises(AssertionError, match="saved again it differs"):
        round_trips(program)


def test_jax_runs_the_program_and_its_numbers_are_compared():
    pytest.importorskip("jax")
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (1, 2))
        program.outputs = {"y": o.mul(x, 2.0)}
    check_jax(program, FEEDS, {"y": FEEDS["x"] * 2})
    with pytest.raises(AssertionError, match="jax, y"):
        check_jax(program, FEEDS, {"y": FEEDS["x"] * 3})


def test_names_must_be_the_same():
    compare_named({"a": 1.0}, {"a": 1.0}, "x")
    with pytest.raises(AssertionError, match=r"x: has \['a'\]"):
        compare_named({"a": 1.0}, {}, "x")
