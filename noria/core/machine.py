"""What this process has of its machine: CPUs it may run on, sizes of their caches, memory left.

All are read from the system where it tells them. Nothing that is computed depends on them, beyond
the order of sums.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

GROUPS, FOLDER = "/proc/self/cgroup", "/sys/fs/cgroup"
CPUS = "/sys/devices/system/cpu"


def cpu_count() -> int:
    """CPUs that this process may use: those it is bound to, or fewer where a quota of its control
    group leaves less time than theirs."""
    return max(1, min(len(os.sched_getaffinity(0)), quota()))


@cache
def quota(groups: str = GROUPS, folder: str = FOLDER) -> int:
    """CPUs' worth of time that the control groups around this process allow, rounded up."""
    least = min(map(_limit, _folders(groups, Path(folder))), default=math.inf)
    return math.ceil(min(least, 1 << 30))


def _folders(groups: str, root: Path) -> Iterator[Path]:
    """Where limits may be: of the group and all above it, in both versions of control groups.

    In a container the path told may be that of the host, while its own group is the root.
    """
    yield root
    try:
        lines = Path(groups).read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if not names or "cpu" in names.split(","):
            inside = Path(path.lstrip("/"))
            for place in (inside, *inside.parents):
                yield root / names / place


def _limit(group: Path) -> float:
    """CPUs of one control group, version 2 or 1; infinity where there is no limit."""
    try:
        if (group / "cpu.max").exists():
            time, period = (group / "cpu.max").read_text().split()
        else:
            time, period = ((group / f"cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
        cpus = int(time) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
    return cpus if cpus > 0 else math.inf


def memory_left(folder: str = FOLDER) -> int:
    """Bytes until the limit of a container's control group (version 2); what only caches files
    counts as free."""
    group = Path(folder)
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        known = {name: int(count) for name, count in lines}
        return max(limit - used + known["inactive_file"] + known["active_file"], 0)
    except (OSError, ValueError, KeyError):  # no group, or no limit
        return 1 << 62


class Caches(NamedTuple):
    """Bytes of data caches: what one CPU has of the first two, and the whole last one."""

    first: int
    second: int
    last: int


# Where the system does not tell; and between what bounds blocks are cut for a size that it tells.
DEFAULT = Caches(32 << 10, 1 << 20, 16 << 20)
LEAST = Caches(16 << 10, 256 << 10, 2 << 20)
MOST = Caches(128 << 10, 4 << 20, 64 << 20)


@cache
def caches(folder: str = CPUS) -> Caches:
    """The caches of the CPU this process runs on; shared ones in equal parts, but the last."""
    cpu = min(os.sched_getaffinity(0))
    told: dict[int, int] = {}
    for place in Path(folder, f"cpu{cpu}", "cache").glob("index*"):
        told |= _cache(place)
    bounds = zip((1, 2, 3), DEFAULT, LEAST, MOST, strict=True)
    return Caches(*(min(max(told.get(n, usual), low), high) for n, usual, low, high in bounds))


def _cache(place: Path) -> dict[int, int]:
    """{level: bytes for each CPU, of the third level in all} of one cache; {} if it holds code."""
    try:
        kind, level, size, sharers = (
            (place / name).read_text().strip()
            for name in ("type", "level", "size", "shared_cpu_list")
        )
        nbytes = int(size[:-1]) << {"K": 10, "M": 20}[size[-1]]
        parts = 1 if level == "3" else _length(sharers)
        return {} if kind == "Instruction" else {int(level): nbytes // parts}
    except (OSError, ValueError, LookupError):
        return {}


def _length(cpus: str) -> int:
    """How many CPUs a list such as "0-3,8" names."""
    ends = [part.partition("-")[::2] for part in cpus.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, last in ends)
