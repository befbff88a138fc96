"""The operator that gives the first NaN or infinity is found, and nothing else happens."""

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ArgumentError, NonFiniteError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.kernels.numba import jit, parallel
from noria.kernels.registry import Array
from noria.nn.layers import BatchNorm2d, Conv2d
from noria.nn.module import Sequential
from noria.ops.loops import scan
from noria.optim.optimizer import Adam
from noria.runtime.executor import Executor
from noria.runtime.finite import check_calls
from noria.runtime.predictor import Predictor
from noria.runtime.tape import RowFailed, Tape
from tests.runtime.binding import Negate
from tests.runtime.programs import N, assert_engine_is_right, build, feeds_of, floats, mlp, value

KERNELS = ("all", "reference")


def failure(program, feeds, kernels="all", mode="all", **how):
    """The error of one step."""
    with flags.set(kernels=kernels), pytest.raises(NonFiniteError) as caught:
        Executor(program, check_finite=mode, **how).run(feeds)
    return caught.value


def logarithm(b):
    x = b.input("x", (N, 4))
    return {"y": o.matmul(o.log(o.sub(x, 1.0)), value(b, "w"))}


FEEDS = {"x": np.array([[2, 3, 4, 5], [2, 0.5, 9, 2]], np.float32)}


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("optimized", [True, False])
def test_the_operator_is_named_with_line_place_and_inputs(kernels, optimized):
    program = build(logarithm, w=floats(4, 4))
    error = failure(program, FEEDS, kernels, optimized=optimized)
    assert error.op.type == "log" and error.value == "log" and error.index == (1, 1)
    assert np.isnan(error.number) and error.count == 1 and error.finite == {"sub": True}
    text = str(error)
    assert text.startswith("log gave NaN\n") and "test_finite.py:" in error.where
    assert "log: float32[2, 4], 1 NaN of 8; the first at [1, 1]: nan" in text
    assert "from sub: float32[2, 4], finite, from -0.5 to 8" in text
    assert "it holds 0 or less" in error.hint
    assert ("inside fused" in error.where) is (kernels == "all" and not optimized)


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("kernels", KERNELS)
def test_infinity_is_found_unless_only_nan_is_looked_for(kernels):
    program = build(lambda b: {"y": o.neg(o.exp(b.input("x", (N,))))})
    feeds = {"x": np.array([1.0, 200.0], np.float32)}
    error = failure(program, feeds, kernels)
    assert error.what == "exp gave infinity" and "subtract the maximum" in error.hint
    got = Executor(program, check_finite="nan").run(feeds)["y"]
    assert got[1] == -np.inf


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("kernels", KERNELS)
def test_state_is_untouched(kernels):
    net = Sequential(Conv2d(1, 3, 3), BatchNorm2d(3))

    def step(x):
        return {"loss": o.reduce_mean(o.square(net(x)))}

    program = Adam(0.1).minimize(trace(step, x=spec("N", 1, 6, 6)))
    with flags.set(kernels=kernels):
        executor = Executor(program, check_finite=True)
        good, bad = floats(2, 1, 6, 6), floats(2, 1, 6, 6)
        bad[1, 0, 2, 2] = np.inf
        executor.run({"x": good})
        before = executor.scope.state()
        with pytest.raises(NonFiniteError):
            executor.run({"x": bad})
        for name, array in executor.scope.state().items():
            assert np.array_equal(array, before[name]), name
        executor.run({"x": good})  # and training goes on
        assert executor.scope["optimizer.step"] == 2


def test_the_last_update_counts_too():
    def fn(b):
        w = value(b, "w")
        b.update("w", o.div(w, b.input("x", ())))
        b.update("v", o.add(value(b, "v"), 1.0))
        return {}

    executor = Executor(build(fn, w=floats(3), v=floats(3)), check_finite=True)
    before = executor.scope.state()
    with pytest.raises(NonFiniteError) as caught:
        executor.run({"x": np.float32(0)})
    assert "the divisor holds 0" in caught.value.hint
    assert all(np.array_equal(a, before[n]) for n, a in executor.scope.state().items())


