"""The workloads' data and settings, the same numbers for noria and for its rivals."""

from __future__ import annotations

import numpy as np

THREADS = 2
ALLOCATOR = {  # a caching allocator for all: no page faults in the steady state
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
    "NORIA_THREADS": str(THREADS),
}

TINY = [64] * 6  # five layers
MLP = [784, 512, 512, 10]
CHAIN = 1000


def images(batch: int, channels: int, side: int, seed: int = 0) -> np.ndarray:
    """float32 [batch, channels, side, side]."""
    shape = (batch, channels, side, side)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def labels(batch: int, classes: int, seed: int = 1) -> np.ndarray:
    """int64 [batch]."""
    return np.random.default_rng(seed).integers(0, classes, batch)


def vectors(batch: int, size: int, seed: int = 0) -> np.ndarray:
    """float32 [batch, size]."""
    return np.random.default_rng(seed).standard_normal((batch, size), np.float32)


BATCH = {"mlp_train": 128, "lenet_train": 64, "resnet50_train_fp32": 16}
STEPS = {"mlp_train": 150, "lenet_train": 50, "resnet50_train_fp32": 1, "tiny_mlp_latency": 20000}
RATE = {"mlp_train": 1e-6, "lenet_train": 1e-6, "resnet50_train_fp32": 1e-4}


def batch_of(workload: str) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, labels) of a training workload."""
    n = BATCH[workload]
    if workload == "mlp_train":
        return vectors(n, 784), labels(n, 10)
    if workload == "lenet_train":
        return images(n, 1, 28), labels(n, 10)
    return images(n, 3, 224), labels(n, 1000)
