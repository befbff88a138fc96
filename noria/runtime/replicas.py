"""One Program on several groups of threads, each with a slice of the batch; one update.

The slices run side by side, each in memory of its own, and leave sums over their rows where they
computed them; the rest of the step reads them there. See `passes/batch_slices.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.dims import evaluate
from noria.core.errors import ArgumentError
from noria.ir.program import Program
from noria.passes.batch_slices import split_batch
from noria.passes.pipeline import optimize
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.scope import Scope
from noria.runtime.workspace import Kept, Workspace

Arrays = Mapping[str, np.ndarray]
Copies = list[tuple[np.ndarray, np.ndarray]]
MAX_STEPS = 4  # sets of sizes; each has memory of its own for what follows the slices


@dataclass(slots=True)
class _Step:
    """A step at certain sizes: the slices, and what is done with their sums.

    copies: of each slice (output, where it goes): sums that do not lie row-major
    joined: the same of rows that are put together
    """

    slices: list[Bound]
    whole: Bound
    copies: list[Copies]
    joined: list[Copies]


class Replicas:
    """Runs a training Program in slices of its batch.

    program: with the outputs that are wanted; count: slices; threads: in all
    Raises ArgumentError if the batch cannot be cut.
    """

    def __init__(
        self,
        program: Program,
        scope: Scope,
        count: int,
        threads: int,
        *,
        own_statistics: bool = False,
        precision: str | None = None,
        optimized: bool = False,
    ) -> None:
        self.split = split_batch(program, count, own_statistics=own_statistics)
        self.scope, self.count = scope, count
        self.threads = [max(1, c.stop - c.start) for c in cuts(threads, count)]
        parts = (self.split.rows, self.split.whole)
        made = [make_plan(p if optimized else optimize(p, precision)) for p in parts]
        self.rows, self.whole = made
        self.inputs = [v.name for v in program.block.inputs]
        self.updates = bool(program.updates)
        self._spaces: list[Workspace[Bound]] = [Workspace() for _ in range(count)]
        self._kept = [Kept() for _ in range(count)]
        self._steps: Workspace[_Step] = Workspace(MAX_STEPS)
        self._pool = ThreadPoolExecutor(count, "noria-replica")

    def run(self, arrays: Sequence[np.ndarray], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
        """One step on feeds in the order of the inputs; the outputs. The scope must be locked.

        The batch has a row for each replica at least.
        """
        feeds = dict(zip(self.inputs, arrays, strict=True))
        feeds |= {n: np.array(evaluate(d, sizes)) for n, d in self.split.numbers.items()}
        step = self._step(sizes)
        rows = sizes[self.split.batch]
        jobs = [
            self._pool.submit(self._slice, step, k, self._cut(feeds, cut, rows))
            for k, cut in enumerate(cuts(rows, self.count))
        ]
        errors = [e for e in [job.exception() for job in jobs] if e is not None]
        if errors:
            raise errors[0]
        try:
            return self._rest(step.whole, feeds)
        finally:  # a step that fails may have written some of its updates
            self._written(step)

    def _slice(self, step: _Step, k: int, feeds: Arrays) -> None:
        bound = step.slices[k]
        self._ready(bound, feeds)
        bound.run()
        for source, target in (*step.joined[k], *step.copies[k]):
            np.copyto(target, source)

    def _rest(self, bound: Bound, feeds: Arrays) -> dict[str, np.ndarray]:
        self._ready(bound, feeds)
        bound.run()
        out = {n: bound.fetch(n) for n in bound.outputs}
        bound.commit()
        return out

    def _cut(self, feeds: Arrays, cut: slice, rows: int) -> Arrays:
        """What a slice is fed; an input may have several rows for each of the batch."""
        found = dict(feeds)
        for name in self.split.sliced:
            each = len(feeds[name]) // rows
            found[name] = feeds[name][cut.start * each : cut.stop * each]
        return found

    def _ready(self, bound: Bound, feeds: Arrays) -> None:
        bound.kept.follow(self.scope.version)
        if bound.epoch != bound.kept.epoch:
            bound.run_prologue()
        for value, view in zip(bound.plan.program.block.inputs, bound.feeds, strict=True):
            if value.name in feeds:  # else a slice writes it
                view[...] = feeds[value.name]

    def _written(self, step: _Step) -> None:
        if self.updates:
            self.scope.version += 1
            for bound in (*step.slices, step.whole):
                bound.kept.version = self.scope.version

    # ---- once per set of sizes -----------------------------------------------------------------

    def _step(self, sizes: Mapping[str, int]) -> _Step:
        key = tuple(sorted(sizes.items()))
        slices = [self._bound(k, sizes, key) for k in range(self.count)]
        found = self._steps.get(key)
        if found is None or any(a is not b for a, b in zip(found.slices, slices, strict=True)):
            found = self._make(slices, sizes)
            self._steps.put(key, found)
        return found

    def _bound(self, k: int, sizes: Mapping[str, int], key: Any) -> Bound:
        space = self._spaces[k]
        found = space.get(key)
        if found is None:
            cut = cuts(sizes[self.split.batch], self.count)[k]
            mine = {**sizes, self.split.batch: cut.stop - cut.start}
            found = Bound(
                self.rows,
                mine,
                self.scope.arrays,
                self.threads[k],
                block_functions,
                space=space,
                kept=self._kept[k],
            )
            space.put(key, found)
        return found

    def _make(self, slices: list[Bound], sizes: Mapping[str, int]) -> _Step:
        state: dict[str, np.ndarray] = dict(self.scope.arrays)
        copies: list[Copies] = [[] for _ in slices]
        for name, parts in self.split.sums.items():
            for k, part in enumerate(parts):
                view = state[part] = slices[k].outputs[name]()
                if not view.flags.c_contiguous:
                    state[part] = np.empty(view.shape, view.dtype)
                    copies[k].append((view, state[part]))
        whole = Bound(self.whole, sizes, state, sum(self.threads), block_functions)
        return _Step(slices, whole, copies, self._joined(slices, whole))

    def _joined(self, slices: Sequence[Bound], whole: Bound) -> list[Copies]:
        names = [v.name for v in self.whole.program.block.inputs]
        places = dict(zip(names, whole.feeds, strict=True))
        found: list[Copies] = [[] for _ in slices]
        for name in self.split.joined:
            at = 0
            for k, bound in enumerate(slices):
                part = bound.outputs[name]()
                found[k].append((part, places[name][at : at + len(part)]))
                at += len(part)
        return found


def cuts(rows: int, count: int) -> list[slice]:
    """Slices as equal as can be, the longer ones first."""
    edges = [rows // count * k + min(k, rows % count) for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def checked_replicas(count: int) -> int:
    """A number of replicas. Raises ArgumentError unless it is one or more."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ArgumentError("bad number of replicas", expected="1 or more", got=repr(count))
    return count
