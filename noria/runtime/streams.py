"""A call cut along its batch into slices that run side by side, each on cores of its own.

A convolution over a whole batch writes more than a core's cache holds, and the next one reads it
back from memory. The activations of a slice of one or two images stay in the cache, and no core
waits for another between two operators. How much that gives depends on the machine, so it can be
measured: `Streams(..., cut=None)` tries whole batches and slices at the first call of each size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np

from noria.core.errors import ArgumentError
from noria.kernels.numba import parallel

Arrays = Sequence[np.ndarray]
Results = dict[str, np.ndarray]
Call = Callable[[Arrays, int, Mapping[str, np.ndarray] | None], Results]

TRIES = 4  # runs of each way: the first one plans and touches memory, the best of the others counts


@dataclass(frozen=True, slots=True)
class Cut:
    """streams: slices that run at the same time; rows: of the batch in a slice, None for an equal
    share of each stream."""

    streams: int
    rows: int | None = None

    def slices(self, rows: int) -> list[slice]:
        """Of a batch of so many rows."""
        size = self.rows or max(1, -(-rows // self.streams))
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


class Streams:
    """Runs calls in slices.

    call:    (inputs, threads, where to write outputs or None) -> outputs; from several threads
    empty:   number of rows -> new arrays for the outputs
    threads: in all
    cut:     None: the fastest for each set of shapes, found by trying
    forget:  called after trying, to give back what the ways not chosen hold
    """

    def __init__(
        self,
        call: Call,
        empty: Callable[[Arrays], Results],
        threads: int,
        cut: Cut | None,
        forget: Callable[[], None],
    ) -> None:
        self.call, self.empty, self.threads, self.cut = call, empty, threads, cut
        self.forget = forget
        self.chosen: dict[tuple[tuple[int, ...], ...], Cut] = {}
        self._choosing, self._starting = threading.Lock(), threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def run(self, arrays: Arrays, into: Mapping[str, np.ndarray] | None = None) -> Results:
        """Outputs by name, as new arrays or written where `into` says."""
        return self._run(arrays, self.cut or self._best(arrays), into)

    def _run(
        self, arrays: Arrays, cut: Cut, into: Mapping[str, np.ndarray] | None = None
    ) -> Results:
        slices = cut.slices(len(arrays[0]))
        streams = min(cut.streams, len(slices))
        if streams < 2:
            return self.call(arrays, self.threads, into)
        out, numbers = self.empty(arrays) if into is None else dict(into), count()

        def stream() -> None:
            """Takes the next slice until there is none: a slow core takes fewer."""
            for number in numbers:  # `next` of a count is atomic
                if number >= len(slices):
                    return
                part = slices[number]
                here = {name: array[part] for name, array in out.items()}
                self.call([a[part] for a in arrays], max(1, self.threads // streams), here)

        parallel.enter()  # in a forked child there are no workers, and no job would ever end
        jobs = [self._workers().submit(stream) for _ in range(streams)]
        for job in jobs:
            job.result()
        return out

    def _workers(self) -> ThreadPoolExecutor:
        with self._starting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads, "noria-stream")
            return self._pool

    # ---- trying --------------------------------------------------------------------------------

    def _best(self, arrays: Arrays) -> Cut:
        key = tuple(a.shape for a in arrays)
        found = self.chosen.get(key)
        if found is None:
            with self._choosing:
                found = self.chosen.get(key)
                if found is None:
                    found = self._fastest(arrays, candidates(len(arrays[0]), self.threads))
                    self.chosen[key] = found
                    self.forget()
        return found

    def _fastest(self, arrays: Arrays, ways: Sequence[Cut]) -> Cut:
        """They take turns, so that a machine which is slow for a while is slow for all of them."""
        if len(ways) == 1:
            return ways[0]
        rounds = [[self._seconds(arrays, cut) for cut in ways] for _ in range(TRIES)]
        best = [min(times) for times in zip(*rounds[1:], strict=True)]
        return ways[best.index(min(best))]

    def _seconds(self, arrays: Arrays, cut: Cut) -> float:
        start = time.perf_counter()
        self._run(arrays, cut)
        return time.perf_counter() - start


def candidates(rows: int, threads: int) -> list[Cut]:
    """What is worth trying: the whole batch, and a stream on each thread with slices of 1, 2, 4 ...
    rows as long as every stream has one."""
    ways, size = [Cut(1)], 1
    while threads > 1 and size * (threads - 1) < rows:
        ways.append(Cut(threads, size))
        size *= 2
    return ways


def checked_cut(streams: int | str, threads: int, rows: int | None) -> Cut | None:
    """The Cut of the arguments of a Predictor; None for "auto". Raises ArgumentError."""
    if streams == "auto" and rows is None:
        return None
    if not isinstance(streams, int) or isinstance(streams, bool) or not 1 <= streams <= threads:
        raise ArgumentError(
            "bad number of streams",
            expected=f"1 to {threads} (that many threads there are), or 'auto'",
            got=f"streams={streams!r}" + ("" if rows is None else f", rows={rows!r}"),
        )
    if rows is None:
        return Cut(streams)
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise ArgumentError("bad number of rows in a slice", expected="1 or more", got=repr(rows))
    return Cut(streams, rows)
