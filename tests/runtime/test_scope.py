"""State: first values, what fits, one memory for all who use it."""

import threading

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import DTypeError, MissingError, NoriaError, ProgramError, ShapeError
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, State, Value
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.runtime.scope import RANDOM, Scope, fits, initial_value
from noria.testing.check import load_ops
from tests.runtime.programs import N, build, floats, value

load_ops()


def program_of(**states):
    """A Program of nothing but state: name -> (shape, dtype, init)."""
    program = Program("states")
    with Builder(program) as builder:
        for name, (shape, dtype, init) in states.items():
            builder.state(name, shape, dtype, init=init)
    return program


NORMAL = ((3, 4), "float32", ("normal", {}))
FILLED = ((2,), "float32", ("fill", {"value": 1.5}))


def counting():
    """w grows by one at each step; y = x * w**2, of which the square is computed from state."""

    def fn(b):
        b.update("w", o.add(value(b, "w"), 1.0))
        return {"y": o.mul(b.input("x", (N,)), o.square(value(b, "w")))}

    return build(fn, "counting", w=np.float32(1))


def reading():
    """The same w, which no step changes: its square is computed once."""

    def fn(b):
        return {"y": o.mul(b.input("x", (N,)), o.square(value(b, "w")))}

    return build(fn, "reading", w=np.float32(1))


# ---- first values ------------------------------------------------------------------------------


def test_first_values_follow_the_initialisers():
    constant = ("constant", {"value": np.array([[1, 2]])})
    program = program_of(a=FILLED, b=((1, 2), "float64", constant), c=NORMAL)
    scope = Scope().initialize(program)
    assert scope["a"].tolist() == [1.5, 1.5] and scope["a"].dtype == np.float32
    assert scope["b"].tolist() == [[1, 2]] and scope["b"].dtype == np.float64
    assert scope["c"].shape == (3, 4) and scope["c"].std() > 0.1


def test_first_values_depend_on_the_seed_and_the_name_alone():
    first = Scope().initialize(program_of(w=NORMAL, v=NORMAL), seed=5)
    other = Scope().initialize(program_of(u=NORMAL, v=NORMAL, w=NORMAL), seed=5)
    np.testing.assert_array_equal(first["w"], other["w"])
    np.testing.assert_array_equal(first["v"], other["v"])
    assert (first["w"] != first["v"]).any()
    assert (first["w"] != Scope().initialize(program_of(w=NORMAL), seed=6)["w"]).any()


def test_the_state_of_random_numbers_is_seed_and_step():
    state = State(Value(RANDOM, (2,), "int64"))
    assert initial_value(state, 7).tolist() == [7, 0]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_states_of_any_size(shape):
    scope = Scope().initialize(program_of(a=(shape, "float32", ("fill", {"value": 2.0}))))
    np.testing.assert_array_equal(scope["a"], np.full(shape, 2, np.float32))
    scope["a"] = np.full(shape, 3.0)
    np.testing.assert_array_equal(scope.state()["a"], np.full(shape, 3, np.float32))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float64"])
def test_states_of_any_dtype(dtype):
    scope = Scope().initialize(program_of(a=((2,), dtype, ("fill", {"value": 1}))))
    assert scope["a"].dtype.name == dtype and scope["a"].astype("int64").tolist() == [1, 1]


def test_given_values_win_and_present_ones_stay():
    program = program_of(a=FILLED, b=FILLED)
    scope = Scope().initialize(program, values={"a": np.array([7, 8], np.float32)})
    assert scope["a"].tolist() == [7, 8] and scope["b"].tolist() == [1.5, 1.5]
    scope["b"] = [0, 1]
    scope.initialize(program_of(a=FILLED, b=FILLED, c=FILLED), seed=9)
    assert [scope[n].tolist() for n in scope] == [[7, 8], [0, 1], [1.5, 1.5]]


def test_given_values_are_copied():
    mine = np.zeros(2, np.float32)
    scope = Scope().initialize(program_of(a=FILLED), values={"a": mine})
    mine[:] = 5
    assert scope["a"].tolist() == [0, 0]


# ---- what is refused ---------------------------------------------------------------------------


def test_values_for_unknown_state_are_told_with_the_nearest_name():
    with pytest.raises(MissingError, match=r"no state 'weigth'\n.*did you mean 'weight'"):
        Scope().initialize(program_of(weight=FILLED), values={"weigth": np.zeros(2)})


@pytest.mark.parametrize(
    ("array", "kind", "text"),
    [
        (np.zeros(3, np.float32), ShapeError, r"expected float32\[2\]\n  got      float32\[3\]"),
        (np.zeros((), np.float32), ShapeError, r"got      float32\[\]"),
        (np.zeros(2), DTypeError, r"got      float64\n  try      array.astype\('float32'\)"),
        (np.zeros(2, np.int64), DTypeError, r"expected float32\n  got      int64"),
        (np.array(["a", "b"]), DTypeError, "unknown dtype"),
    ],
)
def test_values_that_do_not_fit_are_told(array, kind, text):
    with pytest.raises(kind, match=text):
        Scope().initialize(program_of(a=FILLED), values={"a": array})


def test_a_scope_of_another_program_is_told():
    scope = Scope().initialize(program_of(a=FILLED))
    with pytest.raises(ShapeError, match="state 'a' in the scope has another shape"):
        scope.initialize(program_of(a=NORMAL))
    with pytest.raises(DTypeError, match="state 'a' in the scope has another dtype"):
        scope.initialize(program_of(a=((2,), "float64", ("fill", {"value": 0.0}))))
    assert scope["a"].tolist() == [1.5, 1.5]


