from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from noria.ir.trace import spec, trace
from noria.zoo.resnet import ResNet


def torchvision_names(blocks: tuple[int, ...]) -> Iterator[str]:
    """Names in the state_dict of torchvision's resnet with bottlenecks, of what numbers exist."""

    def pair(conv: str, norm: str) -> Iterator[str]:
        yield f"{conv}.weight"
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"{norm}.{name}"

    yield from pair("conv1", "bn1")
    for i, count in enumerate(blocks, 1):
        for j in range(count):
            for k in (1, 2, 3):
                yield from pair(f"layer{i}.{j}.conv{k}", f"layer{i}.{j}.bn{k}")
            if j == 0:
                yield from pair(f"layer{i}.{j}.downsample.0", f"layer{i}.{j}.downsample.1")
    yield from ("fc.weight", "fc.bias")


def test_a_small_one_trains_and_ships_under_the_names_of_torchvision(exercise) -> None:
    shapes = exercise(ResNet((1, 2), classes=2), (3, 32, 32), steps=5)
    assert shapes.keys() == set(torchvision_names((1, 2)))
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert shapes["fc.weight"] == (2, 512)


@pytest.fixture(scope="module")
def resnet50():
    model = ResNet()
    return trace(lambda image: {"logits": model(image)}, image=spec("N", 3, 224, 224))


def test_resnet_50_has_the_parameters_of_torchvision(resnet50) -> None:
    assert resnet50.state.keys() == set(torchvision_names((3, 4, 6, 3)))
    trained = [s.value.shape for s in resnet50.state.values() if s.trainable]
    assert sum(math.prod(shape) for shape in trained) == 25_557_032


def test_resnet_50_halves_the_image_five_times(resnet50) -> None:
    sizes = [
        op.outputs[0].shape[1:] for op in resnet50.operators if op.type in ("conv2d", "max_pool2d")
    ]
    assert sizes[:2] == [(64, 112, 112), (64, 56, 56)]
    assert sizes[-1] == (2048, 7, 7)


def test_the_stride_is_in_the_3x3_convolution(resnet50) -> None:
    """Version 1.5; the first one had it in the 1x1 before."""
    strides = {
        op.inputs[1].name: op.attrs["stride"] for op in resnet50.operators if op.type == "conv2d"
    }
    assert strides["layer2.0.conv1.weight"] in (1, (1, 1))
    assert strides["layer2.0.conv2.weight"] in (2, (2, 2))
