"""The workloads in noria: each function gives `run(steps) -> None`, ready and warm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import noria
from bench.work import CHAIN, MLP, RATE, TINY, batch_of, vectors
from noria import nn, ops, optim
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet
from noria.zoo.mlp import MLP as Perceptron
from noria.zoo.resnet import ResNet

Run = Callable[[int], None]


def training(workload: str) -> Run:
    """A training step of the workload's network on one fixed batch."""
    x, y = batch_of(workload)
    program = training_program(workload)
    executor = noria.Executor(program)
    feeds = {"image": x, "label": y}

    def run(steps: int) -> None:
        for _ in range(steps - 1):
            executor.run(feeds, [])
        loss = executor.run(feeds, ["loss"])["loss"]
        assert np.isfinite(loss)

    return run


def training_program(workload: str) -> Any:
    """The Program of a training workload."""
    x, _ = batch_of(workload)
    models: dict[str, Callable[[], nn.Module]] = {
        "mlp_train": lambda: Perceptron(*MLP),
        "lenet_train": LeNet,
        "resnet50_train_fp32": ResNet,
    }
    inputs = {"image": noria.spec("N", *x.shape[1:]), "label": noria.spec("N", dtype="int64")}
    forward = noria.trace(classify(models[workload]()), name=workload, **inputs)
    rate = RATE[workload]
    method = optim.Momentum(rate, 0.9) if workload.startswith("resnet") else optim.Adam(rate)
    return method.minimize(forward)


def tiny_mlp() -> Run:
    """Five layers of 64, batch 1, through the Predictor: NumPy in, NumPy out."""
    model = Perceptron(*TINY)
    program = noria.trace(lambda x: model(x), x=noria.spec("N", 64))
    scope = noria.Scope().initialize(program)
    predictor = noria.Predictor(program, scope.state())
    x = vectors(1, 64)

    def run(steps: int) -> None:
        for _ in range(steps):
            predictor(x=x)

    return run


def chain() -> Run:
    """1,000 operators on 16 numbers each, none of them fused away: the engine's own cost."""
    small = noria.spec(16)

    def body(x: Any) -> Any:
        for _ in range(CHAIN):
            x = ops.tanh(x)
        return x

    program = noria.trace(body, x=small)
    executor = noria.Executor(program, optimized=True)  # as written: no pass runs
    feeds = {"x": np.zeros(16, np.float32)}

    def run(steps: int) -> None:
        for _ in range(steps):
            executor.run(feeds)

    return run


def make(workload: str) -> Run:
    """The run function of a workload."""
    if workload == "tiny_mlp_latency":
        return tiny_mlp()
    if workload == "chain":
        return chain()
    return training(workload)
