"""The process of an engine: its interpreter, its environment variables, the same for all but where
an engine has a switch of its own."""

from __future__ import annotations

import os
from pathlib import Path

from bench.environments import python_of
from bench.workloads import ENGINES, NORIA, THREADS

SHARED = {  # a caching allocator for all: no page faults in the steady state
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
    "PYTHONWARNINGS": "ignore",
}

OWN = {
    NORIA: {"NORIA_THREADS": str(THREADS)},
    "jax": {"JAX_PLATFORMS": "cpu", "NPROC": str(THREADS), "TF_CPP_MIN_LOG_LEVEL": "2"},
    "paddle": {"GLOG_minloglevel": "2", "FLAGS_paddle_num_threads": str(THREADS)},
}

HIDDEN = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")  # rivals do not see noria's packages


def command(engine: str, workload: str) -> list[str]:
    """The command line of an engine's process, run in the root of the repository."""
    return [str(python_of(engine)), "-m", "bench.child", engine, workload]


def caches_of(engine: str, folder: Path) -> dict[str, str]:
    """Where compilers keep their results: empty at the start, so that first steps are cold."""
    if engine == NORIA:
        return {"NORIA_CACHE": str(folder)}
    if ENGINES[engine].environment == "torch":
        return {"TORCHINDUCTOR_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "t")}
    return {}


def child_environment(engine: str, caches: Path) -> dict[str, str]:
    """The environment variables of an engine's process."""
    kept = {k: v for k, v in os.environ.items() if engine == NORIA or k not in HIDDEN}
    return {**kept, **SHARED, **OWN.get(engine, {}), **caches_of(engine, caches)}
