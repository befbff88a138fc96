"""The latency workload in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import onnxruntime

from bench.torch_side import export_tiny
from bench.work import THREADS, vectors


def make(workload: str) -> Callable[[int], None]:
    """The run function of `tiny_mlp_latency`."""
    assert workload == "tiny_mlp_latency"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
        export_tiny(f.name)
        session = onnxruntime.InferenceSession(f.name, options, ["CPUExecutionProvider"])
    feeds = {"x": vectors(1, 64)}

    def run(steps: int) -> None:
        for _ in range(steps):
            session.run(None, feeds)

    return run
