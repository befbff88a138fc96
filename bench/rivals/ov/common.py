"""Compiled models of OpenVINO: float32 or bfloat16 as the workload says, hints by batch size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import openvino as ov

from bench import sizes
from bench.rivals import inputs
from bench.rivals.exported import FILES, path_of
from bench.workloads import THREADS, family_of

Run = Callable[[int], None]


def compiled(workload: str, hint: str) -> ov.CompiledModel:
    settings = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": "bf16" if workload.endswith("_bf16") else "f32",
    }
    return ov.Core().compile_model(str(path_of(workload)), "CPU", settings)


def latency(workload: str) -> Run:
    """NumPy in, NumPy out; the input is read where it lies."""
    request = compiled(workload, "LATENCY").create_infer_request()
    arrays = list(inputs.of(workload).values())

    def run(steps: int) -> None:
        for _ in range(steps):
            request.infer(arrays, share_inputs=True)

    return run


def inference(workload: str) -> Run:
    """One request after the other, on all threads; tensors are set once."""
    request = compiled(workload, "LATENCY").create_infer_request()
    for name, array in inputs.of(workload).items():
        request.set_tensor(name, ov.Tensor(array))

    def run(steps: int) -> None:
        for _ in range(steps):
            request.infer()

    return run


def throughput(workload: str) -> Run:
    """As many requests at a time as OpenVINO asks for: a stream on each core."""
    queue = ov.AsyncInferQueue(compiled(workload, "THROUGHPUT"))
    for request in queue:
        for name, array in inputs.of(workload).items():
            request.set_tensor(name, ov.Tensor(array))

    def run(steps: int) -> None:
        for _ in range(steps):
            queue.start_async()
        queue.wait_all()

    return run


def makers(family: str) -> dict[str, Callable[[], Run]]:
    """All exported networks of a family."""
    return {w: partial(_kind(w), w) for w in FILES if family_of(w) == family}


def _kind(workload: str) -> Callable[[str], Run]:
    if workload.endswith("_latency"):
        return latency
    return throughput if sizes.BATCH[workload] > 1 else inference
