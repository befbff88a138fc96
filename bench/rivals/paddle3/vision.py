"""Convolutional networks in PaddlePaddle; ResNet-50 and MobileNetV2 are its own."""

from __future__ import annotations

from functools import partial
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F
from paddle.vision.models import mobilenet_v2, resnet50

from bench import data, sizes
from bench.rivals.paddle3.common import Run, autocast, inference, static, training


def lenet() -> Any:
    """[N, 1, 28, 28] -> [N, 10]."""
    return nn.Sequential(
        nn.Conv2D(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.BatchNorm2D(20),
        nn.Conv2D(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(800, 10),
    )


def train(workload: str) -> Run:
    small, rate = workload == "lenet_train", sizes.RATE[workload]
    model = static(lenet() if small else resnet50())
    parameters = model.parameters()
    optimizer = (
        paddle.optimizer.Adam(rate, parameters=parameters)
        if small
        else paddle.optimizer.Momentum(rate, 0.9, parameters=parameters)
    )

    def loss_of(x: Any, y: Any) -> Any:
        with autocast(workload):
            return F.cross_entropy(model(x), y)

    return training(loss_of, optimizer, [data.classified(workload)])


def infer(workload: str) -> Run:
    model = mobilenet_v2() if workload.startswith("mobilenet") else resnet50()
    return inference(model, data.classified(workload)[0], half=workload.endswith("_bf16"))


TRAINED = ("lenet_train", "resnet50_train_fp32", "resnet50_train_bf16")
INFERRED = (
    "resnet50_infer_bs1",
    "resnet50_infer_bs16",
    "resnet50_infer_bs16_bf16",
    "mobilenet_v2_infer_bs1",
)
MAKERS = {w: partial(train, w) for w in TRAINED} | {w: partial(infer, w) for w in INFERRED}
