"""Rows run in order; ranges, failures, times, threads, fork."""

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.kernels.call import Call
from noria.kernels.numba import jit, loader, parallel
from noria.runtime.tape import RowFailed, Tape

APPEND = """
def append(args):
    log = load_int64(args, 0)
    count = load_int64(log, 0) + 1
    store_int64(log, 0, count)
    store_int64(log, count, load_int64(args, 1))
    return load_int64(args, 2)
"""
SQUARES = """
def squares(args):
    x, y, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    team, me = team_size(), thread_id()
    for i in range(n * me // team, n * (me + 1) // team):
        independent()
        store_float32(y, i, load_float32(x, i) * load_float32(x, i))
    return 0
"""
NAP = """
def nap(args):
    start = now()
    while now() - start < load_int64(args, 0):
        pass
    return 0
"""


@pytest.fixture
def log():
    return np.zeros(64, np.int64)


def written(log):
    return log[1 : log[0] + 1].tolist()


def append(log, value, status=0):
    """A row that notes `value` in the log."""
    kernel = jit.compile_source(APPEND, "append")
    table = np.array([log.ctypes.data, value, status], np.int64)
    return Call(f"append {value}", kernel.address, (table.ctypes.data, 0, 0, 0), (kernel, table))


def squares(x, y, threads=1):
    kernel = jit.compile_source(SQUARES, "squares")
    table = np.array([x.ctypes.data, y.ctypes.data, x.size], np.int64)
    call = Call("squares", kernel.address, (table.ctypes.data, 0, 0, 0), (kernel, table, x, y))
    return parallel.parallel(call, threads=threads)


def test_rows_run_in_order_again_and_again(log):
    tape = Tape([append(log, v) for v in (5, 6, 7)])
    tape.run()
    tape.run()
    assert written(log) == [5, 6, 7, 5, 6, 7] and len(tape) == 3


def test_an_empty_tape_runs():
    tape = Tape([])
    tape.run()
    assert tape.run_timed().shape == (0, 2) and tape.table.shape == (0, 5)


def test_all_four_arguments_arrive():
    """memcpy returns its target, whose low 32 bits are taken for a status: failure, but done."""
    source, target = np.arange(8, dtype=np.uint8), np.zeros(8, np.uint8)
    memcpy = ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value
    call = Call("memcpy", memcpy, (target.ctypes.data, source.ctypes.data, 8, 0), None)
    with pytest.raises(EngineError, match="memcpy failed"):
        Tape([call]).run()
    np.testing.assert_array_equal(target, source)


def test_only_the_low_half_of_a_status_counts(log):
    tape = Tape([append(log, 1, status=1 << 32), append(log, 2, status=-(1 << 40))])
    tape.run()
    assert written(log) == [1, 2]


@pytest.mark.parametrize("timed", [False, True])
def test_a_failing_row_is_named_and_ends_the_run(timed, log):
    tape = Tape([append(log, 1), append(log, 2, status=-3), append(log, 3)])
    with pytest.raises(EngineError) as caught:
        tape.run_timed() if timed else tape.run()
    assert "append 2 failed" in str(caught.value)
    assert caught.value.where == "row 1 of 3 of the tape" and caught.value.got == "status -3"
    assert isinstance(caught.value, RowFailed) and caught.value.row == 1
    assert written(log) == [1, 2]


def test_a_tape_runs_again_after_a_failure(log):
    tape = Tape([append(log, 1), append(log, 2, status=9)])
    for _ in range(2):
        with pytest.raises(EngineError, match="append 2 failed"):
            tape.run()
    assert written(log) == [1, 2, 1, 2]
    tape.run(0, 1)


def test_a_range_of_rows_runs_alone(log):
    tape = Tape([append(log, v) for v in range(5)])
    tape.run(1, 3)
    tape.run(4)
    tape.run(stop=1)
    tape.run(2, 2)
    assert written(log) == [1, 2, 4, 0]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 6), (6, None)])
