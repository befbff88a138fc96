"""The product that OpenVINO reaches, with weights packed."""

from __future__ import annotations

from functools import partial

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from bench.rivals.ov.common import Run
from bench.sizes import GEMM
from bench.workloads import THREADS


def gemm(precision: str) -> Run:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((GEMM, GEMM), np.float32) for _ in range(2))
    x = ops.parameter(a.shape, np.float32)
    model = ov.Model([ops.matmul(x, ops.constant(b), False, False)], [x])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(a))

    def run(steps: int) -> None:
        for _ in range(steps):
            request.infer()

    return run


MAKERS = {"gemm_fp32": partial(gemm, "f32"), "gemm_bf16": partial(gemm, "bf16")}
