"""Shapes of ONNX with sizes that are known only when a model runs."""

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
X = np.arange(24, dtype="f4").reshape(2, 3, 4)
FREE = {"x": ["N", "T", 4]}


def node(*args: Any, **attrs: Any) -> Any:
    return onnx.helper.make_node(*args, **attrs)


def test_a_reshape_by_a_shape_that_the_model_works_out(run: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "rest"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1, 2])}
    (y,) = run(nodes, {"x": X}, ["y"], weights, FREE)
    assert y.shape == (2, 6, 2)


def test_minus_one_beside_symbolic_sizes_is_worked_out_without_dividing_by_them(run: Any) -> None:
    nodes = [node("Reshape", ["x", "to"], ["y"])]
    (y,) = run(nodes, {"x": X[:0]}, ["y"], {"to": np.array([0, 0, 2, -1])}, FREE)
    assert y.shape == (0, 3, 2, 2)


def test_minus_one_where_a_size_occurs_twice(run: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], end=1),
        node("Concat", ["s", "s", "rest"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["y"]),
    ]
    (y,) = run(nodes, {"x": X}, ["y"], {"rest": np.array([-1])}, FREE)
    assert y.shape == (2, 2, 6)


@pytest.mark.parametrize(
    ("start", "stop", "step"),
    [(0, 2, 1), (-2, 1 << 62, 1), (1 << 40, -(1 << 62), -1), (-1, -9, -2), (5, 9, 1), (2, 0, -1)],
)
def test_slices_are_those_of_python_whatever_the_ends(
    run: Any, start: int, stop: int, step: int
) -> None:
    weights = {n: np.array([v]) for n, v in (("a", start), ("b", stop), ("d", step))}
    nodes = [node("Slice", ["x", "a", "b", "axes", "d"], ["y"])]
    weights["axes"] = np.array([1])
    for shape in (FREE, None):
        (y,) = run(nodes, {"x": X}, ["y"], weights, shape)
        assert np.array_equal(y, X[:, start:stop:step])


def test_a_start_before_the_first_element_is_that_element_also_backwards(run: Any) -> None:
    weights = {n: np.array([v]) for n, v in (("a", -9), ("b", -(1 << 62)), ("axes", 1), ("d", -2))}
    (y,) = run([node("Slice", ["x", "a", "b", "axes", "d"], ["y"])], {"x": X}, ["y"], weights)
    assert np.array_equal(y, X[:, :1])


def test_a_mask_of_the_size_of_the_input(run: Any) -> None:
    nodes = [
        node("Shape", ["x"], ["s"], start=0, end=2),
        node("ConstantOfShape", ["s"], ["ones"], value=onnx.helper.make_tensor("v", 1, [1], [1.0])),
        node("Shape", ["x"], ["all"]),
        node("Unsqueeze", ["ones", "last"], ["wide"]),
        node("Expand", ["wide", "all"], ["mask"]),
        node("Add", ["x", "mask"], ["y"]),
    ]
    (y,) = run(nodes, {"x": X}, ["y"], {"last": np.array([2])}, FREE)
    assert np.array_equal(y, X + 1)


def test_negative_pads_cut_off_and_wrap_goes_around(run: Any) -> None:
    nodes = [node("Pad", ["x", "p"], ["y"], mode="wrap")]
    for shape in (FREE, None):
        (y,) = run(nodes, {"x": X}, ["y"], {"p": np.array([0, 1, -1, 0, 4, 0])}, shape)
        assert np.array_equal(y, np.pad(X[:, :, 1:], [(0, 0), (1, 4), (0, 0)], mode="wrap"))


def test_parts_of_a_symbolic_axis(run: Any) -> None:
    nodes = [node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2)]
    a, b = run(nodes, {"x": X}, ["a", "b"], symbolic=FREE)
    assert (a.shape, b.shape) == ((2, 2, 4), (2, 1, 4))
