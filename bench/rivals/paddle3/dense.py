"""Perceptrons in PaddlePaddle."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F

from bench import data, sizes
from bench.rivals.paddle3.common import Run, latency, static, training


def perceptron(widths: Sequence[int]) -> Any:
    """Linear layers with ReLU between them."""
    layers: list[Any] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mlp_train() -> Run:
    model = static(perceptron(sizes.MLP))
    adam = paddle.optimizer.Adam(sizes.RATE["mlp_train"], parameters=model.parameters())
    batch = data.classified("mlp_train")
    return training(lambda x, y: F.cross_entropy(model(x), y), adam, [batch])


def tiny_mlp() -> Run:
    return latency(perceptron(sizes.TINY), data.vectors(1, sizes.TINY[0]))


MAKERS = {"mlp_train": mlp_train, "tiny_mlp_latency": tiny_mlp}
