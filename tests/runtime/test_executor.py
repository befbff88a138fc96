"""Running Programs: feeds, fetches, state, threads, and errors before anything runs."""

import multiprocessing
import threading

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import (
    ArgumentError,
    DTypeError,
    EngineError,
    MissingError,
    NoriaError,
    ShapeError,
)
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.kernels.numba import jit
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from tests.runtime.programs import N, assert_engine_is_right, build, feeds_of, floats, mlp, value


def counting():
    """Adds x to the state "w" at each step."""

    def fn(b):
        new = o.add(value(b, "w"), b.input("x", (4,)))
        b.update("w", new)
        return {"new": new, "sum": o.reduce_sum(new)}

    return build(fn, "counting", w=np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("feeds", "kind", "texts"),
    [
        ({}, MissingError, ["the feed 'x' is missing", "x: float32[N, 4]"]),
        ({"x": floats(2, 4), "z": 1}, MissingError, ["no input 'z'", "x: float32[N, 4]"]),
        ({"x": floats(2, 5)}, ShapeError, ["another size", "expected 4", "got      5"]),
        ({"x": floats(4)}, ShapeError, ["another rank", "feed 'x'"]),
        ({"x": np.zeros((2, 4))}, DTypeError, ["float64[2, 4]", "astype('float32')"]),
        ({"x": [[1, 2], [3]]}, DTypeError, ["not an array"]),
        ({"x": "text"}, DTypeError, ["another dtype"]),
        ({"x": None}, MissingError, ["the feed 'x' is missing"]),
    ],
)
def test_wrong_feeds_are_told_before_anything_runs(feeds, kind, texts):
    run = Executor(mlp(4, 2))
    with pytest.raises(kind) as error:
        run.run(feeds)
    for text in texts:
        assert text in str(error.value)
    assert run.run({"x": floats(2, 4)})["y"].shape == (2, 2)  # and it still works


def test_an_unknown_fetch_names_the_nearest():
    with pytest.raises(MissingError, match="did you mean 'y'"):
        Executor(mlp(4, 2)).run({"x": floats(2, 4)}, ["yy"])


def test_only_what_is_fetched_is_computed_but_every_update_is_made():
    run = Executor(counting())
    assert run.run({"x": np.ones(4, np.float32)}, []) == {}
    np.testing.assert_array_equal(run.scope["w"], np.ones(4))
    assert set(run.run({"x": np.ones(4, np.float32)}, ["sum"])) == {"sum"}
    np.testing.assert_array_equal(run.scope["w"], np.full(4, 2))
    assert [s.op.type for s in run.plan([]).steps] == ["add"]


def test_fetched_arrays_are_the_callers_own():
    run = Executor(counting())
    first = run.run({"x": np.ones(4, np.float32)})["new"]
    kept = first.copy()
    first += 100
    second = run.run({"x": np.ones(4, np.float32)})["new"]
    np.testing.assert_array_equal(kept, np.ones(4))
    np.testing.assert_array_equal(second, np.full(4, 2))


# ---- a fetched value is never wrong, nor is state -----------------------------------------------


def x_of(b):
    return b.input("x", (4, 4))


def fetched_input(b):
    x = x_of(b)
    return {"x": x, "y": o.exp(o.neg(x))}


def fetched_old_state(b):
    a = value(b, "a")
    b.update("a", o.add(a, x_of(b)))
    return {"old": a}


def fetched_view_of_old_state(b):
    a = value(b, "a")
    flat = o.reshape(a, shape=(16,))
    b.update("a", o.add(a, x_of(b)))
    return {"old": flat, "later": o.neg(flat)}


def fetched_old_and_new_state(b):
    a = value(b, "a")
    new = o.mul(a, x_of(b))
    b.update("a", new)
    return {"old": a, "new": new, "flat": o.reshape(new, shape=(16,))}


def fetched_before_it_could_be_overwritten(b):
    t = o.tanh(x_of(b))
    return {"t": t, "y": o.exp(o.neg(t)), "z": o.square(t)}


def one_value_under_two_names(b):
    t = o.tanh(x_of(b))
    return {"one": t, "two": t, "sum": o.add(t, t)}


def view_of_an_input(b):
    x = x_of(b)
    return {"flat": o.reshape(x, shape=(16,)), "y": o.neg(x), "same": o.identity(x)}


def view_then_in_place(b):
    t = o.tanh(x_of(b))
    flat = o.reshape(t, shape=(16,))
    return {"y": o.exp(flat), "back": o.reshape(o.neg(flat), shape=(4, 4)), "t": o.reduce_sum(t)}


