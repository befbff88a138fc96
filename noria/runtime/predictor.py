"""Inference: load a saved Program, run it from many threads, at any batch size."""

from __future__ import annotations

import gc
import threading
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import evaluate
from noria.core.errors import ArgumentError, DTypeError, MissingError, ShapeError, nearest
from noria.ir.program import Program
from noria.ir.save import load
from noria.ir.verify import verify
from noria.kernels.numba.parallel import checked_count, thread_count
from noria.passes.for_test import for_test
from noria.passes.pipeline import checked_precision, optimize
from noria.passes.rows import mixed_rows
from noria.runtime.bind import Bound
from noria.runtime.feeds import Feeds
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.scope import Scope
from noria.runtime.streams import Cut, Streams, checked_cut
from noria.runtime.summary import announce
from noria.runtime.workspace import Kept, Workspace

MAX_SIZES = 64  # sets of sizes kept ready, in each workspace


class Predictor:
    """Runs the test form of a Program on fixed parameters.

    Plan, parameters and packed weights are shared; each of the calls that run at the same time has
    an arena, which serves all batch sizes.

    program: a Program (its test form is taken)
    state:   name -> array, for all state that the outputs need; more is allowed
    outputs: names to compute, default all; inputs they do not need are dropped
    threads: threads per call, default all of the affinity mask
    precision: "float32" or "bf16" (`ops/precision.py`), default the flag `precision`
    streams: into so many parts the threads are divided; each runs slices of the batch by itself,
             whose activations stay in its cache (`runtime/streams.py`). "auto": what is fastest,
             found by trying at the first call of each size, which then takes some seconds
    rows:    of the batch in a slice, default an equal share for each stream
    adopt:   arrays of `load(path, mapped=True)` are used where they lie, instead of copies. Once
             packed for the kernels, a weight that nothing else reads takes no memory. They must not
             be used by anything else from then on

    Raises ArgumentError where streams are asked for and rows of the batch may be mixed.
    """

    def __init__(
        self,
        program: Program,
        state: Mapping[str, np.ndarray],
        *,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
        precision: str | None = None,
        streams: int | str = 1,
        rows: int | None = None,
        adopt: bool = False,
    ) -> None:
        verify(program)
        self.precision = checked_precision(precision)
        self.threads = thread_count() if threads is None else checked_count(threads)
        self.program = for_test(program, outputs)
        for name in self.program.state:
            if name not in state:
                raise MissingError(f"no numbers for state '{name}'", hint=nearest(name, state))
        self.scope = Scope().initialize(
            self.program, values={n: state[n] for n in self.program.state}, adopt=adopt
        )
        self.plan = make_plan(optimize(self.program, self.precision))
        self.inputs = self.plan.program.block.inputs
        self.names = tuple(self.plan.program.outputs)
        given = self.plan.program.outputs
        self._wanted = {n: dtypes.to_numpy(given[n].dtype) for n in self.names}
        self._feeds = Feeds(self.plan.program)
        self._kept = Kept()
        self._idle: list[Workspace[Bound]] = []
        self._lock = threading.Lock()
        cut = checked_cut(streams, self.threads, rows)
        self._streams = None if cut == Cut(1) else self._cut(cut)

    def _cut(self, cut: Cut | None) -> Streams:
        mixed = mixed_rows(self.program)
        if mixed is not None:
            raise ArgumentError(
                f"the batch of Program '{self.program.name}' cannot be cut into streams", got=mixed
            )
        return Streams(self._call, self._empty, self.threads, cut, self._forget)

    def _forget(self) -> None:
        """What ways hold that were only tried: arenas, and weights packed as no other wants them.

        Calls that run just now keep what they use, and prepare it anew the next time.
        """
        with self._lock:
            self._kept = Kept()
            self._idle.clear()
        gc.collect()  # Bounds are in cycles, so hundreds of megabytes would wait for the collector

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
        precision: str | None = None,
        streams: int | str = 1,
        rows: int | None = None,
    ) -> Predictor:
        """From a saved model. Raises FormatError if the file is not one.

        The large arrays of a directory are mapped, not read (`ir/save.py`).
        """
        program, state = load(path, mapped=True)
        how: dict[str, Any] = {"precision": precision, "streams": streams, "rows": rows}
        how["adopt"] = True
        return cls(program, state, outputs=outputs, threads=threads, **how)

    def __call__(self, **feeds: Any) -> Any:
        """`predictor(x=array)`: the output, or a dict of them if there are several."""
        out = self.run(feeds)
        return out[self.names[0]] if len(self.names) == 1 else out

    def run(
        self, feeds: Mapping[str, Any], out: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Outputs by name, as new arrays. May be called from several threads at once.

        out: an array for each output, into which it is written, and which is given back: such a
             call allocates no memory. Strides are free.

        Raises MissingError, ShapeError or DTypeError.
        """
        arrays = self._feeds.arrays(feeds)
        if out is not None:
            self._need_outputs(out)
        if self._streams is None:
            return self._call(arrays, self.threads, out)
        self._feeds.sizes(arrays)  # before anything is cut
        return self._streams.run(arrays, out)

    def _need_outputs(self, out: Mapping[str, np.ndarray]) -> None:
        """Names and dtypes; shapes are compared when the sizes are known."""
        for name, wanted in self._wanted.items():
            array = out.get(name)
            if not isinstance(array, np.ndarray):
                raise MissingError(
                    f"no array for the output '{name}'",
                    expected=", ".join(self.names),
                    got=", ".join(map(str, out)) or "none",
                )
            if array.dtype != wanted:
                raise DTypeError(
                    f"the array for '{name}' has another dtype",
                    expected=str(self.plan.program.outputs[name]),
                    got=f"{array.dtype}{list(array.shape)}",
                )
        if len(out) > len(self._wanted):
            extra = next(n for n in out if n not in self._wanted)
            raise MissingError(f"no output '{extra}'", hint=nearest(extra, self.names))

    def _call(
        self,
        arrays: Sequence[np.ndarray],
        threads: int,
        into: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Outputs, as new arrays or written where `into` says."""
        key = (threads, *[a.shape for a in arrays])
        space = self._take(key)
        try:
            bound = space.bounds.get(key)
            kept = self._kept
            fresh = bound is not None and bound.kept is kept and bound.epoch == kept.epoch
            if bound is None or not fresh or kept.version != self.scope.version:
                bound = self._prepared(space, key, arrays, threads)
            for view, array in zip(bound.feeds, arrays, strict=True):
                view[...] = array
            bound.run()
            if into is None:
                return {n: bound.fetch(n) for n in self.names}
            for name, array in into.items():
                _write(name, array, bound.outputs[name]())
            return dict(into)
        finally:
            self._idle.append(space)

    def bound(self, feeds: Mapping[str, Any]) -> Bound:
        """A Bound for the sizes of these feeds, nobody else's: for looking at its plan and memory.

        Raises MissingError, ShapeError or DTypeError.
        """
        arrays = self._feeds.arrays(feeds)
        return self._prepared(Workspace(), None, arrays, self.threads)

    def _empty(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays for the outputs of these inputs."""
        sizes = self._feeds.sizes(arrays)
        return {
            n: np.empty([evaluate(d, sizes) for d in v.shape], dtypes.to_numpy(v.dtype))
            for n, v in self.program.outputs.items()
        }

    def _take(self, key: Hashable) -> Workspace[Bound]:
        """An idle workspace, if possible one that knows these sizes."""
        try:
            space = self._idle.pop()  # atomic
        except IndexError:
            return Workspace(MAX_SIZES)
        if key not in space.bounds:
            for other in tuple(self._idle):
                if key in other.bounds and _removed(self._idle, other):
                    self._idle.append(space)
                    return other
        return space

    def _prepared(
        self, space: Workspace[Bound], key: Hashable, arrays: Sequence[np.ndarray], threads: int
    ) -> Bound:
        """The Bound for these sizes; what all Bounds share is written by one at a time."""
        with self._lock:
            self._kept.follow(self.scope.version)
            bound = space.get(key)
            if bound is None or bound.kept is not self._kept:
                bound = Bound(
                    self.plan,
                    self._feeds.sizes(arrays),
                    self.scope.arrays,
                    threads,
                    block_functions,
                    space=space,
                    kept=self._kept,
                    give_back=self.scope.give_back,
                )
                space.put(key, announce(bound), bound.size)
            bound.run_prologue()
            return bound


def _write(name: str, array: np.ndarray, result: np.ndarray) -> None:
    if array.shape != result.shape:
        raise ShapeError(
            f"the array for '{name}' has another shape",
            expected=str(list(result.shape)),
            got=str(list(array.shape)),
        )
    array[...] = result


def _removed(idle: list[Workspace[Bound]], space: Workspace[Bound]) -> bool:
    """Take this workspace out; False if another thread was faster."""
    try:
        idle.remove(space)
    except ValueError:
        return False
    return True
