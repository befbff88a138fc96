"""Residual networks: ResNet-18 and -34 of basic blocks, -50, -101 and -152 of bottlenecks.

(He et al., "Deep residual learning for image recognition", 2016), version 1.5: the stride of a
bottleneck is in its 3x3 convolution. Parameter names are those of torchvision, so its public
weights load.
"""

from __future__ import annotations

import math
from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from noria.nn.module import Module, Sequential


def _conv(a: int, b: int, kernel: int, stride: int = 1) -> Conv2d:
    conv = Conv2d(a, b, kernel, stride=stride, padding=kernel // 2, bias=False)
    conv.weight.init = init.kaiming_normal(conv.weight.shape, math.sqrt(2), "out")
    return conv


class _Block(Module):
    """What is common: the sum with the input, projected where the shape changes."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        out = width * self.expansion
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = Sequential(_conv(channels, out, 1, stride), BatchNorm2d(out))

    def added(self, out: Any, x: Any) -> Any:
        """relu(out + x)."""
        return o.relu(o.add(out, x if self.downsample is None else self.downsample(x)))


class BasicBlock(_Block):
    """Two 3x3."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(channels, width, stride)
        self.conv1, self.bn1 = _conv(channels, width, 3, stride), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), BatchNorm2d(width)

    def __call__(self, x: Any) -> Any:
        out = o.relu(self.bn1(self.conv1(x)))
        return self.added(self.bn2(self.conv2(out)), x)


class Bottleneck(_Block):
    """1x1 down, 3x3, 1x1 up."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__(channels, width, stride)
        out = width * self.expansion
        self.conv1, self.bn1 = _conv(channels, width, 1), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, out, 1), BatchNorm2d(out)

    def __call__(self, x: Any) -> Any:
        out = o.relu(self.bn1(self.conv1(x)))
        out = o.relu(self.bn2(self.conv2(out)))
        return self.added(self.bn3(self.conv3(out)), x)


class ResNet(Module):
    """[N, 3, H, W] -> logits [N, classes]. `ResNet()` is ResNet-50."""

    def __init__(
        self,
        blocks: tuple[int, ...] = (3, 4, 6, 3),
        classes: int = 1000,
        block: type[BasicBlock] | type[Bottleneck] = Bottleneck,
    ) -> None:
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), BatchNorm2d(64)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for i, count in enumerate(blocks):
            width, stage = 64 * 2**i, []
            for j in range(count):
                stage.append(block(channels, width, 2 if i > 0 and j == 0 else 1))
                channels = width * block.expansion
            setattr(self, f"layer{i + 1}", Sequential(*stage))
        self._stages = [getattr(self, f"layer{i + 1}") for i in range(len(blocks))]
        self.avgpool, self.flatten = AdaptiveAvgPool2d(1), Flatten()
        self.fc = Linear(channels, classes)

    def __call__(self, image: Any) -> Any:
        x = self.conv1(image)
        x = self.maxpool(o.relu(self.bn1(x)))
        for stage in self._stages:
            x = stage(x)
        return self.fc(self.flatten(self.avgpool(x)))


def resnet18(classes: int = 1000) -> ResNet:
    """11.7 million parameters at 1,000 classes."""
    return ResNet((2, 2, 2, 2), classes, BasicBlock)


def resnet34(classes: int = 1000) -> ResNet:
    """21.8 million parameters at 1,000 classes."""
    return ResNet((3, 4, 6, 3), classes, BasicBlock)


def resnet50(classes: int = 1000) -> ResNet:
    """25.6 million parameters at 1,000 classes."""
    return ResNet((3, 4, 6, 3), classes)


def resnet101(classes: int = 1000) -> ResNet:
    """44.5 million parameters at 1,000 classes."""
    return ResNet((3, 4, 23, 3), classes)


def resnet152(classes: int = 1000) -> ResNet:
    """60.2 million parameters at 1,000 classes."""
    return ResNet((3, 8, 36, 3), classes)