def swapped_states(b):
    a, c = value(b, "a"), value(b, "c")
    b.update("a", c)
    b.update("c", a)
    return {"a": a, "y": o.add(a, x_of(b))}


def three_states_in_a_ring(b):
    a, c, d = (value(b, n) for n in "acd")
    b.update("a", c)
    b.update("c", d)
    b.update("d", o.add(a, x_of(b)))
    return {}


def state_that_stays(b):
    a = value(b, "a")
    b.update("a", a)
    return {"y": o.add(a, x_of(b))}


def state_that_becomes_a_view_of_another(b):
    c = value(b, "c")
    b.update("a", o.reshape(o.reshape(c, shape=(16,)), shape=(4, 4)))
    b.update("c", o.mul(c, x_of(b)))
    return {}


def state_that_becomes_an_input(b):
    x = x_of(b)
    b.update("a", x)
    b.update("c", o.identity(x))
    return {"x": x}


def one_value_for_two_states(b):
    new = o.add(value(b, "a"), x_of(b))
    b.update("a", new)
    b.update("c", new)
    return {"new": new}


def state_updated_and_then_read(b):
    a = value(b, "a")
    new = o.add(a, x_of(b))
    b.update("a", new)
    return {"y": o.matmul(new, a), "z": o.softmax(new, axis=-1)}


def constants_and_fixed_state(b):
    x, a = x_of(b), value(b, "a")
    one = o.fill(shape=(4, 4), value=1.0)
    return {"one": one, "a": a, "t": o.tanh(a), "y": o.add(o.mul(x, o.tanh(a)), one)}


def columns_and_rows(b):
    x = x_of(b)
    t = o.transpose(x, perm=(1, 0))
    return {"t": t, "p": o.matmul(t, x), "y": o.add(t, x), "flat": o.reshape(t, shape=(16,))}


TRAPS = [
    fetched_input,
    fetched_old_state,
    fetched_view_of_old_state,
    fetched_old_and_new_state,
    fetched_before_it_could_be_overwritten,
    one_value_under_two_names,
    view_of_an_input,
    view_then_in_place,
    swapped_states,
    three_states_in_a_ring,
    state_that_stays,
    state_that_becomes_a_view_of_another,
    state_that_becomes_an_input,
    one_value_for_two_states,
    state_updated_and_then_read,
    constants_and_fixed_state,
    columns_and_rows,
]


@pytest.mark.parametrize("kernels", ["all", "reference"])
@pytest.mark.parametrize("trap", TRAPS, ids=lambda f: f.__name__)
def test_what_is_fetched_is_right_and_so_is_state(trap, kernels):
    program = build(trap, **{n: floats(4, 4, seed=ord(n)) for n in "acd"})
    runs = [{"x": floats(4, 4, seed=s)} for s in range(3)]
    if not program.inputs:
        runs = [{}] * 3
    names = list(program.outputs)
    with flags.set(kernels=kernels):
        for optimized in (False, True):
            assert_engine_is_right(program, runs, executor=Executor(program, optimized=optimized))
        for fetch in ([], names[:1], names[::-1]):
            assert_engine_is_right(program, runs, fetch=fetch)


def test_one_executor_serves_any_fetches_in_any_order():
    program = build(fetched_old_and_new_state, a=floats(4, 4))
    run, a = Executor(program), floats(4, 4)
    for step, fetch in enumerate((["old"], [], ["new"], None, ["flat", "old"], ["old"])):
        x = floats(4, 4, seed=step)
        got = run.run({"x": x}, fetch)
        want = {"old": a, "new": a * x, "flat": (a * x).reshape(16)}
        for name in want if fetch is None else fetch:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-6)
        a = a * x
        np.testing.assert_allclose(run.scope["a"], a, rtol=1e-6)


# ---- sizes --------------------------------------------------------------------------------------


def test_a_new_batch_size_is_bound_without_planning_or_compiling():
    program = mlp(8, 16, 4, activation="tanh")
    run = Executor(program)
    for n in (3, 7, 5, 4):  # the code that recipes run is there from then on
        run.run({"x": floats(n, 8)})
    plan, compiled = run.plan(), jit.stats()
    for n in (2, 1, 64):
        run.run({"x": floats(n, 8)})
    assert run.plan() is plan
    assert jit.stats() == compiled


def test_all_batch_sizes_share_one_arena():
    run = Executor(mlp(64, 256, 64))
    large = run.bound({"x": floats(100, 64)})
    small = run.bound({"x": floats(10, 64)})
    assert small.arena is large.arena


