"""Running Programs: feeds, fetches, state, threads, and errors before anything runs."""

import multiprocessing
import threading

import numpy as np
import pytest

from noria.core.errors import DTypeError, EngineError, MissingError, NoriaError, ShapeError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
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
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
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