def test_a_state_of_unknown_size_is_told():
    program = program_of(a=((symbol("K"), 2), "float32", ("fill", {"value": 0.0})))
    with pytest.raises(ProgramError, match=r"'a' needs a size that is known now\n.*\[K, 2\]"):
        Scope().initialize(program)


def test_nothing_to_compare_fits():
    fits(State(Value("a", (2,))), None, "the scope")
    with pytest.raises(ShapeError, match="in the file"):
        fits(State(Value("a", (2,))), np.zeros(1, np.float32), "the file")


@pytest.mark.parametrize("use", [lambda s: s["wide"], lambda s: s.__setitem__("wide", 0)])
def test_unknown_names_are_told(use):
    scope = Scope().initialize(program_of(width=FILLED))
    with pytest.raises(MissingError, match=r"no state 'wide'[\s\S]*did you mean 'width'"):
        use(scope)
    with pytest.raises(KeyError, match="there are none"):
        use(Scope())
    assert "wide" not in scope and "width" in scope


@pytest.mark.parametrize(
    ("dtype", "array", "kind", "text"),
    [
        ("float32", np.zeros((2, 1)), ShapeError, r"expected \(2,\)\n  got      \(2, 1\)"),
        ("float32", 0.0, ShapeError, r"got      \(\)"),
        ("int64", [0.5, 1.5], DTypeError, "expected int64\n  got      float64"),
        ("float32", ["a", "b"], DTypeError, r"got      <U1\n  try      array.astype\('float32'\)"),
        ("bool", [1, 0], DTypeError, "expected bool\n  got      int64"),
    ],
)
def test_writing_what_does_not_fit_changes_nothing(dtype, array, kind, text):
    scope = Scope().initialize(program_of(a=((2,), dtype, ("fill", {"value": 1}))))
    version = scope.version
    with pytest.raises(kind, match=text) as caught:
        scope["a"] = array
    assert isinstance(caught.value, NoriaError)
    assert scope["a"].tolist() == [1, 1] and scope.version == version


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_writing_narrows_floats(dtype):
    scope = Scope().initialize(program_of(a=((2,), dtype, ("fill", {"value": 0.0}))))
    scope["a"] = np.array([0.5, -2.0])
    assert scope["a"].dtype.name == dtype and scope["a"].tolist() == [0.5, -2.0]


# ---- one memory --------------------------------------------------------------------------------


def test_what_is_read_is_a_copy():
    scope = Scope().initialize(program_of(a=FILLED))
    scope["a"][:] = 9
    scope.state()["a"][:] = 9
    assert scope["a"].tolist() == [1.5, 1.5]


def test_addresses_never_change_and_every_write_is_a_version():
    scope = Scope().initialize(program_of(a=FILLED))
    address, version = scope.arrays["a"].ctypes.data, scope.version
    scope["a"] = [1, 2]
    scope.initialize(program_of(a=FILLED), values={"a": np.array([3, 4], np.float32)})
    assert scope.arrays["a"].ctypes.data == address and scope["a"].tolist() == [3, 4]
    assert scope.version == version + 2
    scope.initialize(program_of(a=FILLED))
    assert scope.version == version + 2


def test_a_write_reaches_an_executor_and_what_it_computed_once():
    executor = Executor(reading())
    assert executor.plan().prologue, "the square of w must be computed once for this test"
    x = floats(3)
    np.testing.assert_array_equal(executor.run({"x": x})["y"], x)
    executor.scope["w"] = 3.0
    np.testing.assert_array_equal(executor.run({"x": x})["y"], 9 * x)
    np.testing.assert_array_equal(executor.run({"x": x[:1]})["y"], 9 * x[:1])


def test_a_write_reaches_a_predictor_at_all_sizes():
    predictor = Predictor(reading(), {"w": np.float32(2)})
    for n in (1, 5):
        assert predictor(x=np.ones(n, np.float32)).tolist() == [4.0] * n
    predictor.scope["w"] = 5.0
    for n in (5, 1, 0, 7):
        assert predictor(x=np.ones(n, np.float32)).tolist() == [25.0] * n


def test_two_executors_on_one_scope_see_each_others_updates():
    scope = Scope()
    step, look = Executor(counting(), scope), Executor(reading(), scope)
    one = np.ones(1, np.float32)
    for w in (1, 2, 3):
        assert look.run({"x": one})["y"] == w**2
        version = scope.version
        assert step.run({"x": one})["y"] == w**2 and scope["w"] == w + 1
        assert scope.version > version
    version = scope.version
    look.run({"x": one})
    assert scope.version == version, "a Program without updates writes nothing"


def test_a_copy_is_never_torn_by_a_write():
    scope = Scope().initialize(program_of(a=((200_000,), "float32", ("fill", {"value": 0.0}))))
    torn, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            a = scope["a"]
            torn.extend([] if a.min() == a.max() else [a])

    thread = threading.Thread(target=watch)
    thread.start()
    for i in range(100):
        scope["a"] = np.full(200_000, i, np.float32)
    stop.set()
    thread.join()
    assert not torn and scope["a"].max() == 99


def test_states_that_begin_with_zero_are_zero_and_minus_zero_keeps_its_sign():
    program = Program("zeros")
    for name, number in (("plus", 0.0), ("minus", -0.0), ("one", 1.0)):
        program.state[name] = State(Value(name, (3,), "float32"), ("fill", {"value": number}))
    arrays = Scope().initialize(program).arrays
    assert not arrays["plus"].any() and not np.signbit(arrays["plus"]).any()
    assert not arrays["minus"].any() and np.signbit(arrays["minus"]).all()
    assert (arrays["one"] == 1).all()
