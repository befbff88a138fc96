"""Products and distances of rows in Caffe2."""

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(10)
X, Y = RNG.normal(size=(2, 3, 4))


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))


@pytest.mark.parametrize(
    ("name", "fn"),
    [
        ("DotProduct", lambda x, y: (x * y).sum(1)),
        ("SquaredL2Distance", lambda x, y: ((x - y) ** 2).sum(1) / 2),
        ("L1Distance", lambda x, y: np.abs(x - y).sum(1)),
        ("CosineSimilarity", cosine),
    ],
)
def test_rows_and_their_gradients(run: Any, name: str, fn: Any) -> None:
    assert np.allclose(run(name, X, Y), fn(X, Y))
    g = np.array([1.0, -2.0, 0.5])
    dx, dy = run(f"{name}Gradient", X, Y, g, outputs=2)
    moved = X.copy()
    moved[1, 2] += 1e-6
    assert np.isclose(dx[1, 2], ((fn(moved, Y) - fn(X, Y)) * g).sum() / 1e-6, atol=1e-4)
    moved = Y.copy()
    moved[2, 0] += 1e-6
    assert np.isclose(dy[2, 0], ((fn(X, moved) - fn(X, Y)) * g).sum() / 1e-6, atol=1e-4)


def test_narrow_rows_are_filled_up_or_repeated(run: Any) -> None:
    y = Y[:, :2].copy()
    want = (X[:, :2] * y).sum(1) + 3 * X[:, 2:].sum(1)
    assert np.allclose(run("DotProductWithPadding", X, y, pad_value=3.0), want)
    assert np.allclose(run("DotProductWithPadding", X, y, replicate=1), (X * np.tile(y, 2)).sum(1))
    assert np.allclose(run("ReduceTailSum", X), X.sum(1))