def test_what_comes_in_bad_is_told_as_such():
    program = build(logarithm, w=floats(4, 4))
    error = failure(program, {"x": np.full((1, 4), np.nan, np.float32)})
    assert not error.finite["x"] and "not finite (4 NaN of 4)" in str(error)
    assert "feeds" in error.hint


def test_results_are_the_same_while_nothing_is_wrong():
    program = mlp(8, 16, 4)
    runs = [feeds_of(program, N=n) for n in (3, 1, 0)]
    assert_engine_is_right(program, runs, executor=Executor(program, check_finite=True))


def test_the_flag_does_the_same_for_everything_bound_under_it():
    program = build(logarithm, w=floats(4, 4))
    with flags.set(check_finite="1"), pytest.raises(NonFiniteError, match="log gave NaN"):
        Executor(program).run(FEEDS)
    with flags.set(check_finite="nan"), pytest.raises(NonFiniteError):
        Predictor(program, {"w": floats(4, 4)}).run(FEEDS)
    assert np.isnan(Executor(program).run(FEEDS)["y"]).any()
    with pytest.raises(ArgumentError, match="check_finite"):
        Executor(program, check_finite="sometimes")


def test_inside_loops_the_operator_is_named_too():
    def fn(b):
        x = b.input("x", (5, 3))
        start = b.input("start", (3,))
        _, ys = scan(lambda c, s: (o.add(c, s), o.log(o.sub(c, s))), start, x)
        return {"y": ys}

    feeds = {"x": np.ones((5, 3), np.float32), "start": np.zeros(3, np.float32)}
    error = failure(build(fn), feeds)
    assert error.op.type == "log" and "test_finite.py" in error.where


def test_constants_may_be_infinite():
    def fn(b):
        x = b.input("x", (N,))
        return {"y": o.maximum(x, o.fill(shape=(), value=-np.inf))}

    got = Executor(build(fn), check_finite=True).run({"x": floats(3)})["y"]
    assert np.array_equal(got, floats(3))


@pytest.mark.usefixtures("fast_kernels")
def test_a_kernel_that_alone_is_wrong_is_told(own_kernels):
    class Broken(Negate):
        name = "test:broken"
        source = Negate.source.replace("-load_float32(x, i)", "float32(0) / float32(0)")

    own_kernels(Broken())
    program = build(lambda b: {"y": o.relu(b.input("x", (N, 4)))})
    with flags.set(kernels="test"):
        error = failure(program, {"x": floats(3, 4)}, kernels="test", optimized=True)
    assert "on test:broken, where the reference gives finite numbers" in error.where


# ---- the rows that look --------------------------------------------------------------------------

FLOATS = ("float64", "float32", "float16", "bfloat16")


def is_bad(mode, array, threads=1):
    operand = Array(
        array.shape, str(array.dtype), tuple(s // array.itemsize for s in array.strides)
    )
    with parallel.always():
        tape = Tape(check_calls(mode, array.ctypes.data, operand, threads), threads)
    try:
        tape.run()
    except RowFailed:
        return True
    return False


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("threads", [1, 3])
def test_one_bad_number_anywhere_is_seen(dtype, threads):
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    for size in (1, 7, 64, 1000):
        for at in {0, size // 2, size - 1}:
            for number, modes in (
                (np.nan, ("nan", "all")),
                (np.inf, ("all",)),
                (-np.inf, ("all",)),
            ):
                array = np.full(size, -1.5, kind)
                array[at] = number
                assert [m for m in ("nan", "all") if is_bad(m, array, threads)] == list(modes)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_the_smallest_and_denormal_numbers_are_finite(dtype):
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    about = ml_dtypes.finfo(kind)
    numbers = [about.max, about.min, about.smallest_subnormal, -about.smallest_subnormal, 0, -0.0]
    assert not is_bad("all", np.array(numbers, kind))


def test_other_dtypes_and_empty_arrays_are_not_looked_at():
    assert check_calls("all", 0, Array((3,), "int64", (1,)), 1) == []
    assert check_calls("all", 0, Array((0,), "float32", (1,)), 1) == []


def test_looking_costs_no_compiling_at_each_array():
    check_calls("all", 8, Array((3,), "float32", (1,)), 1)
    before = jit.stats()
    check_calls("all", 8, Array((5, 7), "float32", (7, 1)), 1)
    assert jit.stats() == before
