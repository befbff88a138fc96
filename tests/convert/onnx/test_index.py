"""Positions of ONNX."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
X = np.arange(12, dtype="f4").reshape(3, 4)
FREE = {"x": ["N", "M"]}


def test_how_many_there_are_may_depend_on_the_data(run: Any) -> None:
    x = np.array([[1, 0, 2, 2]], "f4")
    nodes = [
        node("NonZero", ["x"], ["where"]),
        node("Unique", ["x"], ["values", "first", "inverse", "counts"]),
    ]
    where, values, counts = run(nodes, {"x": x}, ["where", "values", "counts"], symbolic=FREE)
    assert where.tolist() == [[0, 0, 0], [0, 2, 3]]
    assert values.tolist() == [0, 1, 2]
    assert counts.tolist() == [1, 1, 2]


def test_slices_are_kept_by_a_condition(run: Any) -> None:
    feeds = {"x": X, "c": np.array([False, True, True])}
    (y,) = run([node("Compress", ["x", "c"], ["y"], axis=0)], feeds, ["y"])
    assert np.array_equal(y, X[1:])


def test_a_triangle_of_symbolic_sizes(run: Any) -> None:
    nodes = [node("Trilu", ["x", "k"], ["y"], upper=0)]
    (y,) = run(nodes, {"x": X}, ["y"], {"k": np.array(1)}, FREE)
    assert np.array_equal(y, np.tril(X, 1))


def test_a_cache_is_written_around_its_end(run: Any) -> None:
    past = np.zeros((2, 4, 1), "f4")
    feeds = {"p": past, "u": np.ones((2, 2, 1), "f4"), "at": np.array([1, 3])}
    nodes = [node("TensorScatter", ["p", "u", "at"], ["y"], mode="circular")]
    (y,) = run(nodes, feeds, ["y"], opset=24)
    assert y[..., 0].tolist() == [[0, 1, 1, 0], [1, 0, 0, 1]]


def test_batches_of_positions(run: Any) -> None:
    ids = np.array([[1], [0], [3]])
    nodes = [node("GatherND", ["x", "i"], ["y"], batch_dims=1)]
    shapes = {"x": ["N", 4], "i": ["N", 1]}
    (y,) = run(nodes, {"x": X, "i": ids}, ["y"], symbolic=shapes)
    assert y.tolist() == [1, 4, 11]
