"""Blocks of control flow, run by the engine: each has a Plan of its own, bound per set of sizes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from noria.core.shapes import solve_all
from noria.ir.program import Block, Operator
from noria.kernels.registry import enabled_engines
from noria.runtime.bind import Bound
from noria.runtime.plan import Plan, make_plan, plan_block

MAX_BOUND = 16  # sets of sizes kept per block


class NestedBlock:
    """A block, planned once; `call` is reentrant through a pool of bound copies per sizes."""

    def __init__(self, block: Block, engines: frozenset[str]) -> None:
        self.plan: Plan = make_plan(plan_block(block, "nested"), engines)
        self.inputs = list(block.inputs)
        self.names = list(self.plan.program.outputs)
        self.idle: dict[Any, list[Bound]] = {}
        self.lock = threading.Lock()

    def call(self, sizes: Mapping[str, int], threads: int, *arrays: Any) -> tuple[Any, ...]:
        shapes = tuple(np.shape(a) for a in arrays)
        key = (shapes, threads, tuple(sorted(sizes.items())))
        with self.lock:
            pool = self.idle.setdefault(key, [])
            bound = pool.pop() if pool else None
            while len(self.idle) > MAX_BOUND:
                self.idle.pop(next(iter(self.idle)))
        if bound is None:
            pairs = {v.name: (v.shape, s) for v, s in zip(self.inputs, shapes, strict=True)}
            bound = Bound(self.plan, solve_all(pairs, sizes), {}, threads, block_functions)
            bound.run_prologue()
        for view, array in zip(bound.feeds, arrays, strict=True):
            np.copyto(view, array)
        bound.run()
        out = tuple(bound.fetch(n) for n in self.names)
        with self.lock:
            self.idle.setdefault(key, []).append(bound)
        return out


_blocks: WeakKeyDictionary[Block, dict[frozenset[str], NestedBlock]] = WeakKeyDictionary()


def block_functions(
    op: Operator, sizes: Mapping[str, int], threads: int
) -> dict[str, Callable[..., Any]]:
    """The nested blocks of an operator as functions of arrays."""
    engines = enabled_engines()
    out = {}
    for name, block in op.blocks.items():
        cache = _blocks.setdefault(block, {})
        if engines not in cache:
            cache[engines] = NestedBlock(block, engines)
        nested = cache[engines]
        out[name] = lambda *arrays, nested=nested: nested.call(sizes, threads, *arrays)
    return out
