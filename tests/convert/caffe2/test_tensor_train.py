"""Embeddings kept as tensor trains in Caffe2."""

from typing import Any

import numpy as np

RNG = np.random.default_rng(4)
RANKS, ROWS, COLUMNS = (1, 2, 3, 1), (2, 3, 2), (2, 1, 2)
CORES = [
    RNG.normal(size=(ROWS[i], RANKS[i], COLUMNS[i], RANKS[i + 1])).astype(np.float32)
    for i in range(3)
]
IDS, LENGTHS = np.array([0, 11, 5, 5], np.int64), np.array([1, 0, 3], np.int32)
HOW: dict[str, Any] = {
    "factor_i": list(ROWS),
    "factor_j": list(COLUMNS),
    "ranks": list(RANKS),
    "emb_size": 4,
}


def whole(cores: list[np.ndarray]) -> np.ndarray:
    """The table the cores stand for; the first digit of an id changes fastest."""
    full = np.einsum("aibj,cjdk,ekfl->ecabdf", *(c.astype(np.float64) for c in cores))
    return full.reshape(12, 4)


def test_rows_are_products_of_slices(run: Any) -> None:
    out = run("TTSparseLengthsSum", *CORES, IDS, LENGTHS, outputs=5, **HOW)
    rows = whole(CORES)[IDS]
    assert np.allclose(out[0], [rows[0], np.zeros(4), rows[1:].sum(0)], atol=1e-5)
    assert out[1].shape == (4, 2, 2) and out[2].shape == (4, 2, 3)
    assert np.allclose(out[3].reshape(4, 4), rows, atol=1e-5)
    assert out[4].tolist() == [[0, 0, 0], [1, 2, 1], [1, 2, 0], [1, 2, 0]]
    assert run("TTSparseLengthsSum", *CORES, IDS, LENGTHS, outputs=4, **HOW)[3].shape == (4, 3)


def test_gradients_reach_every_core(run: Any) -> None:
    dy = RNG.normal(size=(3, 4)).astype(np.float32)
    made = run("TTSparseLengthsSum", *CORES, IDS, LENGTHS, outputs=4, **HOW)
    name = "TTSparseLengthsSumGradient"
    grads = run(name, *CORES, LENGTHS, *made[1:], dy, outputs=3, **HOW)
    scale = dy[[0, 2, 2, 2]]
    for k, core in enumerate(CORES):
        nudged = [c.astype(np.float64) for c in CORES]
        for at in np.ndindex(*core.shape):
            nudged[k][at] += 1
            up = (whole(nudged)[IDS] * scale).sum()  # the sum is linear in each core
            nudged[k][at] -= 1
            assert np.isclose(grads[k][at], up - (whole(nudged)[IDS] * scale).sum(), atol=1e-4)
