"""The tape: native calls in an int64 table, run by one compiled loop with the GIL released.

A row is `fn(a0, a1, a2, a3) -> status`. Python is entered once for a whole tape (under a
microsecond); a row costs some nanoseconds besides what it calls.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from array import array
from collections.abc import Callable, Sequence

import numpy as np

from noria.core.errors import ArgumentError, EngineError
from noria.kernels.call import Call
from noria.kernels.numba import jit, parallel

COLUMNS = 5  # fn, a0, a1, a2, a3
# What a runner is given: table, first row, end, team size; what it tells: failed row, status; and
# where it puts the times of the rows.
_FAILED, _STATUS, _TIMES = 4, 5, 6

_RUN = """
def run(args):
    rows = load_int64(args, 0)
    set_team_size(load_int64(args, 3))
    for row in range(load_int64(args, 1), load_int64(args, 2)):
        at = row * 5
        status = call4(
            load_int64(rows, at), load_int64(rows, at + 1), load_int64(rows, at + 2),
            load_int64(rows, at + 3), load_int64(rows, at + 4),
        )
        if status & 0xFFFFFFFF:
            store_int64(args, 4, row)
            store_int64(args, 5, status)
            return 1
    return 0
"""
_RUN_TIMED = """
def run_timed(args):
    rows, times = load_int64(args, 0), load_int64(args, 6)
    set_team_size(load_int64(args, 3))
    for row in range(load_int64(args, 1), load_int64(args, 2)):
        at = row * 5
        store_int64(times, row * 2, now())
        status = call4(
            load_int64(rows, at), load_int64(rows, at + 1), load_int64(rows, at + 2),
            load_int64(rows, at + 3), load_int64(rows, at + 4),
        )
        store_int64(times, row * 2 + 1, now())
        if status & 0xFFFFFFFF:
            store_int64(args, 4, row)
            store_int64(args, 5, status)
            return 1
    return 0
"""
_Runner = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)  # converts faster than an int64


_runner = functools.cache(_Runner)  # by the address


class RowFailed(EngineError):
    """A row of a tape returned another status than 0.

    row: its number; the rows before it have run, those after it have not; name: what it is called
    """

    row = -1
    name = ""


class Tape:
    """Native calls to be run in order, again and again.

    threads: the team size, default that of the moment the tape is made
    place:   tells where the call of a row comes from, for errors
    numbers: functions and arguments of other rows than those of the calls, which only name them;
             behind them may be anything
    Two threads may run different tapes at the same time; the same tape they run one after the
    other.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        threads: int | None = None,
        place: Callable[[int], str] | None = None,
        numbers: array[int] | None = None,
    ) -> None:
        self._place = place
        self.calls = tuple(calls)
        self._numbers = numbers or array("q", [n for c in self.calls for n in (c.fn, *c.args)])
        self.threads = threads or parallel.thread_count()
        self._whole = self._arguments(0, len(self.calls))
        self._whole_address = self._whole.buffer_info()[0]
        self._runner = _runner(jit.compile_source(_RUN, "run").address)
        self._lock = threading.Lock()

    @property
    def table(self) -> np.ndarray:
        """int64 [rows, COLUMNS]: function and arguments, the memory itself."""
        count = len(self.calls)
        return np.asarray(self._numbers)[: count * COLUMNS].reshape(count, COLUMNS)

    def __len__(self) -> int:
        return len(self.calls)

    def run(self, start: int = 0, stop: int | None = None) -> None:
        """Runs all rows, or those from `start` up to `stop`.

        Raises RowFailed when one returns another status than 0 (the rows after
        it are not run), EngineError when this process was forked off one that had used the engine.
        """
        if start == 0 and stop is None:
            arguments, address = self._whole, self._whole_address
        else:
            arguments = self._arguments(*self._range(start, stop))
            address = arguments.buffer_info()[0]
        parallel.enter()
        with self._lock:
            failed = self._runner(address)
            told = (int(arguments[_FAILED]), int(arguments[_STATUS])) if failed else None
        if told:
            raise self._failure(*told)

    def run_timed(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """`run`, and when each row began and ended: int64 [rows, 2], 0 for those outside the range.

        Nanoseconds of the clock of `time.perf_counter_ns`. Reading it adds some 20 ns to a row.
        """
        times = np.zeros((len(self.calls), 2), np.int64)
        arguments = self._arguments(*self._range(start, stop))
        arguments[_TIMES] = times.ctypes.data
        runner = jit.compile_source(_RUN_TIMED, "run_timed")
        parallel.enter()
        with self._lock:
            failed = runner(arguments.buffer_info()[0])
        if failed:
            raise self._failure(int(arguments[_FAILED]), int(arguments[_STATUS]))
        return times

    def _arguments(self, start: int, stop: int) -> array[int]:
        return array("q", [self._numbers.buffer_info()[0], start, stop, self.threads, 0, 0, 0])

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = len(self.calls) if stop is None else stop
        if not 0 <= start <= stop <= len(self.calls):
            raise ArgumentError(
                "no such rows on the tape",
                expected=f"0 <= start <= stop <= {len(self.calls)}",
                got=f"start {start}, stop {stop}",
            )
        return start, stop

    def _failure(self, row: int, status: int) -> RowFailed:
        code = ctypes.c_int32(status).value
        error = RowFailed(
            f"{self.calls[row].name} failed",
            where=self._place(row) if self._place else self._row(row),
            expected="status 0",
            got=f"status {code}",
            hint="NORIA_KERNELS=reference runs without fast kernels; please report this",
        )
        error.row, error.name = row, self.calls[row].name
        return error

    def _row(self, row: int) -> str:
        return f"row {row} of {len(self.calls)} of the tape"
