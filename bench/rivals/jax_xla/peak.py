"""The product that XLA reaches."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bench.rivals.jax_xla.common import Run
from bench.sizes import GEMM


def gemm(dtype: Any) -> Run:
    a = jax.random.normal(jax.random.key(0), (GEMM, GEMM), dtype)
    product = jax.jit(jnp.matmul)

    def run(steps: int) -> None:
        for _ in range(steps):
            product(a, a).block_until_ready()

    return run


MAKERS = {"gemm_fp32": partial(gemm, jnp.float32), "gemm_bf16": partial(gemm, jnp.bfloat16)}
