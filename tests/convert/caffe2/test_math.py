"""Elementwise operators of Caffe2."""

from typing import Any

import numpy as np
import pytest

X = np.array([[-1.5, 0.25, 2.0], [3.0, -0.5, 0.75]], np.float32)


def test_legacy_broadcasting_aligns_the_second_input_at_an_axis(run: Any) -> None:
    rows = np.array([10.0, 20.0], np.float32)
    assert np.array_equal(run("Add", X, rows, broadcast=1, axis=0), X + rows[:, None])


def test_division_of_integers_goes_towards_zero(run: Any) -> None:
    a, b = np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32)
    assert run("Div", a, b).tolist() == [3, -3, -3, 3]


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "Sqrt", "Reciprocal"])
def test_gradients_from_the_output_follow_differences(run: Any, name: str) -> None:
    x = np.abs(X).astype(np.float64) + 0.5
    step = 1e-6
    slope = (run(name, x + step) - run(name, x - step)) / (2 * step)
    y = run(name, x)
    assert np.allclose(run(f"{name}Gradient", y, 2 * np.ones_like(y)), 2 * slope, atol=1e-5)


@pytest.mark.parametrize(("name", "given"), [("Cube", "x"), ("Cbrt", "y"), ("RSqrt", "y")])
def test_some_gradients_take_that_of_the_output_first(run: Any, name: str, given: str) -> None:
    x = np.abs(X).astype(np.float64) + 0.5
    slope = (run(name, x + 1e-6) - run(name, x - 1e-6)) / 2e-6
    from_ = x if given == "x" else run(name, x)
    assert np.allclose(run(f"{name}Gradient", 2 * np.ones_like(x), from_), 2 * slope, atol=1e-5)


def test_the_older_gradient_of_division_takes_the_quotient(run: Any) -> None:
    b = np.array([[2.0, 4.0, 8.0]], np.float32)
    g = np.ones_like(b)
    da, db = run("DivGradient", b, X[:1] / b, g, outputs=2)
    assert np.allclose(da, g / b)
    assert np.allclose(db, -X[:1] / b**2)


def test_repeated_ids_are_weighted_each_time(run: Any) -> None:
    x, ids = np.ones((3, 1), np.float32), np.array([1, 1], np.int64)
    rows = np.array([[10.0], [20.0]], np.float32)
    half, two = np.float32(0.5), np.float32(2)
    out = run("ScatterWeightedSum", x, half, ids, rows, two)
    assert out.ravel().tolist() == [1.0, 0.25 + 60.0, 1.0]


def test_mod_has_the_sign_of_the_number_or_of_the_divisor(run: Any) -> None:
    x = np.array([-7, 7], np.int64)
    assert run("Mod", x, divisor=3).tolist() == [-1, 1]
    assert run("Mod", x, divisor=3, sign_follow_divisor=1).tolist() == [2, 1]


def test_sums_are_brought_to_the_shape_that_was_broadcast(run: Any) -> None:
    rows = np.zeros(2, np.float32)
    assert np.allclose(run("SumReduceLike", X, rows, broadcast=1, axis=0), X.sum(1))
    assert np.allclose(run("RowMul", X, np.array([2, -1], np.float32)), X * [[2], [-1]])
    assert np.isclose(run("Perplexity", np.array([0.25, 0.25], np.float32)), 4)


def test_emptiness_is_told(run: Any) -> None:
    none = np.zeros((0, 2), np.float32)
    assert run("HasElements", none, X) and not run("HasElements", none) and run("IsEmpty", none)
