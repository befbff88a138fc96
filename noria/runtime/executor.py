"""Run a Program: plan it once, bind it once per set of sizes, then only copy in, run, copy out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.errors import DTypeError, MissingError, NoriaError, nearest
from noria.core.shapes import solve_all
from noria.ir.program import Program, Value
from noria.ir.verify import verify
from noria.kernels.numba.parallel import thread_count
from noria.passes.pipeline import optimize
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import Plan, make_plan
from noria.runtime.scope import Scope

MAX_BOUND = 32  # sets of sizes kept ready


class Executor:
    """Runs one Program on the state of one Scope.

    program: as built; the passes of `passes/pipeline.py` are applied unless `optimized` is True
    scope:   holds the state; a new one is made and initialised with `seed` by default
    threads: threads per kernel, default all of the affinity mask
    """

    def __init__(
        self,
        program: Program,
        scope: Scope | None = None,
        *,
        seed: int = 0,
        threads: int | None = None,
        optimized: bool = False,
    ) -> None:
        verify(program)
        self.source = program
        self.program = program if optimized else optimize(program)
        self.scope = scope if scope is not None else Scope()
        self.scope.initialize(program, seed)
        self.threads = threads or thread_count()
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._bound: OrderedDict[Any, tuple[Bound, list[int]]] = OrderedDict()
        self._lock = threading.RLock()
        self._inputs = self.program.block.inputs
        self._wanted = {v.name: dtypes.to_numpy(v.dtype) for v in self._inputs}

    # ---- use -----------------------------------------------------------------------------------

    def run(
        self, feeds: Mapping[str, Any] | None = None, fetch: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """One step: every update is committed; the fetched outputs are returned.

        feeds: name -> array for every input; fetch: output names, default all.
        Raises MissingError, ShapeError or DTypeError before anything runs.
        """
        names = tuple(self.program.outputs) if fetch is None else tuple(fetch)
        arrays = check_feeds(self.program, self._inputs, self._wanted, feeds or {})
        key = (names, tuple(a.shape for a in arrays))
        with self._lock, self.scope.lock:
            entry = self._bound.get(key)
            if entry is None:
                entry = self._bind(key, names, arrays)
            bound, version = entry
            if version[0] != self.scope.version:
                bound.run_prologue()
            for view, array in zip(bound.feeds, arrays, strict=True):
                np.copyto(view, array)
            bound.run()
            out = {n: bound.fetch(n) for n in names}
            if self.program.updates:
                bound.commit()
                self.scope.version += 1
            version[0] = self.scope.version
            return out

    def bound(self, feeds: Mapping[str, Any], fetch: Sequence[str] | None = None) -> Bound:
        """The Bound for the sizes of these feeds, for looking at its plan and memory."""
        names = tuple(self.program.outputs) if fetch is None else tuple(fetch)
        arrays = check_feeds(self.program, self._inputs, self._wanted, feeds)
        key = (names, tuple(a.shape for a in arrays))
        with self._lock:
            entry = self._bound.get(key) or self._bind(key, names, arrays)
            return entry[0]

    def plan(self, fetch: Sequence[str] | None = None) -> Plan:
        """The Plan for a set of fetches."""
        names = tuple(self.program.outputs) if fetch is None else tuple(fetch)
        found = self._plans.get(names)
        if found is None:
            program = self.program.copy()
            program.outputs = {n: self.program.output(n) for n in names}
            found = self._plans[names] = make_plan(program)
        return found

    # ---- once per set of sizes -----------------------------------------------------------------

    def _bind(
        self, key: Any, names: tuple[str, ...], arrays: Sequence[np.ndarray]
    ) -> tuple[Bound, list[int]]:
        pairs = {v.name: (v.shape, a.shape) for v, a in zip(self._inputs, arrays, strict=True)}
        sizes = solve_all(pairs)
        bound = Bound(self.plan(names), sizes, self.scope.arrays, self.threads, block_functions)
        self._bound[key] = (bound, [-1])
        if len(self._bound) > MAX_BOUND:
            self._bound.popitem(last=False)
        return self._bound[key]


def check_feeds(
    program: Program,
    inputs: Sequence[Value],
    wanted: Mapping[str, np.dtype[Any]],
    feeds: Mapping[str, Any],
) -> list[np.ndarray]:
    """The feeds as arrays in the order of the inputs.

    Raises MissingError for a missing or unknown name, DTypeError for another dtype.
    """
    out = []
    for v in inputs:
        a = feeds.get(v.name)
        if a is None:
            raise _missing(program, inputs, v.name, feeds)
        if type(a) is not np.ndarray:
            a = np.asarray(a)
        if a.dtype != wanted[v.name]:
            raise _wrong_dtype(v.name, str(v), a)
        out.append(a)
    if len(feeds) != len(out):
        raise _unknown(program, inputs, feeds)
    return out


def _missing(
    program: Program, inputs: Sequence[Value], name: str, feeds: Mapping[str, Any]
) -> NoriaError:
    return MissingError(
        f"the feed '{name}' is missing",
        where=f"run of Program '{program.name}'",
        expected=", ".join(f"{v.name}: {v}" for v in inputs),
        got=", ".join(sorted(feeds)) or "no feeds",
    )


def _unknown(program: Program, inputs: Sequence[Value], feeds: Mapping[str, Any]) -> NoriaError:
    names = [v.name for v in inputs]
    extra = sorted(set(feeds) - set(names))[0]
    return MissingError(
        f"the Program has no input '{extra}'",
        where=f"run of Program '{program.name}'",
        expected=", ".join(f"{v.name}: {v}" for v in inputs) or "no feeds",
        hint=nearest(extra, names),
    )


def _wrong_dtype(name: str, spec: str, array: np.ndarray) -> NoriaError:
    want = spec.split("[")[0]
    return DTypeError(
        f"the feed '{name}' has another dtype",
        expected=spec,
        got=f"{array.dtype}{list(array.shape)}",
        hint=f"feed {name}.astype('{want}')",
    )
