"""Small steps side by side: which they are, what they compute, what happens when one fails."""

import threading
from pathlib import Path

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.kernels.numba import parallel
from noria.runtime import branches
from noria.runtime.executor import Executor
from noria.runtime.tape import Tape
from tests.runtime.binding import bind, step
from tests.runtime.fuzz import Fuzz
from tests.runtime.programs import N, build, feeds_of, floats

ENGINES = frozenset({"numba"})


@pytest.fixture
def eager(monkeypatch):
    """Whatever could run side by side does."""
    monkeypatch.setattr(branches, "LEAST", 0)
    monkeypatch.setattr(branches, "OVERHEAD", 0)


def towers(count=4, depth=3):
    def fn(b):
        x = b.input("x", (N, 8))
        ys = []
        for t in range(count):
            y = o.mul(x, float(t + 1))
            for _ in range(depth):
                y = o.softmax(o.tanh(y), axis=1)
            ys.append(y)
        return {"y": o.concat(*ys, axis=1)}

    return build(fn)


def lists_of(bound):
    """Per group and thread the positions of its items."""
    at = {item: t for t, item in enumerate(bound.items)}
    return [[[at[i] for i in one] for one in lists] for lists in bound.groups.values()]


def names(bound):
    """Of each tape the rows, found through the closure of its action."""
    found = []
    for action in bound.actions:
        cells = [c.cell_contents for c in action.__closure__ or ()]
        tapes = [c.__self__ for c in cells if isinstance(getattr(c, "__self__", 0), Tape)]
        found += [[call.name for call in tape.calls] for tape in tapes]
    return found


def both(program, sizes, *arrays, threads=2):
    """Results and Bounds with branches and without."""
    made = []
    for on in (True, False):
        with flags.set(branches=on, check_memory=True):
            bound = bind(program, sizes, ENGINES, threads=threads)
        made.append((bound, step(bound, *arrays)))
    return made


def test_towers_are_shared_out_to_threads(eager, fast_kernels):
    (bound, got), (plain, expected) = both(towers(), {"N": 3}, floats(3, 8))
    assert any("side by side" in tape for tape in names(bound))
    assert not any("side by side" in tape for tape in names(plain)) and not plain.groups
    lists = max(lists_of(bound), key=lambda some: sum(map(len, some)))
    assert len(lists) == 2 and abs(len(lists[0]) - len(lists[1])) <= 3
    assert np.array_equal(got["y"], expected["y"])


def test_little_work_is_not_worth_a_team(fast_kernels):
    (bound, _), _ = both(towers(), {"N": 3}, floats(3, 8))
    assert not bound.groups


def test_what_pays_runs_side_by_side_without_being_asked(fast_kernels):
    (bound, got), (_, expected) = both(towers(6, 3), {"N": 600}, floats(600, 8))
    assert bound.groups
    assert np.array_equal(got["y"], expected["y"])


def of_sizes(program, *sizes):
    """Bounds of one Executor, and results as without groups."""
    executor, found = Executor(program, threads=2), []
    with flags.set(branches=False):
        plain = Executor(program, threads=2)
    for n in sizes:
        feeds = {"x": floats(n, 8)}
        got = executor.run(feeds)["y"]
        with flags.set(branches=False):
            assert np.array_equal(got, plain.run(feeds)["y"])
        found.append(executor.bound(feeds))
    return found


def test_where_they_pay_other_sizes_have_them_too(fast_kernels):
    bounds = of_sizes(towers(6, 3), 600, 500, 550, 450)
    assert len({b._mold for b in bounds}) == 1 and all(b.groups for b in bounds)


def test_where_they_save_little_other_sizes_follow_a_recipe(fast_kernels, monkeypatch):
    monkeypatch.setattr(branches, "PART", 1)
    first, *others, last = of_sizes(towers(6, 3), 600, 500, 550, 450)
    assert first.groups and not any(b.groups for b in others)
    assert "_recipe" in vars(last)


def test_one_thread_has_nobody_beside_it(eager, fast_kernels):
    (bound, _), _ = both(towers(), {"N": 3}, floats(3, 8), threads=1)
    assert not bound.groups


def test_no_group_uses_what_another_thread_writes(eager, fast_kernels):
    for seed in range(40):
        fuzz = Fuzz(seed)
        bound = bind(fuzz.program, {"N": 3}, ENGINES, threads=3)
        for lists in bound.groups.values():
            used = [[u for i in one for u in branches._used(i, bound.memory)] for one in lists]
            for n, mine in enumerate(used):
                written = {id(b) for b, w in mine if w}
                others = {id(b) for m, some in enumerate(used) if m != n for b, _ in some}
                assert not written & others


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_random_programs_compute_the_same_and_update_state_alike(eager, fast_kernels, threads):
    together = 0
    for seed in range(30):
        program = Fuzz(seed).program
        feeds = list(feeds_of(program, N=3).values())
        (bound, got), (plain, expected) = both(program, {"N": 3}, *feeds, threads=threads)
        together += len(bound.groups)
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name])
        got, expected = step(bound, *feeds), step(plain, *feeds)
        for name in plain.state:
            np.testing.assert_array_equal(bound.state[name], plain.state[name])
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name])
    assert together > 10


def test_the_one_that_failed_is_named(eager, fast_kernels):
    def fn(b):
        x, ids = b.input("x", (N, 8)), b.input("ids", (N,), "int64")
        good = o.embedding(b.input("w", (5, 8)), ids)
        bad = o.embedding(b.input("v", (5, 8)), o.add(ids, 3))
        return {"a": o.tanh(good), "b": o.tanh(bad), "c": o.softmax(x, axis=1)}

    bound = bind(build(fn), {"N": 2}, ENGINES, threads=2)
    assert any("side by side" in tape for tape in names(bound))
    rows = floats(2, 8), [0, 1], floats(5, 8), floats(5, 8)
    step(bound, *rows)
    with pytest.raises(ArgumentError) as error:
        step(bound, rows[0], [0, 4], *rows[2:])
    line = int(error.value.where.split(":")[-1])
    assert "bad = " in Path(__file__).read_text().splitlines()[line - 1]
    assert np.isfinite(step(bound, *rows)["b"]).all()


def test_two_python_threads_run_groups_of_their_own(eager, fast_kernels):
    program, x = towers(), floats(3, 8)
    bounds = [bind(program, {"N": 3}, ENGINES, threads=2) for _ in range(2)]
    expected = step(bind(program, {"N": 3}, ENGINES, threads=1), x)["y"]
    wrong = []

    def run(bound):
        for _ in range(200):
            if not np.array_equal(step(bound, x)["y"], expected):
                wrong.append(bound)

    workers = [threading.Thread(target=run, args=(bound,)) for bound in bounds]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not wrong and not any(worker.is_alive() for worker in workers)


def test_looking_for_nan_keeps_the_order_of_the_plan(eager, fast_kernels):
    with flags.set(check_finite="nan"):
        assert not bind(towers(), {"N": 3}, ENGINES, threads=2).groups


def test_a_group_needs_as_much_work_as_any_other_team():
    assert branches.LEAST == parallel.SERIAL_BELOW
