"""Fused updates of the rows that segments look up."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import NoriaError

RNG = np.random.default_rng(6)
W, M = RNG.uniform(0.5, 1, size=(2, 5, 3)).astype(np.float32)
G = RNG.normal(size=(3, 3)).astype(np.float32)
LR = np.array([-0.1], np.float32)
LENGTHS = np.array([2, 0, 3], np.int32)
IDS = np.array([3, 1, 3, 0, 3], np.int64)  # row 3 three times, in both segments
OWNERS = np.array([0, 0, 2, 2, 2])


def one_by_one(m: np.ndarray, grads: np.ndarray, decay: float = 0.0) -> tuple[Any, Any]:
    """The update as a loop over the ids."""
    w, m = W.astype(np.float64), m.astype(np.float64)
    for row, grad in zip(IDS, grads, strict=True):
        g = grad + decay * w[row]
        m[row] += (g**2).mean() if m.ndim == 1 else g**2
        w[row] -= 0.1 * g / (np.sqrt(m[row]) + 0.01)
    return w, m


@pytest.mark.parametrize("approx", ["", "Approx"])
@pytest.mark.parametrize("kind", ["Sum", "Mean"])
@pytest.mark.parametrize("rows", ["", "RowWise"])
def test_each_id_is_updated_after_the_one_before(
    run: Any, rows: str, kind: str, approx: str
) -> None:
    name = f"{rows}SparseAdagradFusedWithSparseLengths{kind}Gradient{approx}"
    m = M[:, 0].copy() if rows else M
    share = LENGTHS[OWNERS][:, None] if kind == "Mean" else 1
    want = one_by_one(m, G[OWNERS] / share, decay=0.2)
    out = run(
        name, W, m, IDS, G, LR, LENGTHS, epsilon=0.01, weight_decay=0.2, outputs=2, constant=(5,)
    )
    assert np.allclose(out[0], want[0], atol=1e-5) and np.allclose(out[1], want[1], atol=1e-5)


@pytest.mark.parametrize("rows", ["", "RowWise"])
def test_weights_belong_to_places_in_a_segment(run: Any, rows: str) -> None:
    name = f"{rows}SparseAdagradFusedWithSparseLengthsWeightedSumGradient"
    weights = np.array([0.5, 2.0, -1.0], np.float32)
    m = M[:, 0].copy() if rows else M
    w, new, grad = run(name, W, m, weights, IDS, G, LR, LENGTHS, epsilon=0.01, outputs=3)
    want = one_by_one(m, G[OWNERS] * weights[[0, 1, 0, 1, 2]][:, None])
    assert np.allclose(w, want[0], atol=1e-5) and np.allclose(new, want[1], atol=1e-5)
    assert np.allclose(grad, (G[OWNERS] * W[IDS]).sum(1), atol=1e-5)


def test_nothing_looked_up_changes_nothing(run: Any) -> None:
    name = "SparseAdagradFusedWithSparseLengthsSumGradient"
    none, lengths = np.zeros(0, np.int64), np.zeros(3, np.int32)
    w, m = run(name, W, M, none, G, LR, lengths, outputs=2)
    assert np.array_equal(w, W) and np.array_equal(m, M)


def test_decay_and_ids_out_of_range_are_refused(run: Any) -> None:
    name = "SparseAdagradFusedWithSparseLengthsSumGradient"
    with pytest.raises(NoriaError, match="decay"):
        run(name, W, M, IDS, G, LR, LENGTHS, decay=0.5, outputs=2)
    with pytest.raises(NoriaError):
        run(name, W, M, IDS + 3, G, LR, LENGTHS, outputs=2)
