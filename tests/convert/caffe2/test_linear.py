"""Products of matrices in Caffe2."""

from typing import Any

import numpy as np

RNG = np.random.default_rng(0)
X, W, B = (RNG.normal(size=s).astype(np.float32) for s in ((2, 3, 4), (5, 12), (5,)))


def test_a_fully_connected_layer_flattens_behind_its_axis(run: Any) -> None:
    want = X.reshape(2, 12) @ W.T + B
    assert np.allclose(run("FC", X, W, B), want, atol=1e-5)
    assert np.allclose(run("FCTransposed", X, W.T.copy(), B), want, atol=1e-5)
    w = W[:, :4].copy()
    assert np.allclose(run("FC", X, w, B, axis=2), X @ w.T + B, atol=1e-5)


def test_the_gradient_of_a_fully_connected_layer(run: Any) -> None:
    g = RNG.normal(size=(2, 5)).astype(np.float32)
    dw, db, dx = run("FCGradient", X, W, g, outputs=3)
    assert np.allclose(dw, g.T @ X.reshape(2, 12), atol=1e-5)
    assert np.allclose(db, g.sum(0), atol=1e-5)
    assert np.allclose(dx, (g @ W).reshape(X.shape), atol=1e-5)


def test_a_batch_of_products_with_a_vector(run: Any) -> None:
    v = RNG.normal(size=4).astype(np.float32)
    assert np.allclose(run("BatchMatMul", X, v, broadcast=1), X @ v, atol=1e-5)
    y = run("BatchMatMul", X, X, trans_b=1)
    assert np.allclose(y, X @ X.transpose(0, 2, 1), atol=1e-5)
