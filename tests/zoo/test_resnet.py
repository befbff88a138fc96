from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from noria.ir.trace import spec, trace
from noria.zoo import resnet
from noria.zoo.resnet import BasicBlock, ResNet


def torchvision_names(blocks: tuple[int, ...], convs: int = 3) -> Iterator[str]:
    """Names in the state_dict of torchvision's resnet, of what numbers exist.

    convs: in a block, not counting the projection
    """

    def pair(conv: str, norm: str) -> Iterator[str]:
        yield f"{conv}.weight"
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"{norm}.{name}"

    yield from pair("conv1", "bn1")
    for i, count in enumerate(blocks, 1):
        for j in range(count):
            for k in range(1, convs + 1):
                yield from pair(f"layer{i}.{j}.conv{k}", f"layer{i}.{j}.bn{k}")
            if j == 0 and (i > 1 or convs == 3):
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


def test_basic_blocks_train_and_ship_under_the_names_of_torchvision(exercise) -> None:
    shapes = exercise(ResNet((1, 2), 2, BasicBlock), (3, 32, 32), steps=5)
    assert shapes.keys() == set(torchvision_names((1, 2), 2))
    assert shapes["layer2.0.conv1.weight"] == (128, 64, 3, 3)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["fc.weight"] == (2, 128)


@pytest.mark.parametrize(
    ("depth", "count"),
    [(18, 11_689_512), (34, 21_797_672), (101, 44_549_160), (152, 60_192_808)],
)
def test_the_others_have_the_parameters_of_torchvision(depth, count) -> None:
    model = getattr(resnet, f"resnet{depth}")()
    parameters = model.parameters().values()
    assert sum(math.prod(p.shape) for p in parameters if p.trainable) == count
