"""What a bound plan is, in a few lines: kernels, bytes, operations."""

from __future__ import annotations

import sys
from collections import Counter

from noria.core.flags import flags
from noria.runtime.bind import Bound
from noria.runtime.plan import Step, describe


def announce(bound: Bound) -> Bound:
    """The same; with NORIA_DEBUG=1 its plan and summary are printed to standard error."""
    if flags.debug >= 1:
        print(f"{describe(bound.plan)}\n{summary(bound)}", file=sys.stderr)
    return bound


def summary(bound: Bound) -> str:
    """Steps by engine, and the memory plan: arena, sum of all values, largest live set."""
    engines = Counter(_engine(bound, step) for step in bound.plan.steps)
    flops = sum(bound.work(item).operations for item in bound.items)
    state = sum(a.nbytes for a in bound.state.values())
    sizes = ", ".join(f"{k}={v}" for k, v in sorted(bound.sizes.items())) or "fixed sizes"
    share = bound.arena_bytes / bound.naive_bytes if bound.naive_bytes else 0.0
    return "\n".join(
        [
            f"plan for {sizes}: {len(bound.plan.steps)} steps ("
            + ", ".join(f"{n} {e}" for e, n in engines.most_common())
            + ")",
            f"arena {_bytes(bound.arena_bytes)}, all values {_bytes(bound.naive_bytes)} "
            f"({share:.2f}), largest live set {_bytes(bound.peak_bytes)}, state {_bytes(state)}",
            f"work {flops / 1e9:.3f} Gflop a step",
        ]
    )


def _engine(bound: Bound, step: Step) -> str:
    """Who runs the step at these sizes: the kernel planned may have declined them."""
    kernel = bound.kernels.get(step)
    if kernel is not None:
        return kernel.engine
    return "reference" if step.kernel is not None else step.engine


def _bytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n} B"
