"""The machine's peaks through what noria runs on: a product of oneDNN alone, a generated loop."""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import noria
from bench import sizes
from bench.noria_side.common import Run
from noria import ops
from noria.kernels.call import run as run_call
from noria.kernels.numba import parallel
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc

DTYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}


def gemm(dtype: str) -> Run:
    """Weights lie as oneDNN likes them best."""
    square = (sizes.GEMM, sizes.GEMM)
    plain = MemDesc(square, dtype)
    parallel.enter()
    parallel.enter_thread()
    primitive = matmul(plain, MemDesc.any(square, dtype), plain)
    arrays = {arg: _numbers(d.nbytes, dtype) for arg, d in primitive.descs.items()}
    call = primitive.call({arg: a.ctypes.data for arg, a in arrays.items()})

    def run(steps: int) -> None:
        for _ in range(steps):
            run_call(call)
        assert np.isfinite(arrays[ARG.DST][0])

    return run


def _numbers(nbytes: int, dtype: str) -> np.ndarray:
    """Normal numbers that fill a buffer, on a cache line."""
    kind = np.dtype(DTYPES[dtype])
    raw = np.empty(nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + nbytes].view(kind)
    out[...] = np.random.default_rng(0).standard_normal(out.size, np.float32)
    return out


def triad() -> Run:
    """a = b + s * c, as STREAM does it (McCalpin, 1995): one update of a state that is large."""

    def body() -> dict[str, Any]:
        return {}

    program = noria.trace(body)
    with noria.Builder(program) as builder:
        a, b, c = (
            builder.state(n, (sizes.TRIAD,), "float32", init=("fill", {"value": v}))
            for n, v in (("a", 0.0), ("b", 1.0), ("c", 2.0))
        )
        del a
        builder.update("a", ops.add(b, ops.mul(c, 3.0)))
    executor = noria.Executor(program)

    def run(steps: int) -> None:
        for _ in range(steps):
            executor.run({}, [])
        assert executor.scope["a"][-1] == 7

    return run


MAKERS = {
    "gemm_fp32": partial(gemm, "float32"),
    "gemm_bf16": partial(gemm, "bfloat16"),
    "memory_bandwidth": triad,
}
