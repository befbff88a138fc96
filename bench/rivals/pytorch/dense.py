"""Perceptrons in PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from bench import data, sizes
from bench.rivals.pytorch.common import Run, predicting, training


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mlp_train() -> Run:
    batch = tuple(map(torch.from_numpy, data.classified("mlp_train")))
    model = perceptron(sizes.MLP)
    adam = torch.optim.Adam(model.parameters(), sizes.RATE["mlp_train"], fused=True)
    return training(lambda x, y: F.cross_entropy(model(x), y), adam, [batch])


def tiny_mlp() -> Run:
    """NumPy in, NumPy out."""
    model, x = predicting(perceptron(sizes.TINY)), data.vectors(1, sizes.TINY[0])

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                model(torch.from_numpy(x)).numpy()

    return run


MAKERS = {"mlp_train": mlp_train, "tiny_mlp_latency": tiny_mlp}
