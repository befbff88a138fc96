"""Normalisations of ONNX."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
RNG = np.random.default_rng(2)
X = RNG.normal(size=(2, 4, 3)).astype("f4")


def test_running_statistics_are_those_of_onnx_not_of_pytorch(run: Any) -> None:
    ones, zeros = np.ones(4, "f4"), np.zeros(4, "f4")
    nodes = [node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "m2", "v2"],
                  training_mode=1, momentum=0.75)]  # fmt: skip
    weights = {"s": ones, "b": zeros, "m": ones, "v": ones}
    y, mean, var = run(nodes, {"x": X}, ["y", "m2", "v2"], weights, {"x": ["N", 4, 3]}, opset=15)
    assert np.allclose(mean, 0.75 + 0.25 * X.mean((0, 2)), atol=1e-6)
    assert np.allclose(var, 0.75 + 0.25 * X.var((0, 2)), atol=1e-6)
    assert np.allclose(y.mean((0, 2)), 0, atol=1e-6)


def test_scales_of_groups_before_opset_21(run: Any) -> None:
    nodes = [node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)]
    weights = {"s": np.array([1, 3], "f4"), "b": np.array([0, 1], "f4")}
    (y,) = run(nodes, {"x": X}, ["y"], weights, opset=18)
    grouped = X.reshape(2, 2, 6)
    plain = (grouped - grouped.mean(-1, keepdims=True)) / grouped.std(-1, keepdims=True)
    want = plain * np.array([1, 3])[:, None] + np.array([0, 1])[:, None]
    assert np.allclose(y, want.reshape(X.shape), atol=1e-3)


def test_a_dropout_that_is_not_trained_changes_nothing(run: Any) -> None:
    y, mask = run([node("Dropout", ["x"], ["y", "mask"])], {"x": X}, ["y", "mask"], opset=13)
    assert np.array_equal(y, X)
    assert mask.all()
