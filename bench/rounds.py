"""Interleaved rounds: every engine lives in its own process and they take turns, so that a drift of
the machine falls on all alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from bench.work import ALLOCATOR


@dataclass
class Side:
    """One engine's process, and what it measured."""

    engine: str
    process: subprocess.Popen[str]
    start: dict[str, Any] = field(default_factory=dict)
    seconds_per_step: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds_per_step)


def spawn(engine: str, workload: str) -> Side:
    """Start an engine and wait until its first step is done."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.child", engine, workload],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ALLOCATOR},
    )
    side = Side(engine, process)
    side.start = _read(side)
    return side


def _read(side: Side) -> dict[str, Any]:
    assert side.process.stdout is not None
    line = side.process.stdout.readline()
    if not line:
        raise SystemExit(f"{side.engine} stopped with status {side.process.wait()}")
    return dict(json.loads(line))


def measure(
    workload: str, engines: list[str], steps: int, rounds: int, warm: int = 1
) -> dict[str, Side]:
    """Medians over rounds in which the engines run one after the other."""
    sides = [spawn(e, workload) for e in engines]
    for r in range(warm + rounds):
        for side in sides:
            assert side.process.stdin is not None
            side.process.stdin.write(f"{steps}\n")
            side.process.stdin.flush()
            got = _read(side)
            side.peak_rss_mb = got["peak_rss_mb"]
            if r >= warm:
                side.seconds_per_step.append(got["seconds"] / got["steps"])
    for side in sides:
        assert side.process.stdin is not None
        side.process.stdin.close()
        side.process.wait()
    return {s.engine: s for s in sides}
