"""The same workloads in PyTorch, eager mode, written as a user would write them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.work import MLP, RATE, THREADS, TINY, batch_of, vectors

Run = Callable[[int], None]
torch.set_num_threads(THREADS)


def perceptron(sizes: list[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet() -> nn.Module:
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

    def forward(self, x: Any) -> Any:
        y = torch.relu_(self.bn1(self.conv1(x)))
        y = torch.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu_(y.add_(x if self.down is None else self.down(x)))


def resnet50() -> nn.Module:
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


def training(workload: str) -> Run:
    images, labels = batch_of(workload)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    if workload == "mlp_train":
        model = perceptron(MLP)
    elif workload == "lenet_train":
        model = lenet()
    else:  # channels-last is PyTorch's fastest here
        model, x = (
            resnet50().to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
        )
    rate = RATE[workload]
    if workload.startswith("resnet"):
        optimizer: Any = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(model.parameters(), rate)
    criterion = nn.CrossEntropyLoss()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        assert torch.isfinite(loss)

    return run


def tiny_mlp() -> Run:
    model, x = perceptron(TINY).eval(), vectors(1, 64)

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                model(torch.from_numpy(x)).numpy()

    return run


def make(workload: str) -> Run:
    """The run function of a workload."""
    return tiny_mlp() if workload == "tiny_mlp_latency" else training(workload)


def export_tiny(path: str) -> None:
    """The tiny perceptron as an ONNX file, for ONNX Runtime."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, name = [], [], "x"
    rng = np.random.default_rng(0)
    for i, (a, b) in enumerate(itertools.pairwise(TINY)):
        weights.append(
            numpy_helper.from_array(rng.standard_normal((b, a)).astype("f") / 8, f"w{i}")
        )
        weights.append(numpy_helper.from_array(np.zeros(b, np.float32), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"g{i}"], transB=1))
        name = f"g{i}"
        if i < len(TINY) - 2:
            nodes.append(helper.make_node("Relu", [name], [f"r{i}"]))
            name = f"r{i}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", TINY[0]])
    y = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", TINY[-1]])
    graph = helper.make_graph(nodes, "tiny", [x], [y], weights)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
