"""Teams: every element once, whatever the team; failures; sizes; and the fork that ends them."""

import os

import numpy as np
import pytest

from noria.core import machine
from noria.core.errors import ArgumentError
from noria.kernels.call import Call, run
from noria.kernels.numba import jit, loader, parallel

SHARED = """
def kernel(args):
    x, y, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    team, me = team_size(), thread_id()
    for i in range(n * me // team, n * (me + 1) // team):
        store_float32(y, i, load_float32(y, i) + load_float32(x, i))
    return 0
"""
needs_openmp = pytest.mark.skipif(loader.openmp() is None, reason="this system has no libgomp")


def kernel_call(text, *values):
    kernel = jit.compile_source(text, "kernel")
    table = np.array([v.ctypes.data if isinstance(v, np.ndarray) else v for v in values], np.int64)
    return Call("kernel", kernel.address, (table.ctypes.data, 0, 0, 0), (kernel, table, values))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 1000, 65_537])
def test_every_element_is_done_once_by_any_team(threads, size):
    x, y = np.arange(size, dtype=np.float32), np.ones(size, np.float32)
    call = parallel.parallel(kernel_call(SHARED, x, y, size), threads=threads)
    run(call)
    np.testing.assert_array_equal(y, x + 1)
    run(call)
    np.testing.assert_array_equal(y, 2 * x + 1)


@needs_openmp
def test_a_team_has_the_size_asked_for_and_meets_at_barriers():
    text = """
def kernel(args):
    seen, late = load_int64(args, 0), load_int64(args, 1)
    store_int64(seen, thread_id(), team_size())
    barrier()
    total = 0
    for i in range(team_size()):
        total += load_int64(seen, i)
    store_int64(late, thread_id(), total)
    return 0
"""
    seen, late = np.zeros((2, 5), np.int64)
    run(parallel.parallel(kernel_call(text, seen, late), threads=5))
    assert seen.tolist() == [5] * 5 and late.tolist() == [25] * 5


@needs_openmp
def test_one_failing_thread_fails_the_row():
    text = "def kernel(args):\n    return where(thread_id() == load_int64(args, 0), 77, 0)\n"
    fine, bad = kernel_call(text, 9), kernel_call(text, 2)
    run(parallel.parallel(fine, threads=3))
    row = parallel.parallel(bad, threads=3)
    for _ in range(2):
        with pytest.raises(Exception, match="kernel failed") as caught:
            run(row)
        assert "77" in str(caught.value)


@needs_openmp
def test_small_work_stays_on_one_thread():
    call = kernel_call(SHARED, 0, 0, 0)
    with parallel.team(2):
        small = parallel.parallel(call, bytes=500_000, ops=100_000)
        assert small.fn == call.fn and small.args == call.args
        assert small.alone == 500_000 / parallel.BYTES and parallel.parallel(call).alone > 0
        assert parallel.parallel(call, bytes=50_000_000).fn != call.fn
        assert parallel.parallel(call, bytes=50_000_000).alone == 0
        assert parallel.parallel(call, ops=50_000_000).fn != call.fn
    with parallel.team(1):
        assert parallel.parallel(call, bytes=50_000_000) is call


@needs_openmp
def test_a_row_keeps_its_kernel_and_name():
    call = kernel_call(SHARED, 0, 0, 0)
    row = parallel.parallel(call, threads=2)
    assert row.name == "kernel" and row.keep[0] is call.keep


@needs_openmp
def test_threads_come_from_the_team_then_the_environment_then_the_cpus(monkeypatch):
    monkeypatch.delenv("NORIA_THREADS", raising=False)
    monkeypatch.setattr(machine, "quota", lambda: 1 << 30)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 5})
    assert parallel.thread_count() == 3
    monkeypatch.setattr(machine, "quota", lambda: 2)
    assert parallel.thread_count() == 2
    monkeypatch.setenv("NORIA_THREADS", "6")
    assert parallel.thread_count() == 6
    with parallel.team(4):
        assert parallel.thread_count() == 4
        assert loader.openmp().omp_get_max_threads() == 4
    assert parallel.thread_count() == 6


def test_a_team_without_threads_is_refused():
    for count in (0, -1):
        with pytest.raises(ArgumentError, match="a team needs a thread"), parallel.team(count):
            pass


FORKED = """
    import os, sys
    from noria.core.errors import EngineError
    from noria.kernels.numba import parallel

    def child(expected):
        pid = os.fork()
        if pid == 0:
            try:
                parallel.enter()
                os._exit(0 if expected == "runs" else 1)
            except EngineError as error:
                os._exit(0 if expected == "error" and "spawn" in error.hint else 1)
        assert os.waitpid(pid, 0)[1] == 0, expected

    child("runs")
    parallel.enter()
    child("error")
    child("error")
    parallel.enter()
    print("done")
"""


LIMITED = """
    import numpy as np
    import noria
    from noria import nn, ops, optim
    from noria.kernels.numba import parallel

    layer = nn.Linear(300, 200)
    program = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(layer(x)))}, x=noria.spec(900, 300)
    )
    executor = noria.Executor(optim.SGD(0.1).minimize(program), threads=8)
    losses = [executor.run({"x": np.ones((900, 300), np.float32)})["loss"] for _ in range(3)]
    assert losses[2] < losses[0]
    print(executor.threads, parallel.thread_count())
"""


@needs_openmp
@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"OMP_THREAD_LIMIT": "1"}, "1 1"),
        ({"OMP_THREAD_LIMIT": "3"}, "3 3"),
        ({"OMP_MAX_ACTIVE_LEVELS": "0"}, "1 1"),
        ({"OMP_DYNAMIC": "true"}, "8 6"),
    ],
)
def test_a_team_is_no_larger_than_openmp_gives_and_never_waits_for_more(fresh_python, limit, told):
    assert fresh_python(LIMITED, NORIA_THREADS="6", **limit) == told


def test_a_process_forked_after_use_is_told_so_and_one_forked_before_runs(fresh_python):
    assert fresh_python(FORKED) == "done"