@pytest.mark.parametrize("height", [0, 1, 4])
def test_images_that_no_window_fits_are_told_with_the_line(height):
    def fn(b):
        return {"y": o.relu(o.max_pool2d(b.input("x", (N, 2, symbol("H"), 9)), kernel=5, stride=1))}

    executor = Executor(build(fn))
    assert executor.run({"x": floats(2, 2, 5, 9)})["y"].shape == (2, 2, 1, 5)
    with pytest.raises(ShapeError, match="no window fits") as error:
        executor.run({"x": floats(2, 2, height, 9)})
    assert "max_pool2d" in str(error.value) and f"H={height}" in str(error.value)


def test_sizes_that_disagree_are_told_with_the_line():
    def fn(b):
        return {"y": o.add(b.input("x", (N,)), b.input("z", (symbol("M"),)))}

    run = Executor(build(fn))
    run.run({"x": floats(3), "z": floats(3)})
    with pytest.raises(ShapeError) as error:
        run.run({"x": floats(3), "z": floats(4)})
    told = str(error.value)
    assert all(f"\n  {part} " in told for part in ("at", "expected", "got", "try"))
    assert "add at" in told and "test_executor.py" in told


# ---- scopes and threads -------------------------------------------------------------------------


def test_executors_share_a_scope():
    train = counting()
    scope = Scope()
    run = Executor(train, scope)
    look = Executor(build(lambda b: {"twice": o.mul(value(b, "w"), 2.0)}, w=floats(4)), scope)
    for i in range(3):
        run.run({"x": np.ones(4, np.float32)})
        np.testing.assert_array_equal(look.run()["twice"], np.full(4, 2 * (i + 1)))
    scope["w"] = np.full(4, 7, np.float32)
    np.testing.assert_array_equal(look.run()["twice"], np.full(4, 14))


def test_a_team_needs_a_thread():
    with pytest.raises(ArgumentError, match="a team needs a thread"):
        Executor(mlp(4, 2), threads=0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_training(threads):
    program = mlp(32, 64, 8)
    run = Executor(program, threads=threads)
    assert run.threads == threads
    assert_engine_is_right(program, [feeds_of(program, N=n) for n in (1, 50)], executor=run)


def test_two_executors_in_two_threads():
    programs = [mlp(16, 64, 64, 4), mlp(16, 32, 4)]
    runs = [Executor(p) for p in programs]
    feeds = [feeds_of(p, seed=i, N=33) for i, p in enumerate(programs)]
    wanted = [r.run(f)["y"] for r, f in zip(runs, feeds, strict=True)]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(60):
            if not np.array_equal(runs[i].run(feeds[i])["y"], wanted[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(60)
    assert not wrong and not any(w.is_alive() for w in workers)


def _forked(run, queue):
    try:
        run.run({"x": floats(2, 4)})
        queue.put("ran")
    except EngineError as error:
        queue.put(str(error))


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning", "ignore:os.fork:RuntimeWarning"
)
def test_a_fork_after_use_is_an_error_and_does_not_hang():
    run = Executor(mlp(4, 2))
    run.run({"x": floats(2, 4)})
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_forked, args=(run, queue))
    child.start()
    told = queue.get(timeout=30)
    child.join(30)
    assert "forked" in told and "spawn" in told


def test_a_failing_step_names_the_op_and_the_users_line():
    def fn(b):
        return {"row": o.embedding(value(b, "t"), b.input("ids", (N,), "int64"))}

    run = Executor(build(fn, t=floats(5, 3)))
    with pytest.raises(NoriaError, match=r"(?s)an id is outside the table.*embedding at .*got +9"):
        run.run({"ids": np.array([0, 9])})
    assert run.run({"ids": np.array([4])})["row"].shape == (1, 3)


def test_validation_passes_on_a_right_program():
    program = mlp(7, 17, 3)
    with flags.set(validate=True):
        assert_engine_is_right(program, [feeds_of(program, N=n) for n in (1, 3)])


# ---- precision ---------------------------------------------------------------------------------


def test_an_executor_has_a_precision():
    program = mlp(5, 7, 3)
    wide, half = Executor(program), Executor(program, precision="bf16")
    assert (wide.precision, half.precision) == ("float32", "bf16")
    with flags.set(precision="bf16"):
        assert Executor(program).precision == "bf16"
    feeds = {"x": floats(9, 5)}
    want, got = (e.run(feeds) for e in (wide, half))
    for name in want:
        assert got[name].dtype == want[name].dtype
        assert np.allclose(got[name], want[name], atol=3e-2)
    assert "bfloat16" in str(half.plan().program)
    assert all(a.dtype != "bfloat16" for a in half.scope.arrays.values())
    with pytest.raises(ArgumentError, match="float32 or bf16"):
        Executor(program, precision="half")
