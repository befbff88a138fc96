"""Reductions of ONNX."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
X = np.arange(1, 7, dtype="f4").reshape(2, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ReduceSum", X.sum(1)),
        ("ReduceMean", X.mean(1)),
        ("ReduceL2", np.sqrt((X**2).sum(1))),
        ("ReduceLogSumExp", np.log(np.exp(X).sum(1))),
    ],
)
@pytest.mark.parametrize("opset", [11, 18])
def test_axes_are_an_attribute_or_an_input(
    run: Any, name: str, expected: np.ndarray, opset: int
) -> None:
    as_input = opset == 18
    attrs = {"keepdims": 0} if as_input else {"keepdims": 0, "axes": [1]}
    made = onnx.helper.make_node(name, ["x", "a"] if as_input else ["x"], ["y"], **attrs)
    weights = {"a": np.array([-1])} if as_input else {}
    (y,) = run([made], {"x": X}, ["y"], weights, {"x": ["N", 3]}, opset=opset)
    assert np.allclose(y, expected)


def test_integers_keep_their_dtype(run: Any) -> None:
    x = np.array([[1, 2], [3, 5]], "i4")
    (y,) = run([("ReduceMean", ["x"], ["y"])], {"x": x}, ["y"])
    assert (y.dtype, y.tolist()) == (np.int32, [[2]])


def test_the_last_of_equal_extremes_along_a_symbolic_axis(run: Any) -> None:
    made = onnx.helper.make_node("ArgMax", ["x"], ["y"], axis=0, keepdims=0, select_last_index=1)
    x = np.array([[3, 1], [3, 2], [0, 2]], "f4")
    (y,) = run([made], {"x": x}, ["y"], symbolic={"x": ["N", 2]})
    assert y.tolist() == [1, 2]
