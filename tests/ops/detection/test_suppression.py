import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops.detection import suppression
from noria.ops.detection.geometry import BoxOverlap


def some_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 25, (count, 2))], 1).astype(np.float32)
    return boxes, rng.permutation(count).astype(np.float32) / count


def one_by_one(boxes, order, threshold, overlap, eta=1.0, limit=-1):
    """Every box against every one kept before it."""
    kept, bound = [], np.float32(threshold)
    for i in order:
        if len(kept) == limit:
            break
        if all(overlap(boxes[i], boxes[k : k + 1])[0] <= bound for k in kept):
            kept.append(int(i))
            if eta < 1 and bound > 0.5:
                bound *= np.float32(eta)
    return kept


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("how", [{}, {"eta": 0.8}, {"limit": 7}])
def test_greedy_suppression_is_that_of_a_naive_loop(threshold, how):
    boxes, scores = some_boxes(120)
    order = suppression.best_first(scores, np.arange(120))
    overlap = BoxOverlap(True)
    found = suppression.greedy(boxes, order, threshold, overlap, **how)
    assert found.tolist() == one_by_one(boxes, order, threshold, overlap, **how)


def test_equal_scores_keep_their_order_and_a_limit_is_kept():
    scores = np.array([1, 3, 3, 0, 3], np.float32)
    assert suppression.best_first(scores, np.arange(5)).tolist() == [1, 2, 4, 0, 3]
    assert suppression.best_first(scores, np.array([4, 2, 0]), 2).tolist() == [4, 2]


def slowly(boxes, scores, threshold, method, sigma, least):
    scores, pending, kept = scores.astype(float).copy(), list(range(len(scores))), []
    while pending:
        best = max(pending, key=lambda i: scores[i])
        kept.append(best)
        pending.remove(best)
        for i in list(pending):
            iou = float(BoxOverlap(True)(boxes[best], boxes[i : i + 1])[0])
            if method == "gaussian":
                scores[i] *= np.exp(-iou * iou / sigma)
            elif iou > threshold:
                scores[i] *= 1 - iou if method == "linear" else 0
            if scores[i] < least:
                pending.remove(i)
    return kept, scores


@pytest.mark.parametrize("method", suppression.SOFT)
def test_soft_suppression_lowers_scores(method):
    boxes, scores = some_boxes(30, 1)
    how = {"threshold": 0.3, "method": method, "sigma": 0.5}
    kept, new = suppression.soft(
        boxes, scores, np.arange(30), BoxOverlap(True), score_threshold=0.05, **how
    )
    expected, slow = slowly(boxes, scores, 0.3, method, 0.5, 0.05)
    assert kept.tolist() == expected
    np.testing.assert_allclose(new[kept], slow[kept], rtol=1e-4)


@pytest.mark.parametrize("sigma", [None, 2.0])
def test_matrix_suppression_multiplies_by_the_worst_decay(sigma):
    boxes, scores = some_boxes(12, 2)
    boxes = boxes[np.argsort(-scores)]
    scores = np.sort(scores)[::-1]
    iou = np.stack([BoxOverlap(True)(b, boxes) for b in boxes]).astype(float)
    expected = []
    for i in range(12):
        decay = [1.0]
        for j in range(i):
            most = max([iou[j, k] for k in range(j)], default=0.0)
            if sigma is None:
                decay.append((1 - iou[i, j]) / (1 - most))
            else:
                decay.append(np.exp((most**2 - iou[i, j] ** 2) * sigma))
        expected.append(scores[i] * min(decay))
    found = suppression.decayed(boxes, scores, BoxOverlap(True), sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_packing_and_names_of_sizes():
    assert suppression.joined([], (4,), np.float32).shape == (0, 4)
    assert suppression.splits_of([2, 0, 3]).tolist() == [0, 2, 2, 5]
    with pytest.raises(ArgumentError, match="name of a new symbol"):
        suppression.new_symbol(3)
    kept = {1: np.array([0, 1]), 2: np.array([0])}
    lines = np.array([[0, 0], [0.5, 0.2], [0.9, 0]])
    best = suppression.best_of_all(kept, lines, 2)
    assert {c: k.tolist() for c, k in best.items()} == {1: [0], 2: [0]}
