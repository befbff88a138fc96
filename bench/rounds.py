"""Interleaved rounds: every engine lives in its own process and they take turns, so that a drift of
the machine falls on all alike. While one runs, the others wait in a read."""

from __future__ import annotations

import contextlib
import json
import select
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.settings import child_environment, command

LIMIT_S = 600  # an engine that says nothing for so long is given up
LEAST_ROUNDS = 3  # of every engine
BEHIND = 1.5  # an engine whose best round took so many times the fastest rival's is not the best
LEAST_STEPS, LONG_S = 3, 2.0  # of a slice, where a step does not take so long: see `_fitting`
SETTLE_S = 0.1  # threads of the engine before stop spinning


class EngineError(Exception):
    """An engine's process ended or hung; the message is its last word."""


@dataclass
class Side:
    """One engine's process, and what it measured."""

    engine: str
    log: Any
    process: subprocess.Popen[bytes] | None = None
    start: dict[str, Any] = field(default_factory=dict)
    seconds_per_step: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    steps: int = 1
    idle_cpu_s: float = 0.0  # used while it should have waited
    failed: str = ""
    _cpu: float | None = None

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds_per_step)

    @property
    def works(self) -> bool:
        return not self.failed and "absent" not in self.start

    def ask(self, steps: int, limit: float = LIMIT_S) -> float:
        """Run so many steps: seconds of each. Raises EngineError."""
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(f"{steps}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            raise EngineError(self.last_word()) from None
        got = self.read(limit)
        before, after = got["cpu"]
        if self._cpu is not None:
            self.idle_cpu_s += before - self._cpu
        self._cpu, self.peak_rss_mb = after, got["peak_rss_mb"]
        return got["seconds"] / got["steps"]

    def read(self, limit: float = LIMIT_S) -> dict[str, Any]:
        """The next line the process writes. Raises EngineError."""
        assert self.process is not None and self.process.stdout is not None
        out = self.process.stdout
        if not select.select([out], [], [], limit)[0]:
            self.process.kill()
            raise EngineError(f"gave no answer for {limit:g} s")
        line = out.readline()
        if not line:
            raise EngineError(self.last_word())
        return json.loads(line)

    def last_word(self) -> str:
        """The last line on its stderr, or how it ended."""
        status = self.process.wait() if self.process else None
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else f"ended with status {status}"

    def close(self) -> None:
        """Let the process end; it has nothing left to do."""
        self.log.close()
        if self.process is None:
            return
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def spawn(engine: str, workload: str, caches: Path, limit: float = LIMIT_S) -> Side:
    """Start an engine and wait until its first step is done; `failed` says if that did not work."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - Side.close
    side = Side(engine, log)
    try:
        side.process = subprocess.Popen(
            command(engine, workload),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child_environment(engine, caches),
            cwd=Path(__file__).parent.parent,
        )
        side.start = side.read(limit)
    except OSError as error:
        side.failed = f"{error} (python -m bench.environments makes what is missing)"
    except EngineError as error:
        side.failed = str(error)
    return side


def measure(
    workload: str,
    engines: Sequence[str],
    *,
    rounds: int,
    slice_s: float,
    turns: int = 1,
    caches: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Side]:
    """Rounds in which the engines run one after the other, each for about `slice_s` seconds.

    Each round starts with another engine. The first engine is compared with the others, its rivals:
    after LEAST_ROUNDS those far behind the fastest of them end, so that rounds stay short and what
    is compared lies close together.

    turns:  steps are a multiple of it; caches: where compilers keep what they made, default a new
    folder, so that first steps are cold. What fails is in the result with its reason.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as new:
        sides = []
        for engine in engines:
            say(f"{workload}: {engine} starts")
            sides.append(spawn(engine, workload, (caches or Path(new)) / engine))
        for side in sides:
            _attempt(side, lambda s: _calibrate(s, slice_s, turns))
        running = list(sides)
        for r in range(rounds):
            say(f"{workload}: round {r + 1} of {rounds}")
            first = r % len(running)
            for side in running[first:] + running[:first]:
                _attempt(side, _slice)
            if r + 1 >= LEAST_ROUNDS:
                running = _ahead(running)
        for side in running:
            side.close()
    return {s.engine: s for s in sides}


def _ahead(running: Sequence[Side]) -> list[Side]:
    """The first engine, and its rivals that may be the fastest; the others end."""
    rivals = [s for s in running[1:] if s.works]
    fastest = min((min(s.seconds_per_step) for s in rivals), default=0.0)
    kept = [s for s in rivals if min(s.seconds_per_step) <= BEHIND * fastest]
    for side in running[1:]:
        if side not in kept:
            side.close()
    return [running[0], *kept]


def _attempt(side: Side, what: Callable[[Side], None]) -> None:
    if not side.works:
        return
    try:
        what(side)
    except EngineError as error:
        side.failed = str(error)


def _calibrate(side: Side, slice_s: float, turns: int) -> None:
    """Warm up, every batch once, and find how many steps fill a slice."""
    for _ in range(2):
        side.steps = _fitting(side.ask(max(side.steps, turns)), slice_s, turns)
    side._cpu = None


def _fitting(seconds: float, slice_s: float, turns: int) -> int:
    """Steps of a slice. The first one after seconds of waiting takes a tenth longer than those that
    follow, whatever the engine; training does not wait, so that step is not taken alone."""
    least = LEAST_STEPS if seconds < LONG_S else 1
    return max(-(-least // turns), round(slice_s / seconds / turns)) * turns


def _slice(side: Side) -> None:
    time.sleep(SETTLE_S)
    side.seconds_per_step.append(side.ask(side.steps))


def summary(side: Side) -> dict[str, Any]:
    """What results.json keeps of an engine."""
    if not side.works:
        return {"failed": side.failed} if side.failed else {"absent": side.start["absent"]}
    spread = (max(side.seconds_per_step) - min(side.seconds_per_step)) / side.median
    return {
        "seconds": side.median,
        "rounds_s": side.seconds_per_step,
        "spread": spread,
        "build_s": side.start["build_s"],
        "compile_s": max(0.0, side.start["first_step_s"] - side.median),
        "peak_rss_mb": side.peak_rss_mb,
        "steps": side.steps,
        "idle_cpu_s": side.idle_cpu_s,
    }
