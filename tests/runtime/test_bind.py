"""A fetched value is never wrong, whatever memory is reused: Programs built to break aliasing."""

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.ops.index import nonzero
from noria.ops.loops import while_loop
from noria.runtime.executor import Executor
from tests.runtime.fuzz import Fuzz
from tests.runtime.programs import N, assert_engine_is_right, build, feeds_of, floats, mlp, value


@pytest.fixture(autouse=True)
def _proved():
    with flags.set(check_memory=True):
        yield


@pytest.mark.parametrize("kernels", ["all", "reference"])
@pytest.mark.parametrize("seed", range(25))
def test_random_programs_full_of_views_and_updates(seed, kernels):
    program = Fuzz(seed).program
    runs = [feeds_of(program, seed=i, N=n) for i, n in enumerate((3, 1, 3, 5))]
    with flags.set(kernels=kernels):
        assert_engine_is_right(program, runs)


def test_inputs_and_their_views_can_be_fetched():
    def fn(b):
        x = b.input("x", (N, 4))
        view = o.reshape(x, shape=(4 * N,))
        return {"x": x, "view": view, "after": o.neg(view), "also": o.relu(x)}

    program = build(fn)
    assert_engine_is_right(program, [feeds_of(program, N=n) for n in (3, 2)])


def test_a_value_used_in_place_later_is_fetched_as_it_was():
    def fn(b):
        y = o.square(b.input("x", (N, 4)))
        return {"y": y, "z": o.exp(o.neg(y)), "y again": y}

    program = build(fn)
    assert_engine_is_right(program, [feeds_of(program, N=3)])


def test_a_fetched_state_is_the_one_before_the_step():
    def fn(b):
        w = value(b, "w")
        b.update("w", o.add(w, b.input("x", (4,))))
        return {"old": w, "view": o.reshape(w, shape=(2, 2)), "double": o.mul(w, 2.0)}

    program = build(fn, w=floats(4))
    run = assert_engine_is_right(program, [feeds_of(program, seed=i) for i in range(3)])
    assert len(run.plan().program.updates) == 1


def test_swapped_states():
    def fn(b):
        b.update("a", value(b, "b"))
        b.update("b", value(b, "a"))
        return {"sum": o.add(value(b, "a"), value(b, "b"))}

    program = build(fn, a=floats(4), b=floats(4, seed=1))
    assert_engine_is_right(program, [{}] * 3)


def test_two_states_take_the_same_value_and_one_takes_another_state():
    def fn(b):
        new = o.mul(value(b, "a"), 0.5)
        b.update("a", new)
        b.update("b", new)
        b.update("c", value(b, "a"))
        b.update("d", value(b, "d"))
        return {"new": new}

    program = build(fn, a=floats(4), b=floats(4, seed=1), c=floats(4, seed=2), d=floats(4, seed=3))
    assert_engine_is_right(program, [{}] * 3)


def test_an_update_waits_for_the_last_reader_of_the_old_value():
    def fn(b):
        w = value(b, "w")
        new = o.sub(w, 1.0)
        b.update("w", new)
        return {"late": o.reduce_sum(o.mul(o.exp(new), w))}

    program = build(fn, w=floats(5))
    assert_engine_is_right(program, [{}] * 2)


def test_a_parameter_is_updated_in_its_own_memory():
    def fn(b):
        rate = o.fill(shape=(), value=0.1)
        b.update("w", o.sgd_update(value(b, "w"), b.input("g", (1000,)), rate))
        return {}

    run = Executor(build(fn, w=floats(1000)))
    feeds = {"g": np.ones(1000, np.float32)}
    before = run.scope["w"]
    run.run(feeds)
    np.testing.assert_allclose(run.scope["w"], before - 0.1, rtol=1e-5)
    assert run.bound(feeds).arena_bytes < 2 * 4096  # the gradient, no second copy of w


def test_sizes_that_must_agree_are_told_with_op_and_line():
    program = trace(lambda a, b: o.add(a, b), a=spec("N"), b=spec("M"))
    with pytest.raises(ValueError, match=r"(?s)add at .*N equal to M.*3 and 4") as e:
        Executor(program).run({"a": floats(3), "b": floats(4)})
    assert "add at" in str(e.value) and "test_bind.py" in str(e.value)


def test_a_new_batch_size_binds_again_and_plans_nothing():
    program = mlp(4, 8, 2)
    run = Executor(program)
    plan = run.plan()
    for n in (1, 7, 64, 7):
        assert_engine_is_right(program, [feeds_of(program, N=n)], executor=run)
    assert run.plan() is plan


def test_an_empty_batch():
    program = mlp(4, 8, 2)
    assert Executor(program).run({"x": np.zeros((0, 4), np.float32)})["y"].shape == (0, 2)


def test_sizes_only_the_run_tells():
    def fn(b):
        x = b.input("x", (N,))
        where = nonzero(o.greater(x, 0.0), size="K")
        kept = o.gather(x, o.reshape(where, shape=(-1,)), axis=0)
        return {"kept": kept, "sum": o.reduce_sum(o.square(kept)), "plain": o.neg(x)}

    program = build(fn)
    runs = [{"x": np.array(v, np.float32)} for v in ([1, -1, 2], [-1, -2, -3], [3, 2, 1])]
    assert_engine_is_right(program, runs)


def test_a_loop_whose_trip_count_is_data():
    def fn(b):
        w = value(b, "w")
        last, total = while_loop(
            lambda v: o.less(o.reduce_max(v[0]), 100.0),
            lambda v: (o.mul(v[0], 2.0), o.add(v[1], o.reduce_sum(o.mul(v[0], w)))),
            (b.input("x", (N,)), o.fill(shape=(), value=0.0)),
        )
        return {"last": last, "total": total}

    program = build(fn, w=np.float32(0.5))
    runs = [{"x": np.array(v, np.float32)} for v in ([1, 2], [99.0, 3], [200.0, 1, 1])]
    assert_engine_is_right(program, runs)


def test_non_contiguous_feeds():
    program = mlp(4, 8, 2)
    strided, turned = floats(8, 6)[::2, 1:5], floats(4, 5).T
    assert_engine_is_right(program, [{"x": strided}, {"x": turned}, {"x": strided[::-1]}])
