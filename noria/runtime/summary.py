"""What a bound plan is, in a few lines: kernels, bytes, operations."""

from __future__ import annotations

from collections import Counter

from noria.runtime.bind import Bound


def summary(bound: Bound) -> str:
    """Steps by engine, and the memory plan: arena, sum of all values, largest live set."""
    engines = Counter(s.engine.split(":")[0] for s in bound.plan.steps)
    flops = sum(i.prepared.work for i in bound.items if i.prepared and i.pack is None)
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
            f"matrix and convolution work {flops / 1e9:.3f} Gflop a step",
        ]
    )


def _bytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n} B"
