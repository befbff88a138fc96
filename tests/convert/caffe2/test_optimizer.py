"""Updates of parameters in Caffe2."""

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(5)
W, M, G = RNG.uniform(0.5, 1, size=(3, 4, 2)).astype(np.float32)
LR = np.array([-0.1], np.float32)
IDS = np.array([3, 1], np.int64)


def test_rows_are_updated_as_the_whole_would_be(run: Any) -> None:
    w, m = run("Adagrad", W, M, G, LR, epsilon=0.1, outputs=2)
    assert np.allclose(m, M + G**2) and np.allclose(w, W - 0.1 * G / (np.sqrt(m) + 0.1), atol=1e-6)
    rows, moments = run("SparseAdagrad", W, M, IDS, G[IDS], LR, epsilon=0.1, outputs=2)
    assert np.allclose(rows[IDS], w[IDS]) and np.array_equal(rows[[0, 2]], W[[0, 2]])
    assert np.allclose(moments[IDS], m[IDS]) and np.array_equal(moments[[0, 2]], M[[0, 2]])


def test_one_moment_a_row_is_the_mean_of_squares(run: Any) -> None:
    m = M[:, 0].copy()
    w, new = run("RowWiseSparseAdagrad", W, m, IDS, G[IDS], LR, outputs=2)
    want = m[IDS] + (G[IDS] ** 2).mean(1)
    assert np.allclose(new[IDS], want)
    assert np.allclose(w[IDS], W[IDS] - 0.1 * G[IDS] / (np.sqrt(want)[:, None] + 1e-5), atol=1e-6)


def test_adam_corrects_its_means(run: Any) -> None:
    step = np.array([2], np.int64)
    w, m, v = run("Adam", W, M, M, G, LR, step, beta1=0.8, beta2=0.9, outputs=3)
    mean, square = 0.8 * M + 0.2 * G, 0.9 * M + 0.1 * G**2
    fix = np.sqrt(1 - 0.9**3) / (1 - 0.8**3)
    assert np.allclose(m, mean, atol=1e-6) and np.allclose(v, square, atol=1e-6)
    assert np.allclose(w, W - 0.1 * fix * mean / (np.sqrt(square) + 1e-5), atol=1e-5)


@pytest.mark.parametrize("nesterov", [0, 1])
def test_momentum_moves_the_parameter(run: Any, nesterov: int) -> None:
    how = {"momentum": 0.9, "nesterov": nesterov}
    step, m, w = run("MomentumSGDUpdate", G, M, -LR, W, outputs=3, **how)
    new = 0.9 * M + 0.1 * G
    want = 1.9 * new - 0.9 * M if nesterov else new
    assert np.allclose(m, new, atol=1e-6) and np.allclose(step, want, atol=1e-6)
    assert np.allclose(w, W - want, atol=1e-6)


def test_ftrl_sets_small_sums_to_zero(run: Any) -> None:
    nz = np.zeros((4, 2, 2), np.float32)
    w, state = run("Ftrl", W, nz, G, alpha=0.5, lambda1=100.0, outputs=2)
    assert w.max() == 0 and np.allclose(state[..., 0], G**2)
    assert np.allclose(state[..., 1], G - np.abs(G) / 0.5 * W, atol=1e-5)


def test_long_tensors_are_shortened(run: Any) -> None:
    x = np.array([3.0, 4.0], np.float32)
    assert np.allclose(run("ClipTensorByScaling", x, np.float32(5), threshold=1.0), x / 5)
    assert np.array_equal(run("ClipTensorByScaling", x, np.float32(0.5), threshold=1.0), x)
    rows = run("SparseNormalize", np.stack([x, x / 10]), np.array([0, 1]), norm=1.0, use_max_norm=1)
    assert np.allclose(rows, [[0.6, 0.8], [0.3, 0.4]])
