"""Convolutional networks as PyTorch modules, also the source of the exported ones."""

from __future__ import annotations

import torch
from torch import nn

from bench.flops import MOBILENET


def lenet() -> nn.Module:
    """[N, 1, 28, 28] -> [N, 10]."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(20),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 10),
    )


class Bottleneck(nn.Module):
    """ResNet v1.5 block."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * 4
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.down = None
        if stride != 1 or channels != out:
            self.down = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = torch.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu_(y.add_(x if self.down is None else self.down(x)))


def resnet50() -> nn.Module:
    """[N, 3, 224, 224] -> [N, 1000]."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for i, count in enumerate((3, 4, 6, 3)):
        for j in range(count):
            layers.append(Bottleneck(channels, 64 * 2**i, 2 if i > 0 and j == 0 else 1))
            channels = 256 * 2**i
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]
    return nn.Sequential(*layers)


def _normed(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(b)]


class Inverted(nn.Module):
    """MobileNetV2 block: widen, depthwise, narrow; added to the input where the shapes agree."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels * expansion
        layers = []
        if expansion > 1:
            layers += [*_normed(channels, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [*_normed(hidden, hidden, 3, stride, hidden), nn.ReLU6(inplace=True)]
        self.body = nn.Sequential(*layers, *_normed(hidden, width, 1))
        self.adds = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2() -> nn.Module:
    """[N, 3, 224, 224] -> [N, 1000]."""
    layers, channels = [*_normed(3, 32, 3, 2), nn.ReLU6(inplace=True)], 32
    for expansion, width, blocks, stride in MOBILENET:
        for j in range(blocks):
            layers.append(Inverted(channels, width, expansion, stride if j == 0 else 1))
            channels = width
    layers += [*_normed(channels, 1280, 1), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))
