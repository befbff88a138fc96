"""MobileNetV2: inverted residual blocks of depthwise convolutions.

(Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018). Parameter names
are those of torchvision, so its public weights load.
"""

from __future__ import annotations

import math
from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear
from noria.nn.module import Module, Sequential
from noria.ops.activation import relu6

# Of each stage: expansion, channels at width 1, blocks, stride of the first one.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def rounded(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least that, and never below 90 % of `channels`."""
    near = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return near if near >= 0.9 * channels else near + divisor


def _conv(a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Conv2d:
    padding = kernel // 2
    conv = Conv2d(a, b, kernel, stride=stride, padding=padding, groups=groups, bias=False)
    conv.weight.init = init.kaiming_normal(conv.weight.shape, math.sqrt(2), "out")
    return conv


class ConvNormReLU6(Sequential):
    """Convolution, batch norm, min(max(x, 0), 6)."""

    def __init__(self, a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(_conv(a, b, kernel, stride, groups), BatchNorm2d(b))

    def __call__(self, x: Any) -> Any:
        return relu6(super().__call__(x))


class InvertedResidual(Module):
    """1x1 up, depthwise 3x3, 1x1 down without activation; added to the input where shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        wide = channels * expansion
        up = [ConvNormReLU6(channels, wide)] if expansion != 1 else []
        depthwise = ConvNormReLU6(wide, wide, 3, stride, groups=wide)
        self.conv = Sequential(*up, depthwise, _conv(wide, out), BatchNorm2d(out))
        self.adds = stride == 1 and channels == out

    def __call__(self, x: Any) -> Any:
        out = self.conv(x)
        return o.add(x, out) if self.adds else out


class MobileNetV2(Module):
    """[N, 3, H, W] -> logits [N, classes].

    width: factor of all channels, but for those of the last convolution if it is below 1
    """

    def __init__(self, classes: int = 1000, width: float = 1.0, dropout: float = 0.2) -> None:
        channels, last = rounded(32 * width), rounded(1280 * max(1.0, width))
        layers: list[Module] = [ConvNormReLU6(3, channels, 3, 2)]
        for expansion, base, count, first in STAGES:
            out = rounded(base * width)
            for stride in (first, *[1] * (count - 1)):
                layers.append(InvertedResidual(channels, out, stride, expansion))
                channels = out
        self.features = Sequential(*layers, ConvNormReLU6(channels, last))
        self.pool, self.flatten = AdaptiveAvgPool2d(1), Flatten()
        fc = Linear(last, classes)
        fc.weight.init = init.normal(0.0, 0.01)
        self.classifier = Sequential(Dropout(dropout), fc)

    def __call__(self, image: Any) -> Any:
        return self.classifier(self.flatten(self.pool(self.features(image))))
