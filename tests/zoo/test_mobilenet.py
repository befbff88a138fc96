from __future__ import annotations

import math

import pytest

from noria.ir.trace import spec, trace
from noria.passes.for_test import for_test
from noria.passes.pipeline import optimize
from noria.zoo.mobilenet import STAGES, MobileNetV2, rounded

NORM = ("weight", "bias", "running_mean", "running_var")


def torchvision_names() -> set[str]:
    """Names in the state_dict of torchvision's mobilenet_v2, of what numbers exist."""
    pairs = [("features.0.0", "features.0.1"), ("features.18.0", "features.18.1")]
    expansions = [e for e, _, count, _ in STAGES for _ in range(count)]
    for i, expansion in enumerate(expansions, 1):
        inner = 1 if expansion == 1 else 2
        at = f"features.{i}.conv"
        pairs += [(f"{at}.{k}.0", f"{at}.{k}.1") for k in range(inner)]
        pairs.append((f"{at}.{inner}", f"{at}.{inner + 1}"))
    names = {f"{conv}.weight" for conv, _ in pairs}
    names |= {f"{norm}.{n}" for _, norm in pairs for n in NORM}
    return names | {"classifier.1.weight", "classifier.1.bias"}


def test_a_narrow_one_trains_and_ships_under_the_names_of_torchvision(exercise) -> None:
    shapes = exercise(MobileNetV2(2, width=0.25, dropout=0.0), (3, 32, 32), steps=5)
    assert set(shapes) == torchvision_names()
    assert shapes["features.0.0.weight"] == (8, 3, 3, 3)
    assert shapes["features.2.conv.1.0.weight"] == (48, 1, 3, 3)
    assert shapes["classifier.1.weight"] == (2, 1280)


def test_it_has_the_parameters_of_torchvision() -> None:
    parameters = MobileNetV2().parameters().values()
    assert sum(math.prod(p.shape) for p in parameters if p.trainable) == 3_504_872


def test_every_convolution_of_the_test_form_is_one_operator() -> None:
    model = MobileNetV2()
    program = trace(lambda x: model(x), x=spec("N", 3, 64, 64))
    kinds = [op.type for op in optimize(for_test(program)).operators]
    assert not {"batch_norm", "clip", "add"} & set(kinds)
    assert kinds.count("fused_conv2d") + kinds.count("conv2d") == 52


@pytest.mark.parametrize(
    ("channels", "result"), [(32, 32), (24 * 0.25, 8), (33.6, 32), (16 * 0.75, 16), (1, 8)]
)
def test_channels_are_rounded_to_eights_but_not_far_down(channels, result) -> None:
    assert rounded(channels) == result
