"""Segments in Caffe2."""

from typing import Any

import numpy as np
import pytest

X = np.arange(10, dtype=np.float32).reshape(5, 2)
LENGTHS = np.array([2, 0, 3], np.int32)
ROWS = [X[:2], X[:0], X[2:]]


@pytest.mark.parametrize(("kind", "fn"), [("Sum", np.sum), ("Mean", np.mean), ("Max", np.max)])
def test_rows_told_by_lengths_are_put_together(run: Any, kind: str, fn: Any) -> None:
    want = [fn(r, axis=0) if len(r) else np.zeros(2) for r in ROWS]
    assert np.allclose(run(f"Lengths{kind}", X, LENGTHS), want)


def test_rows_are_looked_up_and_weighted(run: Any) -> None:
    ids, weights = np.array([4, 0, 0, 1, 2]), np.array([1, 2, 3, 4, 5], np.float32)
    rows = X[ids] * weights[:, None]
    out = run("SparseLengthsWeightedSum", X, weights, ids, LENGTHS)
    assert np.allclose(out, [rows[:2].sum(0), [0, 0], rows[2:].sum(0)])


def test_segments_told_by_ids_may_have_gaps(run: Any) -> None:
    ids = np.array([0, 0, 3, 3, 3], np.int32)
    out = run("SortedSegmentRangeLogSumExp", X, ids)
    assert np.allclose(out[0], np.log(np.exp(X[:2]).sum(0))) and out.shape == (4, 2)
    assert out[1:3].max() == 0
    turned = run("UnsortedSegmentMean", X[::-1].copy(), ids[::-1].copy(), num_segments=6)
    assert turned.shape == (6, 2) and np.allclose(turned[3], X[2:].mean(0))


def test_gradients_go_back_to_every_step(run: Any) -> None:
    g = np.array([[2.0, 4.0], [1.0, 1.0], [3.0, 6.0]], np.float32)
    out = run("LengthsMeanGradient", g, LENGTHS)
    assert np.allclose(out, [[1, 2]] * 2 + [[1, 2]] * 3)
    ids = np.array([2, 0, 2], np.int32)
    out = run("UnsortedSegmentMeanGradient", g, ids)
    assert np.allclose(out, [[1.5, 3], [2, 4], [1.5, 3]])


def test_rows_of_8_bits_keep_their_ends(run: Any) -> None:
    x = np.array([[-1.0, 0.2, 3.0], [5.0, 5.0, 5.0]], np.float32)
    levels, scale = run("FloatToRowwiseQuantized8Bits", x, outputs=2)
    assert levels.dtype == np.uint8 and levels[0, 0] == 0 and levels[0, 2] == 255
    back = run("Rowwise8BitQuantizedToFloat", levels, scale)
    assert np.allclose(back, x, atol=4 / 255)
    ids, lengths = np.array([1, 0], np.int64), np.array([2], np.int32)
    out = run("SparseLengthsSum8BitsRowwise", levels, ids, lengths, scale)
    assert np.allclose(out, back.sum(0, keepdims=True))


def test_weights_of_steps_have_gradients(run: Any) -> None:
    g, ids = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]], np.float32), np.array([0, 1, 2, 3, 4])
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0], np.float32)
    name = "SparseLengthsIndicesInGradientWeightedSumWithMainInputGradient"
    dx, dw = run(name, weights, g, LENGTHS, X, ids, outputs=2)
    rows = g[[0, 0, 2, 2, 2]]
    assert np.allclose(dx, rows * weights[:, None]) and np.allclose(dw, (rows * X).sum(1))


@pytest.mark.parametrize("kind", ["Sum", "Mean", "Max", "LogSumExp", "LogMeanExp"])
def test_gradients_of_ranges_are_slopes(run: Any, kind: str) -> None:
    ids, x = np.array([0, 0, 2, 2, 2], np.int32), np.sin(X * 3).astype(np.float64)
    dy = np.array([[1.0, -2.0], [9.0, 9.0], [0.5, 3.0]])
    y = run(f"SortedSegmentRange{kind}", x, ids)
    grad = run(f"SortedSegmentRange{kind}Gradient", x, y, dy, ids)
    for at in np.ndindex(*x.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = x.copy()
            moved[at] += step
            sides.append((run(f"SortedSegmentRange{kind}", moved, ids) * dy).sum())
        assert np.isclose(grad[at], (sides[0] - sides[1]) / 2e-5, atol=1e-5)


def test_weighted_segments_give_gradients_by_weight(run: Any) -> None:
    ids, w = np.array([1, 0, 1], np.int32), np.array([2.0, 3.0, 4.0], np.float32)
    dy = np.array([[1.0, 2.0], [5.0, 6.0]], np.float32)
    want = dy[ids] * w[:, None]
    assert np.array_equal(run("UnsortedSegmentWeightedSumGradient", w, dy, ids), want)
    lengths = np.array([1, 2], np.int32)
    out = run("SparseLengthsWeightedSumGradient", w, dy, lengths)
    assert np.array_equal(out, dy[[0, 1, 1]] * w[:, None])


def test_indices_are_mapped_and_pruned(run: Any) -> None:
    ids, lengths = np.array([0, 3, 1, 2, 3], np.int32), np.array([2, 0, 3], np.int32)
    mapping, weights = np.array([5, -1, 7, 2], np.int32), np.arange(5, dtype=np.float32)
    out = run("SparseLengthsSumSparseLookup", ids, lengths, mapping, weights, outputs=3)
    assert [v.tolist() for v in out] == [[5, 2, 7, 2], [2, 0, 2], [0, 1, 3, 4]]
    whole = run("SparseLengthsSumSparseLookup", ids, lengths, np.zeros(1, np.int32), outputs=2)
    assert np.array_equal(whole[0], ids) and np.array_equal(whole[1], lengths)