def test_a_range_outside_the_tape_is_refused(start, stop, log):
    tape = Tape([append(log, v) for v in range(5)])
    for run in (tape.run, tape.run_timed):
        with pytest.raises(ArgumentError, match="no such rows"):
            run(start, stop)
    assert written(log) == []


def test_rows_may_be_changed_in_place(log):
    tape = Tape([append(log, 1), append(log, 2)])
    other = append(log, 9)
    tape.table[0] = (other.fn, *other.args)
    tape.run()
    assert written(log) == [9, 2]


def test_times_are_the_beginning_and_end_of_each_row():
    kernel = jit.compile_source(NAP, "nap")
    length = np.array([3_000_000, 1_000_000], np.int64)
    calls = [
        Call("nap", kernel.address, (length[i:].ctypes.data, 0, 0, 0), length) for i in range(2)
    ]
    before = time.perf_counter_ns()
    times = Tape(calls).run_timed()
    after = time.perf_counter_ns()
    assert times.dtype == np.int64 and np.all(times[:, 1] - times[:, 0] >= length)
    assert before <= times[0, 0] and times[0, 1] <= times[1, 0] and times[1, 1] <= after
    assert not Tape(calls).run_timed(1)[0].any()


def test_the_tape_keeps_what_its_rows_need():
    class Witness:
        pass

    witness = Witness()
    alive = weakref.ref(witness)
    kernel = jit.compile_source(NAP, "nap")
    tape = Tape([Call("nap", kernel.address, (0, 0, 0, 0), witness)])
    del witness
    assert alive() is not None
    del tape
    assert alive() is None


def test_different_tapes_run_at_the_same_time_with_the_gil_released():
    """Each thread has teams of its own; more threads than CPUs."""
    failures = []

    def work(seed):
        x = np.random.default_rng(seed).standard_normal(20_000).astype(np.float32)
        y = np.zeros_like(x)
        tape = Tape([squares(x, y, threads=1 + seed % 3)] * 5)
        for _ in range(50):
            y[:] = 0
            tape.run()
            if not np.array_equal(y, x * x):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_the_gil_is_free_while_a_tape_runs():
    kernel = jit.compile_source(NAP, "nap")
    length = np.array([300_000_000], np.int64)
    tape = Tape([Call("nap", kernel.address, (length.ctypes.data, 0, 0, 0), length)])
    thread = threading.Thread(target=tape.run)
    thread.start()
    ticks = 0
    while thread.is_alive():
        thread.join(0.005)
        ticks += 1
    assert ticks > 10


def test_one_tape_in_two_threads_runs_one_after_the_other(log):
    """The rows share their memory: no append is lost."""
    big = np.zeros(8001, np.int64)
    tape = Tape([append(big, v) for v in range(4)])

    def work():
        for _ in range(500):
            tape.run()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert written(big) == [0, 1, 2, 3] * 2000


@pytest.mark.skipif(loader.openmp() is None, reason="this system has no libgomp")
def test_a_tape_gives_its_thread_the_team_size_it_was_made_with():
    with parallel.team(3):
        tape = Tape([])
    seen = []

    def work():
        tape.run()
        seen.append(loader.openmp().omp_get_max_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [3]


FORKED = """
    import os
    import numpy as np
    from noria.core.errors import EngineError
    from noria.kernels.call import Call
    from noria.kernels.numba import jit, parallel
    from noria.runtime.tape import RowFailed, Tape

    kernel = jit.compile_source("def kernel(args):\\n    return 0\\n", "kernel")
    tape = Tape([parallel.parallel(Call("k", kernel.address, (0,) * 4, kernel), threads=2)])

    def child(run):
        pid = os.fork()
        if pid == 0:
            try:
                run()
                os._exit(7)
            except EngineError as error:
                os._exit(8 if "forked" in str(error) else 9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    print(child(tape.run), end=" ")
    tape.run()
    print(child(tape.run), child(tape.run_timed), end=" ")
    tape.run()
    print("parent runs")
"""


def test_a_fork_after_use_meets_an_error_instead_of_a_hang():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(FORKED)],
        env=os.environ | {"NORIA_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "7 8 8 parent runs", done.stderr
