"""The networks for inference as ONNX files, made once from the PyTorch ones, in its environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.environments import python_of
from bench.workloads import CACHE

# bf16 is a switch of the engines, so it has no file of its own.
FILES = {
    "resnet50_infer_bs1": "resnet50_bs1",
    "resnet50_infer_bs16": "resnet50_bs16",
    "resnet50_infer_bs16_bf16": "resnet50_bs16",
    "mobilenet_v2_infer_bs1": "mobilenet_v2_bs1",
    "bert_base_infer_bs1": "bert_base_bs1",
    "tiny_mlp_latency": "tiny_mlp",
    "deepfm_latency": "deepfm",
}


def path_of(workload: str) -> Path:
    """The ONNX file of a workload; it is made if it is not there."""
    path = CACHE / f"{FILES[workload]}.onnx"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        maker = [str(python_of("torch")), "-m", "bench.rivals.pytorch.export"]
        subprocess.run([*maker, FILES[workload], str(path)], check=True, stdout=subprocess.DEVNULL)
    return path
