"""What this machine can do at best: products a second, bytes a second. Measured once, kept on disk.

A step of a plan cannot be faster than its bytes at this bandwidth and its operations at this rate
(Williams, Waterman and Patterson, "Roofline", 2009). What fits into a cache moves faster than
memory allows, so bandwidth is measured for several sizes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import NoriaError
from noria.core.files import atomic_write
from noria.core.flags import flags
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.kernels.numba import loader, parallel
from noria.kernels.numba.launch import launch
from noria.kernels.onednn.lib import available
from noria.kernels.registry import kernels
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.tape import Tape

FORMAT = 2  # of the file
SIDE = 2048  # of the matrices of the product
SIZES = (384 << 10, 3 << 20, 12 << 20, 48 << 20)  # bytes that a triad touches in caches
MEMORY = 384 << 20  # and at least so many in memory
ROUNDS, PATIENCE = 4, 0.1  # rounds over all measurements, and seconds for one in a round

_TRIAD = """
def triad(args):
    a, b, c, n = (load_int64(args, 0), load_int64(args, 1), load_int64(args, 2),
                  load_int64(args, 3))
    team, me = team_size(), thread_id()
    for i in range(n * me // team, n * (me + 1) // team):
        independent()
        store_float32(a, i, load_float32(b, i) + float32(3) * load_float32(c, i))
    return 0
"""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The best that was measured.

    products: dtype -> operations a second in a large matrix product
    speeds:   bytes touched -> bytes a second of a = b + 3 * c, which reads two thirds of them
    """

    machine: str
    threads: int
    products: Mapping[str, float]
    speeds: Mapping[int, float]

    @property
    def memory(self) -> float:
        """Bytes a second where no cache helps."""
        return self.speeds[max(self.speeds)]

    def operations(self, dtype: str) -> float:
        """Operations a second for numbers of a dtype; float32's for those not measured."""
        if dtype == "float32" and flags.fpmath in ("bf16", "any"):
            dtype = "bfloat16"
        return self.products.get(dtype, self.products["float32"])

    def bandwidth(self, nbytes: float) -> float:
        """Bytes a second of a step that touches so many, which may all lie in a cache."""
        sizes = sorted(self.speeds)
        logs = [log(s) for s in sizes]
        return float(np.interp(log(max(nbytes, 1.0)), logs, [self.speeds[s] for s in sizes]))

    def better(self, other: Peaks) -> Peaks:
        """The larger of each number."""
        products = {k: max(v, other.products.get(k, 0.0)) for k, v in self.products.items()}
        speeds = {k: max(v, other.speeds.get(k, 0.0)) for k, v in self.speeds.items()}
        return replace(self, products=products, speeds=speeds)

    def floor(self, nbytes: float, operations: float, dtype: str) -> float:
        """Seconds that nothing can beat on this machine."""
        return max(nbytes / self.bandwidth(nbytes), operations / self.operations(dtype))


def peaks(threads: int, *, fresh: bool = False) -> Peaks:
    """Those of this machine: from the disk, or measured now (some seconds).

    fresh: measure again; the better of both counts, since disturbances only make it slower
    """
    path = _path(threads)
    known = _read(path)
    if known is not None and not fresh:
        return known
    found = measure(threads)
    found = found if known is None else found.better(known)
    with contextlib.suppress(NoriaError, OSError):  # a disk that cannot be written is no cache
        atomic_write(path, json.dumps(asdict(found), indent=1).encode())
    return found


def measure(threads: int, side: int = SIDE, memory: int | None = None) -> Peaks:
    """Measure now.

    side: of the matrices; memory: bytes of the largest triad, by default four times the last cache
    """
    far = max(MEMORY, 4 * _last_cache()) if memory is None else memory
    sizes = [*(s for s in SIZES if s < far), far]
    with parallel.team(threads):
        arrays = [np.ones(far // 12, np.float32) for _ in range(3)]
        products = {d: _product(d, side, threads) for d in ("float32", "bfloat16")}
        triads = {size: _triad(arrays, size // 12, threads) for size in sizes}
    # In rounds, because what else runs on a machine comes and goes.
    todo: dict[Any, tuple[float, Callable[[], object]]] = {**products, **triads}
    fastest: dict[Any, float] = {}
    for _ in range(ROUNDS):
        for key, (work, run) in todo.items():
            fastest[key] = max(fastest.get(key, 0.0), work / _fastest(run))
    speeds = {size: fastest[size] for size in sizes}
    return Peaks(machine(), threads, {d: fastest[d] for d in products}, speeds)


def _product(dtype: str, side: int, threads: int) -> tuple[float, Callable[[], object]]:
    """(operations, a run of them) by the kernel that a Program would get."""
    program = Program("product")
    with Builder(program) as b:
        x, y = (b.input(name, (side, side), dtype) for name in "xy")
        program.outputs = {"out": o.matmul(x, y)}
    program.block.outputs = list(program.outputs.values())
    engines = frozenset(k.engine for k in kernels())
    bound = Bound(make_plan(program, engines), {}, {}, threads, block_functions)
    for feed in bound.feeds:
        feed[...] = 1
    bound.run_prologue()
    return 2.0 * side**3, bound.run


def _triad(
    arrays: list[np.ndarray], count: int, threads: int
) -> tuple[float, Callable[[], object]]:
    """(bytes, a run that moves them): several times where there are few."""
    table = [*(a.ctypes.data for a in arrays), count]
    call = launch("triad", _TRIAD, "triad", table, threads=threads, bytes=12 * count)
    rounds = max(1, (16 << 20) // (12 * count))
    return 12.0 * count * rounds, Tape([replace(call, keep=(call, arrays))] * rounds, threads).run


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    run()
    times: list[float] = []
    while len(times) < 2 or sum(times) < PATIENCE:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


# ---- which machine -------------------------------------------------------------------------------


@cache
def machine() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else loader.cpu()[0]


def _last_cache() -> int:
    """Bytes of the last level of cache; 0 if the system does not tell."""
    try:
        found = os.sysconf("SC_LEVEL3_CACHE_SIZE")
    except (OSError, ValueError):
        return 0
    return max(found, 0)


def _path(threads: int) -> Path:
    about = [machine(), *loader.cpu(), threads, sorted(os.sched_getaffinity(0)), flags.onednn]
    about += [available(), FORMAT]
    key = hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:16]
    return Path(flags.cache) / f"peaks-{key}.json"


def _read(path: Path) -> Peaks | None:
    """What an earlier process measured; None if there is nothing, or not this."""
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        about["speeds"] = {int(k): float(v) for k, v in about["speeds"].items()}
        found = Peaks(**about)
        return found if found.memory > 0 and found.operations("float32") > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
