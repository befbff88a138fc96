"""Sizes that only the data of a run tell."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import NoriaError

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
X = np.arange(12, dtype="f4").reshape(3, 4)
FREE = {"x": ["N", 4]}


def test_a_range_as_long_as_the_longest(run: Any) -> None:
    nodes = [
        node("ReduceMax", ["lengths"], ["longest"], keepdims=0),
        node("Range", ["zero", "longest", "one"], ["steps"]),
        node("Unsqueeze", ["lengths", "axis"], ["column"]),
        node("Less", ["steps", "column"], ["mask"]),
    ]
    weights = {"zero": np.array(0), "one": np.array(1), "axis": np.array([1])}
    for lengths in ([2, 0, 3], [1]):
        feeds = {"lengths": np.array(lengths)}
        (mask,) = run(nodes, feeds, ["mask"], weights, {"lengths": ["B"]})
        assert np.array_equal(mask, np.arange(max(lengths)) < np.array(lengths)[:, None])


def test_a_target_of_which_parts_are_known(run: Any) -> None:
    """The size of x stays the symbol it is, -1 stays -1, and the rest is told by data."""
    nodes = [
        node("Shape", ["x"], ["s"], end=1),
        node("Concat", ["s", "k", "rest"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["y"]),
    ]
    for k in (2, 4):
        feeds = {"x": X, "k": np.array([k])}
        (y,) = run(nodes, feeds, ["y"], {"rest": np.array([-1])}, FREE)
        assert np.array_equal(y, X.reshape(3, k, -1))


def test_a_slice_and_a_tile_by_data(run: Any) -> None:
    nodes = [
        node("Slice", ["x", "zero", "n"], ["part"]),
        node("Tile", ["part", "r"], ["y"]),
    ]
    feeds = {"x": X, "n": np.array([2]), "r": np.array([1, 3])}
    (y,) = run(nodes, feeds, ["y"], {"zero": np.array([0])}, FREE)
    assert np.array_equal(y, np.tile(X[:2], (1, 3)))


def test_a_size_that_is_negative_is_an_error_when_it_runs(run: Any) -> None:
    feeds = {"x": X, "n": np.array([-1])}
    with pytest.raises(NoriaError, match="negative"):
        run([node("Slice", ["x", "zero", "n"], ["y"])], feeds, ["y"], {"zero": np.array([0])}, FREE)
