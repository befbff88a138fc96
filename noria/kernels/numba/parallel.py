"""Teams of OpenMP threads around kernels, in the one libgomp that oneDNN uses too.

`parallel` turns the row of a kernel into a row that runs it on every thread of a team. libgomp
starts its threads once and wakes them in about a microsecond, but it cannot lose some of them: a
smaller team ends the surplus threads and the next larger one starts new ones. So a row has either
the whole team or none, and none below `SERIAL_BELOW` nanoseconds of work.

Its threads do not survive `fork` either; `enter` notices.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from noria.core import machine
from noria.core.errors import ArgumentError, EngineError
from noria.core.flags import flags
from noria.kernels.call import Call
from noria.kernels.numba import jit, loader
from noria.kernels.traced import about, table_of

SERIAL_BELOW = 20_000  # nanoseconds on one thread
# What one core surely does in a nanosecond on data in its caches (measured: 40 to 200 and 100).
BYTES, OPS = 32.0, 64.0
_BYTES, _OPS = int(BYTES), int(OPS)

_TEAM = """
def member(args):
    status = call1(load_int64(args, 0), load_int64(args, 1))
    if status & 0xFFFFFFFF:
        store_int64(args, 3, status)
    return 0
"""
# args: kernel, its table, threads, status, address of `member`
_FORK = """
def fork(args):
    store_int64(args, 3, 0)
    run_team(load_int64(args, 4), args, load_int64(args, 2))
    return load_int64(args, 3)
"""

_team: ContextVar[int] = ContextVar("noria_team", default=0)  # what `team` said, on this thread
_always: ContextVar[bool] = ContextVar("noria_always", default=False)  # within `always`
_used = False  # native code ran in this process
_forked = False  # ... and then this process was forked off


def thread_count() -> int:
    """Threads of a team: `team`, or NORIA_THREADS, or the CPUs at hand."""
    if loader.openmp() is None:
        return 1
    chosen = _team.get() or flags.threads
    return min(chosen or machine.cpu_count(), _most())


@functools.cache
def _most() -> int:
    """Threads that OpenMP gives a team at most: OMP_THREAD_LIMIT, or 1 if OMP_MAX_ACTIVE_LEVELS
    is 0. Who asks for more gets a smaller team than it counts on, and threads of oneDNN then wait
    for others that never come."""
    library = loader.openmp()
    if library is None or library.omp_get_max_active_levels() < 1:
        return 1
    return max(1, int(library.omp_get_thread_limit()))


@contextmanager
def team(count: int) -> Iterator[None]:
    """Within it, on this Python thread, teams have `count` threads: what is bound and compiled
    there, generated rows, oneDNN primitives and tapes alike, runs with as many ever after."""
    token = _team.set(checked_count(count))
    enter_thread()
    try:
        yield
    finally:
        _team.reset(token)
        enter_thread()


@contextmanager
def always() -> Iterator[None]:
    """Within it, on this Python thread, rows get their team however little they have to do: so that
    a kernel can be tested on small arrays."""
    token = _always.set(True)
    try:
        yield
    finally:
        _always.reset(token)


def checked_count(count: int) -> int:
    """A number of threads, or as many as OpenMP gives. Raises ArgumentError below 1."""
    if count < 1:
        raise ArgumentError("a team needs a thread", expected="count >= 1", got=str(count))
    return min(count, _most())


def enter_thread() -> None:
    """Gives the calling thread the team size; OpenMP keeps it for each Python thread apart. It
    is to be had whole, however busy the machine is and whatever OMP_DYNAMIC says.

    To be called before a thread makes oneDNN primitives. A tape does it by itself when it runs.
    """
    library = loader.openmp()
    if library is not None:
        library.omp_set_dynamic(ctypes.c_int(0))
        library.omp_set_num_threads(ctypes.c_int(thread_count()))


def worthwhile(*, bytes: int = 0, ops: int = 0) -> bool:
    """Whether a row of so much work, as `parallel` counts it, gets a team."""
    enough = bytes >= SERIAL_BELOW * _BYTES or ops >= SERIAL_BELOW * _OPS
    return enough or _always.get()


def parallel(call: Call, *, bytes: int = 0, ops: int = 0, threads: int | None = None) -> Call:
    """The row that runs a kernel's row on a team, or the row itself where that is faster.

    call:    a kernel of `jit` and its table; it shares the work by thread_id() and team_size()
    bytes:   bytes the whole call reads and writes
    ops:     arithmetic operations of the whole call; an exp counts 20, a division 4
    threads: size of the team whatever the work is; without it thread_count() or 1

    The row fails with the status of one of the threads that failed.
    """
    count = threads or thread_count()
    if count == 1 or loader.openmp() is None:
        return call
    if threads is None and not worthwhile(bytes=bytes, ops=ops):
        alone = max(about(bytes) / BYTES, about(ops) / OPS, 1.0)
        return Call(call.name, call.fn, call.args, call.keep, alone)
    fork, member = jit.compile_source(_FORK, "fork"), jit.compile_source(_TEAM, "member")
    address, table = table_of([call.fn, call.args[0], count, 0, member.address])
    keep = (call.keep, table, fork, member)
    return Call(call.name, fork.address, (address, 0, 0, 0), keep)


def enter() -> None:
    """To be called before native code runs. Raises EngineError in a forked child that cannot."""
    global _used
    if _forked:
        raise EngineError(
            "the engine cannot run in a process forked after the engine has run",
            hint='start worker processes with the "spawn" or "forkserver" method',
        )
    _used = True


def _after_fork() -> None:
    global _forked
    _forked = _forked or _used


os.register_at_fork(after_in_child=_after_fork)
