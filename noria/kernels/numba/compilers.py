"""Kernels compiled by processes of their own, side by side.

Numba's front end holds the GIL and LLVM is called by one thread at a time, so threads gain nothing.
Processes also take along what a compiler leaves behind: some 90 MB, which a process that then
trains for days would keep.

A process (`compiler.py`) reads requests from a pipe and writes object code to another; it runs the
interpreter anew, so a user's script needs no `if __name__ == "__main__"`. Whatever goes wrong with
one, what it did not deliver is compiled by the caller.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TextIO, cast

from noria.core import machine
from noria.core.flags import flags
from noria.kernels.numba import cache
from noria.kernels.numba.loader import ObjectCode

Job = tuple[str, str, str]  # source, entry, symbol, as `lower.compile_object` takes them

WORTH = 12_000  # characters of source, about a second of work; a process takes one to start
MOST = 8  # processes
EACH = 200 << 20  # bytes a process needs
LIMIT = 1 << 26  # bytes of an answer that can be one
# What the tiles of this process were made for when imported, whatever the variable says now.
CPU = flags.cpu
PATIENCE, EVERY = 1.0, 0.2  # seconds until a terminal is told how far it is, and between two times
LENGTH = 8  # bytes of the length before what a process writes
# The package's own __init__ imports all of noria, of which a compiler needs a few modules.
_MAIN = """
import sys
path, sys.path[:] = sys.argv[1], sys.argv[2:]
sys.modules["noria"] = type(sys)("noria")
sys.modules["noria"].__path__ = [path]
from noria.kernels.numba.compiler import main
main()
"""


def compiled(jobs: Sequence[Job]) -> list[ObjectCode | None]:
    """The code of each job; None where the caller has to compile it, or to find out why it fails.

    Nothing is done for few and small ones.
    """
    found: list[ObjectCode | None] = [None] * len(jobs)
    count = _count(jobs)
    if count:
        order = sorted(range(len(jobs)), key=lambda i: len(jobs[i][0]))  # taken from the end
        processes = [_Process(jobs, order, found) for _ in range(count)]
        try:
            _tell(processes, found)
            for process in processes:
                process.finish()
        finally:
            for process in processes:
                process.end()
    return found


def _tell(processes: Sequence[_Process], found: Sequence[ObjectCode | None]) -> None:
    """A line on a terminal says how far it is, and is gone when they are through.

    Not where something else writes there, as a progress bar does.
    """
    out, free = cast("TextIO | None", sys.stderr), sys.stderr is sys.__stderr__
    if out is None or not free or not out.isatty():  # none: no console
        return
    start, shown = time.monotonic(), False
    try:
        for process in processes:
            while process.busy(EVERY):
                if time.monotonic() - start >= PATIENCE:
                    done, shown = sum(code is not None for code in found), True
                    out.write(f"\rnoria: compiling kernels, {done} of {len(found)}, once for all")
                    out.flush()
    finally:
        if shown:
            out.write("\r\x1b[K")  # to the beginning of the line, and nothing behind it
            out.flush()


def _count(jobs: Sequence[Job]) -> int:
    """How many processes to start, 0 where the caller compiles alone."""
    work = sum(len(source) for source, _, _ in jobs)
    if len(jobs) < 2 or work < WORTH or not sys.executable or getattr(sys, "frozen", False):
        return 0
    if flags.compilers != "auto":
        return min(int(flags.compilers), len(jobs))
    count = min(machine.cpu_count(), MOST, len(jobs), 2 * work // WORTH)
    return min(count, machine.memory_left() // EACH)


class _Process:
    """One compiling process, and the thread that feeds it from a shared list of jobs."""

    def __init__(
        self, jobs: Sequence[Job], order: list[int], found: list[ObjectCode | None]
    ) -> None:
        self._jobs, self._order, self._found = jobs, order, found
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        package, path = str(Path(__file__).parents[2]), filter(None, sys.path)  # not where we are
        with contextlib.suppress(OSError, RuntimeError):  # no process, or no thread
            self._process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, package, *path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "NORIA_CPU": CPU},
            )
            thread = threading.Thread(target=self._feed, args=(self._process,), daemon=True)
            thread.start()
            self._thread = thread

    def busy(self, seconds: float) -> bool:
        """Whether there is still something to wait for after so many seconds."""
        if self._thread is None:
            return False
        self._thread.join(seconds)
        return self._thread.is_alive()

    def finish(self) -> None:
        """Waits until there are no jobs left, or the process is gone."""
        if self._thread is not None:
            self._thread.join()

    def end(self) -> None:
        """Nothing of it is left."""
        if self._process is None:
            return
        self._process.kill()
        self.finish()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # of what could not be written any more
                cast(IO[bytes], pipe).close()

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        pipes = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        with contextlib.suppress(OSError, EOFError, IndexError):  # it died, or all is done
            while True:
                i = self._order.pop()
                self._found[i] = _asked(*pipes, self._jobs[i])


def _asked(requests: IO[bytes], answers: IO[bytes], job: Job) -> ObjectCode | None:
    """What the process makes of a job. Raises OSError or EOFError if it died."""
    requests.write(json.dumps(job).encode() + b"\n")
    requests.flush()
    data = _read(answers, int.from_bytes(_read(answers, LENGTH), "little"))
    try:
        return cache.decode(data)
    except (ValueError, KeyError, TypeError):
        return None


def _read(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count) if count <= LIMIT else b""
    if len(data) < count:
        raise EOFError
    return data
