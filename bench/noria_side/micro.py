"""What only noria runs: the engine's own cost, training in little memory."""

from __future__ import annotations

from typing import Any

import numpy as np

import noria
from bench import sizes
from bench.noria_side.common import Run
from bench.noria_side.vision import RESNET, budget, train
from noria import ops


def chain() -> Run:
    """1,000 operators on 16 numbers each, none of them fused away."""

    def body(x: Any) -> Any:
        for _ in range(sizes.CHAIN):
            x = ops.tanh(x)
        return x

    program = noria.trace(body, x=noria.spec(16))
    executor = noria.Executor(program, optimized=True)  # as written: no pass runs
    feeds = {"x": np.zeros(16, np.float32)}

    def run(steps: int) -> None:
        for _ in range(steps):
            executor.run(feeds)

    return run


def recompute() -> Run:
    """ResNet-50's training in float32 with a bound on what is kept."""
    return train(RESNET, budget())


MAKERS = {"chain": chain, "resnet50_train_recompute": recompute}
