"""LeNet as in the Fluid book's "recognize digits": two convolutions with pooling, one fc.

(LeCun et al., "Gradient-based learning applied to document recognition", 1998)
"""

from __future__ import annotations

from typing import Any

from noria.nn.layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU
from noria.nn.module import Module, Sequential


class LeNet(Module):
    """[N, 1, 28, 28] -> logits [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        self.body = Sequential(
            Conv2d(1, 20, 5),  # [N, 20, 24, 24]
            ReLU(),
            MaxPool2d(2),  # [N, 20, 12, 12]
            BatchNorm2d(20),
            Conv2d(20, 50, 5),  # [N, 50, 8, 8]
            ReLU(),
            MaxPool2d(2),  # [N, 50, 4, 4]
            Flatten(),
            Linear(800, classes),
        )

    def __call__(self, image: Any) -> Any:
        return self.body(image)
