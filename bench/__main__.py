"""`make bench`: noria beside its rivals in one run. Prints a table, writes bench/results.json."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rounds import Side, measure
from bench.work import ALLOCATOR, BATCH, CHAIN, STEPS, THREADS

HERE = Path(__file__).parent
ROUNDS = 7


def throughput(workload: str, goal: float) -> dict[str, Any]:
    """Training samples per second, noria over PyTorch."""
    sides = measure(workload, ["noria", "torch"], STEPS[workload], ROUNDS)
    rates = {e: BATCH[workload] / s.median for e, s in sides.items()}
    return _row("samples/s", rates["noria"], rates["torch"], rates["noria"] / rates["torch"], goal)


def latency() -> list[tuple[str, dict[str, Any]]]:
    """Microseconds of one call, batch 1, NumPy in and out."""
    engines = ["noria", "torch", "onnxruntime"]
    sides = measure("tiny_mlp_latency", engines, STEPS["tiny_mlp_latency"], ROUNDS)
    us = {e: s.median * 1e6 for e, s in sides.items()}
    vs_torch = _row("us", us["noria"], us["torch"], us["torch"] / us["noria"], 8.0)
    vs_ort = _row("us", us["noria"], us["onnxruntime"], us["onnxruntime"] / us["noria"], 1.0)
    return [
        ("tiny_mlp_latency vs PyTorch", vs_torch),
        ("tiny_mlp_latency vs ONNX Runtime", vs_ort),
    ]


def overhead() -> dict[str, Any]:
    """Microseconds an operator in a chain of 1,000 operators on 16 numbers each."""
    side = measure("chain", ["noria"], 50, ROUNDS)["noria"]
    per_op = side.median * 1e6 / CHAIN
    return _row("us an op", per_op, None, None, 1.0, lower=True, reached=per_op < 1.0)


def memory() -> list[tuple[str, dict[str, Any]]]:
    """ResNet-50 training, batch 16: arena over all values, and peak memory of the process."""
    sides = measure("resnet50_train_fp32", ["noria", "torch"], 1, 2, warm=0)
    share = json.loads(_python("-m", "bench.arena"))
    peak = {e: s.peak_rss_mb for e, s in sides.items()}
    rates = {e: BATCH["resnet50_train_fp32"] / s.median for e, s in sides.items()}
    ratio = peak["noria"] / peak["torch"]
    return [
        (
            "resnet50_train arena / all values",
            _row("", share["share"], None, None, 0.5, lower=True, reached=share["share"] <= 0.5),
        ),
        (
            "resnet50_train peak memory",
            _row("MB", peak["noria"], peak["torch"], ratio, 1.0, lower=True, reached=ratio < 1),
        ),
        (
            "resnet50_train_fp32",
            _row(
                "samples/s", rates["noria"], rates["torch"], rates["noria"] / rates["torch"], None
            ),
        ),
    ]


def demo() -> list[tuple[str, dict[str, Any]]]:
    """Process start to the first training step, cache cold and warm; accuracy and time."""
    out = []
    with tempfile.TemporaryDirectory() as cache:
        cold = _first_step(cache)
        warm = min(_first_step(cache) for _ in range(3))
    out.append(("demo, first step, cold cache", _limit("s", cold, 15)))
    out.append(("demo, first step, warm cache", _limit("s", warm, 3)))
    accuracy, seconds = _train("digits")
    out.append(("digits, test accuracy", _floor("", accuracy, 0.98)))
    out.append(("digits, time to train", _limit("s", seconds, 60)))
    return out


def fashion() -> list[tuple[str, dict[str, Any]]]:
    """Fashion-MNIST, where its files are there."""
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        return []
    accuracy, seconds = _train("fashion-mnist")
    return [
        ("fashion-mnist, test accuracy", _floor("", accuracy, 0.91)),
        ("fashion-mnist, time to train", _row("s", seconds, None, None, None)),
    ]


def _train(recipe: str) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        text = _python("-m", "noria.cli", "train", recipe, "--out", f"{out}/run")
        seconds = time.perf_counter() - start
    return float(text.strip().splitlines()[-1].split(":")[1]), seconds


def _first_step(cache: str) -> float:
    start = time.perf_counter()
    _python("-m", "bench.first_step", NORIA_CACHE=cache)
    return time.perf_counter() - start


def _python(*args: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *args],
        env={**os.environ, **ALLOCATOR, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(args)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def _row(
    unit: str,
    noria: float,
    rival: float | None,
    ratio: float | None,
    goal: float | None,
    *,
    lower: bool = False,
    reached: bool | None = None,
) -> dict[str, Any]:
    if reached is None and ratio is not None and goal is not None:
        reached = ratio >= goal
    row = {"noria": noria, "rival": rival, "ratio": ratio, "goal": goal, "unit": unit}
    return {**row, "lower_is_better": lower, "reached": reached}


def _limit(unit: str, value: float, goal: float) -> dict[str, Any]:
    return _row(unit, value, None, None, goal, lower=True, reached=value < goal)


def _floor(unit: str, value: float, goal: float) -> dict[str, Any]:
    return _row(unit, value, None, None, goal, reached=value >= goal)


PARTS = {
    "mlp": lambda: [("mlp_train", throughput("mlp_train", 1.2))],
    "lenet": lambda: [("lenet_train", throughput("lenet_train", 1.5))],
    "latency": latency,
    "overhead": lambda: [("engine overhead", overhead())],
    "memory": memory,
    "demo": demo,
    "fashion": fashion,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default all")
    chosen = parser.parse_args().parts or list(PARTS)
    results: dict[str, dict[str, Any]] = {}
    for part in chosen:
        for name, row in PARTS[part]():
            results[name] = row
    _print(results)
    path = HERE / "results.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    about = {"date": str(datetime.date.today()), "machine": _machine(), "threads": THREADS}
    new = {name: {**row, **about} for name, row in results.items()}
    path.write_text(json.dumps({**old, **new}, indent=1) + "\n")


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    name = platform.processor()
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].split(":")[1].strip() if lines else name
    return f"{name}, {os.cpu_count()} cores"


def _print(results: dict[str, dict[str, Any]]) -> None:
    table = Table(
        "workload", "noria", "rival", "ratio", "goal", "", title="noria beside its rivals"
    )
    for name, r in results.items():
        mark = {True: "reached", False: "missed", None: ""}[r["reached"]]
        sign = "<= " if r["lower_is_better"] else ">= "
        cells = [f"{r['noria']:,.4g} {r['unit']}", _number(r["rival"]), _number(r["ratio"])]
        goal = "" if r["goal"] is None else f"{sign}{r['goal']:g}"
        table.add_row(name, *cells, goal, mark)
    width = shutil.get_terminal_size((110, 24)).columns
    Console(width=max(width, 100)).print(table)


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:,.4g}"


__all__ = ["Side", "main"]

if __name__ == "__main__":
    main()
