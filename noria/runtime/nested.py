"""Blocks of control flow, run by the engine: each has a Plan of its own, bound per set of sizes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from noria.core.flags import flags
from noria.core.shapes import solve_all
from noria.ir.program import Block, Operator, Program, symbols_used
from noria.runtime.bind import Bound
from noria.runtime.plan import make_plan
from noria.runtime.workspace import Kept, Workspace

MAX_BOUND = 16  # sets of sizes kept per block and thread


class NestedBlock:
    """A block, planned once. `call` may be entered by several threads: each has a workspace."""

    def __init__(self, block: Block, engines: frozenset[str]) -> None:
        self.plan = make_plan(block_program(block), engines)
        self.inputs = list(block.inputs)
        self.names = list(self.plan.program.outputs)
        self.used = set().union(*(symbols_used(op) for op in block.operators))
        self.kept = Kept()
        self.idle: list[Workspace[Bound]] = []
        self.lock = threading.Lock()

    def call(
        self, sizes: Mapping[str, int], threads: int, *arrays: Any, checks: str = "off"
    ) -> tuple[Any, ...]:
        """The block's outputs for arrays.

        sizes:  symbol -> number around the block; those it does not use are of no importance
        checks: the flag `check_finite` now
        """
        known = {s: n for s, n in sizes.items() if s in self.used}
        shapes = tuple(np.shape(a) for a in arrays)
        key = (shapes, threads, tuple(known.items()), checks)
        with self.lock:
            space = self.idle.pop() if self.idle else Workspace(MAX_BOUND)
        try:
            bound = space.get(key) or self._bind(space, key, known)
            for view, array in zip(bound.feeds, arrays, strict=True):
                np.copyto(view, array)
            bound.run()
            return tuple(bound.fetch(n) for n in self.names)
        finally:
            with self.lock:
                self.idle.append(space)

    def _bind(self, space: Workspace[Bound], key: Any, known: Mapping[str, int]) -> Bound:
        shapes, threads, *_ = key
        pairs = {v.name: (v.shape, s) for v, s in zip(self.inputs, shapes, strict=True)}
        sizes = solve_all(pairs, known)
        with self.lock:  # what is kept is written when the first Bound is made
            bound = Bound(
                self.plan, sizes, {}, threads, block_functions, space=space, kept=self.kept
            )
            bound.run_prologue()
        space.put(key, bound)
        return bound


def block_program(block: Block) -> Program:
    """A nested block as a Program of its own, which does not keep the block itself alive."""
    outputs = {f"{i}": v for i, v in enumerate(block.outputs)}
    return Program("nested", block.copy(), {}, outputs, {})


_blocks: WeakKeyDictionary[Block, dict[frozenset[str], NestedBlock]] = WeakKeyDictionary()
_lock = threading.RLock()


def block_functions(
    op: Operator, sizes: Mapping[str, int], threads: int, engines: frozenset[str]
) -> dict[str, Callable[..., Any]]:
    """The nested blocks of an operator as functions of arrays, for kernels of these engines."""

    def function(nested: NestedBlock) -> Callable[..., Any]:
        return lambda *arrays: nested.call(sizes, threads, *arrays, checks=checks)

    checks = flags.check_finite
    return {name: function(_nested(block, engines)) for name, block in op.blocks.items()}


def _nested(block: Block, engines: frozenset[str]) -> NestedBlock:
    with _lock:
        plans = _blocks.setdefault(block, {})
        if engines not in plans:
            plans[engines] = NestedBlock(block, engines)
        return plans[engines]
