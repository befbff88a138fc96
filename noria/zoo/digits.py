"""A small convolutional network for 8x8 handwritten digits.

After LeNet (LeCun et al., "Gradient-based learning applied to document recognition", 1998), with
batch norm (Ioffe and Szegedy, 2015) and dropout. Trained on the UCI digits: 1,797 images.
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU
from noria.nn.module import Module, Sequential


class DigitsNet(Module):
    """[N, 1, 8, 8] -> logits [N, classes]."""

    def __init__(self, classes: int = 10) -> None:
        self.body = Sequential(
            Conv2d(1, 32, 3, padding=1, bias=False),  # [N, 32, 8, 8]
            BatchNorm2d(32),
            ReLU(),
            Conv2d(32, 64, 3, padding=1, bias=False),  # [N, 64, 8, 8]
            BatchNorm2d(64),
            ReLU(),
            MaxPool2d(2),  # [N, 64, 4, 4]
            Flatten(),
            Dropout(0.3),
            Linear(1024, 128),
            ReLU(),
            Linear(128, classes),
        )

    def __call__(self, image: Any) -> Any:
        return self.body(image)


def classify(model: Module) -> Any:
    """The function to trace for training a classifier: loss and accuracy of a batch."""

    def step(image: Any, label: Any) -> dict[str, Any]:
        logits = model(image)
        losses, _ = o.softmax_cross_entropy(logits, label)
        return {
            "loss": o.reduce_mean(losses),
            "accuracy": o.accuracy(logits, label),
            "logits": logits,
        }

    return step
