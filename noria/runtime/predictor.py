"""Inference: load a saved Program, run it from many threads, at any batch size."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.errors import MissingError, nearest
from noria.core.shapes import solve_all
from noria.ir.program import Program
from noria.ir.save import load
from noria.ir.verify import verify
from noria.kernels.numba.parallel import thread_count
from noria.passes.for_test import for_test
from noria.passes.pipeline import optimize
from noria.runtime.bind import Bound
from noria.runtime.executor import check_feeds
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.scope import Scope

MAX_SIZES = 64  # sets of sizes kept ready


class Predictor:
    """Runs the test form of a Program on fixed parameters.

    Each concurrent call has an arena of its own; Plan and parameters are shared.

    program: a Program (its test form is taken), with `state` or a scope's numbers
    outputs: names to compute, default all; inputs they do not need are dropped
    threads: threads per call, default all of the affinity mask
    """

    def __init__(
        self,
        program: Program,
        state: Mapping[str, np.ndarray],
        *,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        verify(program)
        self.program = for_test(program, outputs)
        for name in self.program.state:
            if name not in state:
                raise MissingError(f"no numbers for state '{name}'", hint=nearest(name, state))
        self.scope = Scope().initialize(
            self.program, values={n: state[n] for n in self.program.state}
        )
        self.plan = make_plan(optimize(self.program))
        self.threads = threads or thread_count()
        self.inputs = self.plan.program.block.inputs
        self.names = tuple(self.plan.program.outputs)
        self._wanted = {v.name: dtypes.to_numpy(v.dtype) for v in self.inputs}
        self._idle: dict[Any, list[Bound]] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        outputs: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> Predictor:
        """From a saved model. Raises FormatError if the file is not one."""
        program, state = load(path)
        return cls(program, state, outputs=outputs, threads=threads)

    def __call__(self, **feeds: Any) -> Any:
        """`predictor(x=array)`: the output, or a dict of them if there are several."""
        out = self.run(feeds)
        return out[self.names[0]] if len(self.names) == 1 else out

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name. Thread safe. Raises MissingError, ShapeError or DTypeError."""
        arrays = check_feeds(self.plan.program, self.inputs, self._wanted, feeds)
        key = arrays[0].shape if len(arrays) == 1 else tuple(a.shape for a in arrays)
        pool = self._idle.get(key)
        try:
            bound = pool.pop()  # type: ignore[union-attr]  # list.pop is atomic
        except (IndexError, AttributeError):
            bound = self._bind(arrays)
        for view, array in zip(bound.feeds, arrays, strict=True):
            view[...] = array
        bound.run()
        out = {n: bound.fetch(n) for n in self.names}
        if pool is None:
            pool = self._pool(key)
        pool.append(bound)
        return out

    def _pool(self, key: Any) -> list[Bound]:
        with self._lock:
            pool = self._idle.setdefault(key, [])
            while len(self._idle) > MAX_SIZES:
                self._idle.pop(next(k for k in self._idle if k != key))
            return pool

    def _bind(self, arrays: Sequence[np.ndarray]) -> Bound:
        pairs = {v.name: (v.shape, a.shape) for v, a in zip(self.inputs, arrays, strict=True)}
        bound = Bound(self.plan, solve_all(pairs), self.scope.arrays, self.threads, block_functions)
        bound.run_prologue()
        return bound
