"""Reductions of Caffe2."""

from typing import Any

import numpy as np

X = np.arange(1, 25, dtype=np.float32).reshape(2, 3, 4)


def test_axes_are_kept_unless_told_otherwise(run: Any) -> None:
    assert np.array_equal(run("ReduceSum", X, axes=[1]), X.sum(1, keepdims=True))
    assert np.allclose(run("ReduceL2", X, axes=[0, 2], keepdims=0), np.sqrt((X**2).sum((0, 2))))


def test_only_the_first_of_a_length_count(run: Any) -> None:
    lengths = np.array([1, 0, 4, 2, 3, 4], np.int32)
    rows = X.reshape(6, 4)
    want = [rows[i, :n].mean() if n else 0.0 for i, n in enumerate(lengths)]
    assert np.allclose(run("ReduceBackMean", X, lengths, num_reduce_dim=1).ravel(), want)


def test_every_extreme_gets_the_whole_gradient(run: Any) -> None:
    x = np.array([[1.0, 3.0, 3.0]], np.float32)
    g = run(
        "ReduceMaxGradient", np.full((1, 1), 5, np.float32), x, x.max(1, keepdims=True), axes=[1]
    )
    assert g.tolist() == [[0, 5, 5]]


def test_moments_are_mean_and_variance(run: Any) -> None:
    mean, variance = run("Moments", X, axes=[0, 1], keepdims=0, outputs=2)
    assert np.allclose(mean, X.mean((0, 1))) and np.allclose(variance, X.var((0, 1)))


def test_the_gradient_of_moments_follows_differences(run: Any) -> None:
    x = X.astype(np.float64)
    mean = x.mean((0, 1))
    dm, dv = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 1.0, -1.0, 2.0])
    g = run("MomentsGradient", dm, dv, x, mean, axes=[0, 1], keepdims=0)
    moved = x.copy()
    moved[1, 2, 1] += 1e-6

    def loss(v: np.ndarray) -> float:
        return float((v.mean((0, 1)) * dm + v.var((0, 1)) * dv).sum())

    assert np.isclose(g[1, 2, 1], (loss(moved) - loss(x)) / 1e-6, atol=1e-4)
