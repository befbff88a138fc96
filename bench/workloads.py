"""The workloads: who can run each, what is counted, and the ratio to the best rival to reach."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import flops, sizes

THREADS = 2

NORIA = "noria"
TRAINERS = ("torch", "torch_compiled", "jax", "paddle")
PREDICTORS = (*TRAINERS, "onnxruntime", "openvino")
RAGGED = ("torch_packed", *TRAINERS)
GEMM = ("noria", "torch", "jax", "openvino")


@dataclass(frozen=True)
class Engine:
    """A way to run workloads: the package of its code, and the environment it is installed in."""

    package: str
    environment: str


ENGINES = {
    NORIA: Engine("bench.noria_side", "noria"),
    "torch": Engine("bench.rivals.pytorch", "torch"),
    "torch_compiled": Engine("bench.rivals.pytorch", "torch"),
    "torch_packed": Engine("bench.rivals.pytorch", "torch"),
    "jax": Engine("bench.rivals.jax_xla", "jax"),
    "paddle": Engine("bench.rivals.paddle3", "paddle"),
    "onnxruntime": Engine("bench.rivals.ort", "onnxruntime"),
    "openvino": Engine("bench.rivals.ov", "openvino"),
}


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    family: module of each engine's package that holds it; unit: samples/s, sequences/s, img/s, ms
    or us; goal: ratio to the best rival, at least
    """

    name: str
    family: str
    unit: str
    rivals: tuple[str, ...]
    goal: float | None = None

    @property
    def rows(self) -> int:
        """Samples of one step."""
        return sizes.BATCH[self.name]

    @property
    def operations(self) -> int:
        """Of one step: 2 x multiply-adds, all passes."""
        return flops.of(self.name)

    @property
    def turns(self) -> int:
        """Batches taken in turn: runs are multiples of it."""
        return sizes.TURNS if self.name in ("deepfm_train", "ragged_lstm_train") else 1

    @property
    def precision(self) -> str:
        """Which GEMM peak is its floor."""
        return "bf16" if self.name.endswith("_bf16") else "fp32"

    @property
    def is_time(self) -> bool:
        """The figure is a time, less is better; otherwise a rate."""
        return self.unit in UNITS_OF_TIME

    def figure(self, seconds: float) -> float:
        """What the table shows for a step of so many seconds."""
        return seconds * UNITS_OF_TIME[self.unit] if self.is_time else self.rows / seconds


UNITS_OF_TIME = {"ms": 1e3, "us": 1e6}

_ALL = (
    Workload("mlp_train", "dense", "samples/s", TRAINERS, 1.25),
    Workload("lenet_train", "vision", "samples/s", TRAINERS, 1.6),
    Workload("resnet50_train_fp32", "vision", "img/s", TRAINERS, 1.25),
    Workload("resnet50_train_bf16", "vision", "img/s", TRAINERS, 1.5),
    Workload("resnet50_infer_bs1", "vision", "ms", PREDICTORS, 1.1),
    Workload("resnet50_infer_bs16", "vision", "img/s", PREDICTORS, 1.03),
    Workload("resnet50_infer_bs16_bf16", "vision", "img/s", PREDICTORS, 1.0),
    Workload("mobilenet_v2_infer_bs1", "vision", "ms", PREDICTORS, 1.1),
    Workload("lstm_lm_train", "sequence", "sequences/s", TRAINERS, 1.35),
    Workload("transformer_train", "attention", "sequences/s", TRAINERS, 1.3),
    Workload("bert_base_infer_bs1", "attention", "ms", PREDICTORS, 1.15),
    Workload("deepfm_train", "sparse", "samples/s", TRAINERS, 1.8),
    Workload("ragged_lstm_train", "sequence", "samples/s", RAGGED, 4.0),
    Workload("bilstm_ctc_train", "sequence", "samples/s", TRAINERS, 1.5),
    Workload("tiny_mlp_latency", "dense", "us", PREDICTORS, 1.3),
    Workload("deepfm_latency", "sparse", "us", PREDICTORS, 1.3),
)
WORKLOADS = {w.name: w for w in _ALL}

# The machine itself, measured in the same run: family `peak` of some engines, best of them counts.
PEAKS = {
    "gemm_fp32": GEMM,
    "gemm_bf16": GEMM,
    "memory_bandwidth": ("noria",),
}

# What only noria runs: its own overheads, training in little memory.
MICRO = ("chain", "resnet50_train_recompute")

CACHE = Path(__file__).parent / ".cache"  # exported models


def family_of(workload: str) -> str:
    """The module of an engine's package in which to look for a workload."""
    if workload in WORKLOADS:
        return WORKLOADS[workload].family
    return "peak" if workload in PEAKS else "micro"
