"""Sessions of ONNX Runtime: all graph optimisations, threads of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnxruntime as ort

from bench.rivals import inputs
from bench.rivals.exported import FILES, path_of
from bench.workloads import THREADS, family_of

Run = Callable[[int], None]


def session(workload: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    path = str(path_of(workload))
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def latency(workload: str) -> Run:
    """NumPy in, NumPy out."""
    call, feeds = session(workload).run, inputs.of(workload)

    def run(steps: int) -> None:
        for _ in range(steps):
            call(None, feeds)

    return run


def inference(workload: str) -> Run:
    """Inputs and outputs bound once, so that no call copies them."""
    model = session(workload)
    binding = model.io_binding()
    for name, array in inputs.of(workload).items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
    binding.bind_output(model.get_outputs()[0].name)

    def run(steps: int) -> None:
        for _ in range(steps):
            model.run_with_iobinding(binding)

    return run


def makers(family: str) -> dict[str, Callable[[], Run]]:
    """All exported networks of a family; the CPU provider has no bf16 convolutions."""
    return {
        w: partial(latency if w.endswith("_latency") else inference, w)
        for w in FILES
        if family_of(w) == family and not w.endswith("_bf16")
    }
