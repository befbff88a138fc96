"""ResNet-50 v1.5: bottleneck residual network with the stride in the 3x3 convolution.

(He et al., "Deep residual learning for image recognition", 2016). Parameter names are those of
torchvision, so its public weights load.
"""

from __future__ import annotations

import math
from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from noria.nn.module import Module, Sequential
from noria.passes.recompute import recomputed

EXPANSION = 4


def _conv(a: int, b: int, kernel: int, stride: int = 1) -> Conv2d:
    conv = Conv2d(a, b, kernel, stride=stride, padding=kernel // 2, bias=False)
    conv.weight.init = init.kaiming_normal(conv.weight.shape, math.sqrt(2), "out")
    return conv


class Bottleneck(Module):
    """1x1 down, 3x3, 1x1 up, added to the input (projected where the shape changes)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        self.conv1, self.bn1 = _conv(channels, width, 1), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3 = _conv(width, width * EXPANSION, 1)
        self.bn3 = BatchNorm2d(width * EXPANSION)
        self.downsample = None
        if stride != 1 or channels != width * EXPANSION:
            project = _conv(channels, width * EXPANSION, 1, stride)
            self.downsample = Sequential(project, BatchNorm2d(width * EXPANSION))

    def __call__(self, x: Any) -> Any:
        out = o.relu(self.bn1(self.conv1(x)))
        out = o.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        skip = x if self.downsample is None else self.downsample(x)
        return o.relu(o.add(out, skip))


class ResNet(Module):
    """[N, 3, H, W] -> logits [N, classes]. `ResNet()` is ResNet-50."""

    def __init__(self, blocks: tuple[int, ...] = (3, 4, 6, 3), classes: int = 1000) -> None:
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), BatchNorm2d(64)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for i, count in enumerate(blocks):
            width, stage = 64 * 2**i, []
            for j in range(count):
                stage.append(Bottleneck(channels, width, 2 if i > 0 and j == 0 else 1))
                channels = width * EXPANSION
            setattr(self, f"layer{i + 1}", Sequential(*stage))
        self._stages = [getattr(self, f"layer{i + 1}") for i in range(len(blocks))]
        self.avgpool, self.flatten = AdaptiveAvgPool2d(1), Flatten()
        self.fc = Linear(channels, classes)

    def __call__(self, image: Any) -> Any:
        x = self.conv1(image)
        with recomputed():  # the largest values of all are cheap to have again: 0.4 % of a step
            x = self.maxpool(o.relu(self.bn1(x)))
        for stage in self._stages:
            x = stage(x)
        return self.fc(self.flatten(self.avgpool(x)))
