"""What the machine can do: products, and memory. The best of several libraries is the peak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.rounds import measure
from bench.sizes import GEMM, TRIAD


def amount(name: str) -> tuple[float, str]:
    """(operations or bytes of one step in the unit's 1e9, unit)."""
    if name == "memory_bandwidth":
        return 3 * TRIAD * 4 / 1e9, "GB/s"  # as STREAM counts: two read, one written
    return 2 * GEMM**3 / 1e9, "GFLOP/s"


def measure_peak(name: str, engines: Sequence[str]) -> dict[str, Any] | None:
    """{"value", "unit", "by", "engines"}, or None if no engine could say."""
    sides = measure(name, engines, rounds=5, slice_s=0.3)
    done, unit = amount(name)
    rates = {e: done / min(s.seconds_per_step) for e, s in sides.items() if s.works}
    if not rates:
        return None
    best = max(rates, key=lambda e: rates[e])
    return {"value": rates[best], "unit": unit, "by": best, "engines": rates}
