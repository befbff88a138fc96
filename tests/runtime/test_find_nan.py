import numpy as np
import pytest

from noria.core.errors import MissingError, NonFiniteError
from noria.ir.opdef import vocabulary as o
from noria.runtime.find_nan import find_nan
from tests.runtime.programs import N, build, floats, value


def fn(b):
    x = b.input("x", (N,))
    b.update("w", o.sub(value(b, "w"), 1.0))
    return {"y": o.sqrt(o.mul(o.square(x), value(b, "w")))}


PROGRAM = build(fn, w=np.float32(1))
FEEDS = {"x": floats(4)}


def test_a_program_without_nan_gives_none():
    assert find_nan(PROGRAM, FEEDS) is None
    assert find_nan(PROGRAM, FEEDS, {"w": np.float32(5)}, steps=5) is None


def test_it_gives_the_error_instead_of_raising_it():
    error = find_nan(PROGRAM, FEEDS, {"w": np.float32(-1)})
    assert isinstance(error, NonFiniteError) and error.op.type == "sqrt" and error.count == 4
    assert error.hint == "it holds negative numbers"


def test_later_steps_can_be_looked_at():
    assert find_nan(PROGRAM, FEEDS, steps=2) is None
    assert find_nan(PROGRAM, FEEDS, steps=3).op.type == "sqrt"


def test_the_given_state_is_a_copy():
    state = {"w": np.array(5, np.float32)}
    find_nan(PROGRAM, FEEDS, state, steps=2)
    assert state["w"] == 5


def test_infinities_can_be_let_through():
    program = build(lambda b: {"y": o.exp(b.input("x", (N,)))})
    feeds = {"x": np.array([1e3], np.float32)}
    assert find_nan(program, feeds).what == "exp gave infinity"
    assert find_nan(program, feeds, infinity=False) is None


def test_feeds_that_do_not_fit_are_refused():
    with pytest.raises(MissingError):
        find_nan(PROGRAM, {})
