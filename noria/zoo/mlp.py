"""Multi-layer perceptron (Rosenblatt, 1958; Rumelhart, Hinton and Williams, 1986)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from noria.nn.layers import Linear, ReLU
from noria.nn.module import Module, Sequential


class MLP(Module):
    """[N, sizes[0]] -> [N, sizes[-1]], ReLU between the layers."""

    def __init__(self, *sizes: int) -> None:
        layers: list[Any] = []
        for a, b in pairwise(sizes):
            layers += [Linear(a, b), ReLU()]
        self.body = Sequential(*layers[:-1])

    def __call__(self, x: Any) -> Any:
        return self.body(x)
