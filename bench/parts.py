"""What noria measures of itself: its own cost a step, its memory, the demo. One number each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import results, table
from bench.rounds import measure
from bench.settings import SHARED
from bench.sizes import CHAIN
from bench.validate import STEPS
from bench.workloads import NORIA, WORKLOADS

Rows = Iterator[tuple[str, dict[str, Any]]]


class PartError(Exception):
    """A part could not be measured."""


def row(
    value: float, unit: str, goal: float | None = None, *, lower: bool = True
) -> dict[str, Any]:
    """One line of the second table."""
    return {"value": value, "unit": unit, "goal": goal, "lower_is_better": lower}


def overhead() -> Rows:
    """Microseconds an operator in a chain of 1,000 operators on 16 numbers each."""
    side = measure("chain", [NORIA], rounds=5, slice_s=0.3)[NORIA]
    if not side.works:
        raise PartError(side.failed)
    yield "engine overhead", row(side.median * 1e6 / CHAIN, "us an op", 1)


def arena() -> Rows:
    """ResNet-50 training, batch 16: arena over the sum of all values of the Program as built."""
    shares = json.loads(python("-m", "bench.arena"))
    yield "resnet50_train arena / all values", row(shares["kept"], "", 0.4)
    yield "resnet50_train arena with recompute / all values", row(shares["recompute"], "", 0.3)


def memory() -> Rows:
    """Peak resident memory of training, over that of the leanest rival in the last results."""
    found = {r.workload.name: r for r in table.rows(results.load())}
    for name, goal in (
        ("resnet50_train_fp32", 0.7),
        ("resnet50_train_bf16", 0.7),
        ("lstm_lm_train", 1.0),
        ("transformer_train", 1.0),
    ):
        measured = found.get(name)
        if measured is None or measured.noria is None or measured.leanest is None:
            raise PartError(f"{name} was not measured beside a rival")
        lean = measured.rivals[measured.leanest]["peak_rss_mb"]
        yield f"{name}, peak memory / leanest", row(measured.noria["peak_rss_mb"] / lean, "", goal)
        if name == "resnet50_train_fp32":
            side = measure("resnet50_train_recompute", [NORIA], rounds=3, slice_s=0.6)[NORIA]
            if not side.works:
                raise PartError(side.failed)
            yield (
                f"{name}, peak memory with recompute / leanest",
                row(side.peak_rss_mb / lean, "", 0.45),
            )


def share() -> Rows:
    """Convolutions and products of ResNet-50's training over the whole step."""
    for name in ("resnet50_train_fp32", "resnet50_train_bf16"):
        found = json.loads(python("-m", "bench.share", name))
        yield f"{name}, products / step", row(found["share"], "", 0.85, lower=False)


def growth() -> Rows:
    """Time of a step over eight times the size, as a share of eight times the time: 1 is linear."""
    for what in ("batch", "length"):
        for title, share in json.loads(python("-m", "bench.growth", what)).items():
            yield title, row(share, "of linear", 1.1)


def planning() -> Rows:
    """A Program of 4,000 operators, cache cold and warm; sizes that are new."""
    with tempfile.TemporaryDirectory() as cache:
        for state, goal in (("cold", 5), ("from the cache", 1)):
            out = json.loads(python("-m", "bench.growth", "planning", NORIA_CACHE=cache))
            for title, seconds in out.items():
                yield f"{title}, {state}", row(seconds, "s", goal)
    for title, us in json.loads(python("-m", "bench.growth", "binding")).items():
        yield title, row(us, "us an op", 20)


def demo() -> Rows:
    """Process start to the first training step, cache cold and warm; accuracy and time."""
    with tempfile.TemporaryDirectory() as cache:
        cold = _first_step(cache)
        warm = min(_first_step(cache) for _ in range(3))
    yield "demo, first step, cold cache", row(cold, "s", 15)
    yield "demo, first step, warm cache", row(warm, "s", 3)
    accuracy, seconds = _train("digits")
    yield "digits, test accuracy", row(accuracy, "", 0.98, lower=False)
    yield "digits, time to train", row(seconds, "s", 60)


def validate() -> Rows:
    """Steps of each workload at its full size whose fast kernels all gave what the reference does.

    Some workloads take minutes. 0: one differs, which is told on standard error.
    """
    for workload in WORKLOADS:
        try:
            steps = json.loads(python("-m", "bench.validate", workload, NORIA_VALIDATE="1"))[
                "steps"
            ]
        except PartError as error:
            print(f"{workload}: {error}", file=sys.stderr)
            steps = 0
        yield f"{workload}, validated", row(steps, "steps", STEPS, lower=False)


def fashion() -> Rows:
    """Fashion-MNIST, where its files are there."""
    if Path("/usr/share/datasets/fashion-mnist").is_dir():
        accuracy, seconds = _train("fashion-mnist")
        yield "fashion-mnist, test accuracy", row(accuracy, "", 0.91, lower=False)
        yield "fashion-mnist, time to train", row(seconds, "s")


def _train(recipe: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        text = python("-m", "noria.cli", "train", recipe, "--out", f"{out}/run")
        seconds = time.perf_counter() - start
    return float(text.strip().splitlines()[-1].split(":")[1]), seconds


def _first_step(cache: str) -> float:
    start = time.perf_counter()
    python("-m", "bench.first_step", NORIA_CACHE=cache)
    return time.perf_counter() - start


def python(*args: str, **env: str) -> str:
    """What a Python process of its own prints. Raises PartError with the last line it says."""
    done = subprocess.run(
        [sys.executable, *args],
        env={**os.environ, **SHARED, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PartError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return done.stdout


PARTS: dict[str, Callable[[], Rows]] = {
    "overhead": overhead,
    "arena": arena,
    "memory": memory,
    "share": share,
    "growth": growth,
    "planning": planning,
    "demo": demo,
    "fashion": fashion,
    "validate": validate,
}
ON_REQUEST = ("validate",)  # takes too long to be run with all others
