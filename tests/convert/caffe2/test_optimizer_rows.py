"""Decay and counts of the rows an update touches."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import NoriaError

W = np.array([[0.5, -2.0], [0.05, 3.0], [1.0, -1.0]], np.float32)
IDS = np.array([1, 0, 1], np.int64)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_rows_shrink_each_time_they_are_named(run: Any, p: float) -> None:
    want = W.astype(np.float64)
    for i in IDS:
        w = want[i]
        want[i] = w * 0.9 if p == 2 else np.sign(w) * np.maximum(np.abs(w) - 0.1, 0)
    out = run("SparseLpRegularizer", W, IDS, p=p, reg_lambda=0.1)
    assert np.allclose(out, want, atol=1e-6) and np.array_equal(out[2], W[2])
    with pytest.raises(NoriaError, match="p is 1 or 2"):
        run("SparseLpRegularizer", W, IDS, p=3.0)


def test_counts_fade_with_the_steps_between(run: Any) -> None:
    last, counter = np.array([4, 9, 1], np.int64), np.array([2.0, 8.0, 5.0])
    step = np.array([8], np.int64)
    seen, counts = run("RowWiseCounter", last, counter, IDS, step, counter_halflife=4, outputs=2)
    assert seen.tolist() == [8, 9, 1]
    assert np.allclose(counts, [1 + 2.0 / 2, 2 + 8.0, 5.0])
    kept = run("RowWiseCounter", last, counter, IDS, step, outputs=2)
    assert np.array_equal(kept[1], counter)


def test_adagrad_with_momentum_corrects_its_mean(run: Any) -> None:
    grad, moment, square = W * 0.1, W * 0.2, np.abs(W)
    lr, step = np.array([-0.1], np.float32), np.array([2], np.int64)
    how = {"beta1": 0.8, "epsilon": 0.01, "weight_decay": 0.3}
    w, m, v = run("DecayAdagrad", W, moment, square, grad, lr, step, outputs=3, **how)
    mean, total = 0.8 * moment + 0.2 * grad, square + grad**2
    move = mean / (1 - 0.8**3) / (np.sqrt(total) + 0.01) + 0.3 * W
    assert np.allclose(m, mean) and np.allclose(v, total) and np.allclose(w, W - 0.1 * move)
