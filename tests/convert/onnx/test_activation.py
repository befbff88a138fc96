"""Activations of ONNX: what the suite of onnx does not look at."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
X = np.linspace(-2, 2, 12, dtype="f4").reshape(2, 2, 3)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_before_opset_13_a_softmax_takes_all_axes_behind_as_one(run: Any) -> None:
    (old,) = run([("Softmax", ["x"], ["y"])], {"x": X}, ["y"], symbolic={"x": ["N", 2, 3]}, opset=7)
    assert np.allclose(old, softmax(X.reshape(2, 6)).reshape(X.shape), atol=1e-6)
    (new,) = run([("Softmax", ["x"], ["y"])], {"x": X}, ["y"], opset=13)
    assert np.allclose(new, softmax(X), atol=1e-6)


def test_the_slopes_of_prelu_were_those_of_channels_before_opset_7(run: Any) -> None:
    slope = np.array([0.5, 2.0], "f4")
    (y,) = run([("PRelu", ["x", "s"], ["y"])], {"x": X}, ["y"], {"s": slope}, opset=6)
    assert np.allclose(y, np.where(X < 0, X * slope[:, None], X))


def test_integers_are_rectified_too(run: Any) -> None:
    (y,) = run([("Relu", ["x"], ["y"])], {"x": np.array([-3, 4], "i4")}, ["y"], opset=14)
    assert y.dtype == np.int32
    assert y.tolist() == [0, 4]
