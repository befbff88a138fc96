"""The product that PyTorch reaches: MKL in float32, oneDNN in bfloat16."""

from __future__ import annotations

from functools import partial

import torch

from bench.rivals.pytorch.common import Run
from bench.sizes import GEMM


def gemm(dtype: torch.dtype) -> Run:
    a, b, out = (torch.randn(GEMM, GEMM).to(dtype) for _ in range(3))

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                torch.mm(a, b, out=out)

    return run


MAKERS = {"gemm_fp32": partial(gemm, torch.float32), "gemm_bf16": partial(gemm, torch.bfloat16)}
