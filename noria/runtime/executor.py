"""Run a Program: plan it once, bind it once per set of sizes, then only copy in, run, copy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.core.errors import MissingError, nearest
from noria.core.flags import flags
from noria.core.pause import collector_paused
from noria.ir.program import Program
from noria.ir.verify import verify
from noria.kernels.numba.parallel import checked_count, thread_count
from noria.passes.pipeline import checked_precision, optimize
from noria.runtime.bind import Bound
from noria.runtime.feeds import Feeds
from noria.runtime.nested import block_functions
from noria.runtime.plan import Plan, make_plan
from noria.runtime.replicas import Replicas, checked_replicas
from noria.runtime.scope import Scope
from noria.runtime.summary import announce
from noria.runtime.workspace import Kept, Workspace


class Executor:
    """Runs one Program on the state of one Scope, a step at a time.

    program: as built; the passes of `passes/pipeline.py` rewrite it for each set of fetches, so
             that what nobody fetches is not in the way of fusion
    optimized: the Program is planned as it is, no pass runs
    scope:   holds the state; a new one is made and initialised with `seed` by default
    threads: threads per kernel, default all of the affinity mask
    precision: "float32", or "bf16" for mixed precision with float32 state (`ops/precision.py`);
             default the flag `precision`
    check_finite: stop at the first operator that gives NaN ("nan"), or NaN or infinity (True or
             "all"); default the flag `check_finite`. See `runtime/finite.py`
    replicas: so many groups of threads, each with a slice of the batch; gradients are added, and
             one update equals that of one large batch, up to the order of sums. Raises
             ArgumentError, at the first run, where rows depend on each other
    own_statistics: of replicas: batch normalisation takes the statistics of each slice, which is
             not what one large batch gives; running ones get the mean

    May be used from several threads: steps on one Scope run one after the other.
    """

    @collector_paused()
    def __init__(
        self,
        program: Program,
        scope: Scope | None = None,
        *,
        seed: int = 0,
        threads: int | None = None,
        precision: str | None = None,
        optimized: bool = False,
        check_finite: bool | str | None = None,
        replicas: int = 1,
        own_statistics: bool = False,
    ) -> None:
        verify(program)
        self._flags = {} if check_finite is None else {"check_finite": check_finite}
        with flags.set(**self._flags):  # raises ArgumentError for a value that makes no sense
            pass
        self.precision = checked_precision(precision)
        self.threads = thread_count() if threads is None else checked_count(threads)
        self.program = program
        self._optimized = optimized
        self.scope = scope if scope is not None else Scope()
        self.scope.initialize(program, seed)
        self._feeds = Feeds(self.program)
        self._all = tuple(self.program.outputs)
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._replicas: dict[tuple[str, ...], Replicas] = {}
        self.replicas, self._own = checked_replicas(replicas), own_statistics
        self._space: Workspace[Bound] = Workspace()
        self._kept = Kept()

    def run(
        self, feeds: Mapping[str, Any] | None = None, fetch: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """One step: the fetched outputs, as new arrays; every update is committed.

        feeds: name -> array for every input; fetch: output names, default all.
        Raises MissingError, ShapeError or DTypeError before anything runs. If a kernel fails
        (EngineError), state that was updated before it keeps its new value. NonFiniteError, where
        that is checked, leaves all state as it was.
        """
        names = self._all if fetch is None else tuple(fetch)
        arrays = self._feeds.arrays({} if feeds is None else feeds)
        scope, kept = self.scope, self._kept
        with scope.lock:
            if self.replicas > 1:
                sizes = self._feeds.sizes(arrays)
                split = self._split(names)
                if sizes[split.split.batch] >= self.replicas:
                    return split.run(arrays, sizes)
            bound = self._bound(names, arrays)
            if kept.version != scope.version:
                kept.follow(scope.version)
            if bound.epoch != kept.epoch:
                bound.run_prologue()
            for view, array in zip(bound.feeds, arrays, strict=True):
                view[...] = array
            try:
                bound.run()
            finally:  # a step that fails may have written some of its updates
                if self.program.updates:
                    scope.version += 1
                    kept.version = scope.version
            out = {n: bound.fetch(n) for n in names}
            bound.commit()
            return out

    def bound(self, feeds: Mapping[str, Any], fetch: Sequence[str] | None = None) -> Bound:
        """The Bound for the sizes of these feeds, for looking at its plan and memory."""
        names = self._all if fetch is None else tuple(fetch)
        arrays = self._feeds.arrays(feeds)
        with self.scope.lock:
            return self._bound(names, arrays)

    def plan(self, fetch: Sequence[str] | None = None) -> Plan:
        """The Plan for a set of fetches. Raises MissingError for an unknown one."""
        names = self._all if fetch is None else tuple(fetch)
        return self._plans.get(names) or self._planned(names)

    @collector_paused()
    def _planned(self, names: tuple[str, ...]) -> Plan:
        program = self._fetching(names)
        if not self._optimized:
            program = optimize(program, self.precision)
        found = self._plans[names] = make_plan(program)
        return found

    def _fetching(self, names: tuple[str, ...]) -> Program:
        program = self.program.copy()
        program.outputs = {n: self._output(n) for n in names}
        program.block.outputs = list(program.outputs.values())
        return program

    def _split(self, names: tuple[str, ...]) -> Replicas:
        found = self._replicas.get(names)
        if found is None:
            found = self._replicas[names] = Replicas(
                self._fetching(names),
                self.scope,
                self.replicas,
                self.threads,
                own_statistics=self._own,
                precision=self.precision,
                optimized=self._optimized,
            )
        return found

    # ---- once per set of sizes -----------------------------------------------------------------

    def _output(self, name: str) -> Any:
        outputs = self.program.outputs
        if name not in outputs:
            raise MissingError(
                f"the Program has no output '{name}'",
                where=f"fetch from Program '{self.program.name}'",
                expected=", ".join(f"{n}: {v}" for n, v in outputs.items()) or "no fetch",
                got=repr(name),
                hint=nearest(name, outputs),
            )
        return outputs[name]

    def _bound(self, names: tuple[str, ...], arrays: Sequence[np.ndarray]) -> Bound:
        key = (names, *[a.shape for a in arrays])
        return self._space.get(key) or self._bind(key, names, arrays)

    def _bind(self, key: Any, names: tuple[str, ...], arrays: Sequence[np.ndarray]) -> Bound:
        with flags.set(**self._flags):
            bound = Bound(
                self.plan(names),
                self._feeds.sizes(arrays),
                self.scope.arrays,
                self.threads,
                block_functions,
                space=self._space,
                kept=self._kept,
            )
        self._space.put(key, announce(bound), bound.size)
        return bound
