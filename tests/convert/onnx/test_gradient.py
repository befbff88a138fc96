"""Gradients inside an ONNX model."""

from typing import Any

import numpy as np
import pytest

from noria.convert.onnx import load
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
TRAINING = "ai.onnx.preview.training"
OPSETS = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(TRAINING, 1)]


def test_a_model_gives_its_own_gradient(run: Any) -> None:
    nodes = [
        node("Mul", ["a", "b"], ["ab"]),
        node("Sin", ["ab"], ["y"]),
        node("Gradient", ["a", "b"], ["ga", "gb"], domain=TRAINING, xs=["a", "b"], y="y"),
    ]
    a, b = np.array(0.5, "f4"), np.array(2.0, "f4")
    ga, gb = run(nodes, {"a": a, "b": b}, ["ga", "gb"], opsets=OPSETS)
    assert np.allclose([ga, gb], [2 * np.cos(1), 0.5 * np.cos(1)])


def test_other_values_than_those_of_the_model_are_refused(build: Any) -> None:
    nodes = [
        node("Sin", ["a"], ["y"]),
        node("Gradient", ["b"], ["g"], domain=TRAINING, xs=["a"], y="y"),
    ]
    specs = {n: ("f4", []) for n in "ab"}
    with pytest.raises(FormatError, match="where the model computes y"):
        load(build(nodes, specs, ["g"], opsets=OPSETS).SerializeToString())
