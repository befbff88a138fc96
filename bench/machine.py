"""The machine under the benchmark: which cores to use, and what it is called."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from bench.workloads import THREADS

CPUS = Path("/sys/devices/system/cpu")


def cores(allowed: set[int], threads: int = THREADS, cpus: Path = CPUS) -> set[int]:
    """`threads` of the allowed processors, each on a core of its own as far as there are cores."""
    seen: set[str] = set()
    first, second = [], []
    for cpu in sorted(allowed):
        siblings = cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        core = siblings.read_text().strip() if siblings.exists() else str(cpu)
        (second if core in seen else first).append(cpu)
        seen.add(core)
    return set((first + second)[:threads])


def settle_on_cores() -> None:
    """Keep this process, and all it starts, on as many cores as there are threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores(os.sched_getaffinity(0)))


def name() -> str:
    """The processor as it calls itself, and how many there are."""
    info = Path("/proc/cpuinfo")
    found = platform.processor()
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        found = lines[0].split(":")[1].strip() if lines else found
    return f"{found}, {os.cpu_count()} cores"
