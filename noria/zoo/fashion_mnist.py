"""A convolutional network for 28x28 images of clothes (Xiao et al., Fashion-MNIST, 2017).

VGG-like (Simonyan and Zisserman, 2015), narrow, with batch norm and dropout.
"""

from __future__ import annotations

from typing import Any

from noria.nn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU
from noria.nn.module import Module, Sequential


class FashionNet(Module):
    """[N, 1, 28, 28] -> logits [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        self.body = Sequential(
            Conv2d(1, 32, 3, padding=1, bias=False),  # [N, 32, 28, 28]
            BatchNorm2d(32),
            ReLU(),
            MaxPool2d(2),  # [N, 32, 14, 14]
            Conv2d(32, 64, 3, padding=1, bias=False),  # [N, 64, 14, 14]
            BatchNorm2d(64),
            ReLU(),
            MaxPool2d(2),  # [N, 64, 7, 7]
            Flatten(),
            Dropout(0.3),
            Linear(3136, 128),
            ReLU(),
            Linear(128, classes),
        )

    def __call__(self, image: Any) -> Any:
        return self.body(image)
