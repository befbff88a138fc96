"""Losses of rankings, clicks and distances, against formulas one example at a time."""

import numpy as np
import pytest

from noria import ops
from noria.core.errors import ArgumentError, ShapeError
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}, 1: {0: "N"}}


def log1pexp(x):
    return np.logaddexp(0, np.asarray(x, np.float64))


def check(fn, inputs, expect, symbolic=ROWS, grad=None):
    check_case(Case(fn.__name__, inputs, expect=expect, symbolic=symbolic, grad=grad), fn)


def test_rank_loss_is_the_cross_entropy_of_a_pair() -> None:
    def expect(left, right, order):
        p = 1 / (1 + np.exp(-(left - right).astype(np.float64)))
        return np.mean(-order * np.log(p) - (1 - order) * np.log(1 - p))

    inputs = [arr(5, 1), arr(5, 1), arr(5, 1, low=0, high=1)]
    check(ops.rank_loss, inputs, expect, {i: {0: "N"} for i in range(3)})


def test_bpr_loss_compares_the_label_with_every_other_class() -> None:
    def expect(scores, labels):
        rows = [
            np.mean([log1pexp(s[j] - s[y]) for j in range(len(s)) if j != y])
            for s, y in zip(scores, labels, strict=True)
        ]
        return np.mean(rows)

    check(ops.bpr_loss, [arr(4, 5), ints(4, high=5)], expect)
    check(ops.bpr_loss, [arr(2, 3), ints(2, high=3)], expect, {0: {0: "N", 1: "C"}, 1: {0: "N"}})


def test_triplet_margin_loss_wants_the_positive_nearer() -> None:
    def expect(a, p, n):
        def length(x):
            return np.sqrt(np.sum((a.astype(np.float64) - x + 1e-6) ** 2, axis=-1))

        return np.mean(np.maximum(0, length(p) - length(n) + 1))

    check(ops.triplet_margin_loss, [arr(4, 3)] * 3, expect, {i: {0: "N"} for i in range(3)})


def test_log_loss_adds_epsilon_inside_the_logarithms() -> None:
    def expect(p, y):
        return np.mean(-y * np.log(p + 1e-4) - (1 - y) * np.log(1 - p + 1e-4))

    check(ops.log_loss, [arr(4, 1, low=0.1, high=0.9), arr(4, 1, low=0, high=1)], expect, grad=[0])


def test_modified_huber_loss_is_linear_for_bad_mistakes() -> None:
    def expect(x, y):
        z = x * (2 * y - 1)
        return np.mean([-4 * v if v < -1 else max(0, 1 - v) ** 2 for v in z.ravel()])

    y = np.array([[0.0], [1.0], [1.0], [0.0], [1.0]], np.float32)
    check(ops.modified_huber_loss, [arr(5, 1, low=-3, high=3), y], expect, {}, grad=[0])


LABELS = np.array([-2.0, -1.0, 0.3, 1.7, 0.0, 1.0], np.float32)


def test_teacher_student_loss_adds_the_score_to_the_click() -> None:
    def expect(x, labels):
        losses = []
        for v, label in zip(x, labels, strict=True):
            click = label in (-1.0,) or label >= 1
            losses.append(log1pexp(v) - v * click)
            if label >= 0:
                losses[-1] += log1pexp(v) - v * (label - (label >= 1))
        return np.mean(losses)

    check(ops.teacher_student_loss, [arr(6), LABELS], expect, {}, grad=[0])
    with pytest.raises(ArgumentError, match="low must be less"):
        ops.teacher_student_loss(LABELS, LABELS, low=1.0, high=1.0)


def test_smoothed_labels_still_add_up_to_one() -> None:
    labels = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(ops.label_smooth(labels, epsilon=0.2).sum(-1), 1, rtol=1e-6)
    prior = np.array([0.7, 0.1, 0.1, 0.1], np.float32)
    np.testing.assert_allclose(ops.label_smooth(labels, prior)[0], [0.97, 0.01, 0.01, 0.01])

    def expect(y):
        return 0.9 * y + 0.1 / y.shape[-1]

    check(ops.label_smooth, [arr(3, 4)], expect, {0: {0: "N", 1: "C"}})


def test_center_loss_moves_centers_towards_their_examples() -> None:
    features = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]], np.float32)
    labels, centers = np.array([0, 0, 2]), np.zeros((3, 2), np.float32)
    losses, moved = ops.center_loss(
        features, labels, centers, rate=np.float32(0.5), reduction="none"
    )
    np.testing.assert_allclose(losses, [0.5, 4.5, 12.5])
    np.testing.assert_allclose(moved, [[0.5 * 4 / 3, 0], [0, 0], [0, 0.5 * 5 / 2]], rtol=1e-6)


def test_center_loss_has_a_gradient_in_the_features_only() -> None:
    def fn(features, labels, centers):
        return ops.center_loss(features, labels, centers)[0]

    def expect(features, labels, centers):
        return np.mean(np.sum((features - centers[labels]) ** 2, axis=1) / 2)

    case = Case("center_loss", [arr(4, 3), ints(4, high=5), arr(5, 3)], expect=expect, grad=[0])
    check_case(case, fn)


def test_cosine_embedding_loss_pushes_apart_beyond_the_margin() -> None:
    labels = np.array([1, -1, 1, -1])

    def expect(x, y, labels):
        cos = np.sum(x * y, 1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        return np.mean(np.where(labels > 0, 1 - cos, np.maximum(0, cos)))

    check(ops.cosine_embedding_loss, [arr(4, 3), arr(4, 3), labels], expect, {}, grad=[0, 1])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="scores must have rank 2"):
        ops.bpr_loss(LABELS, np.array([1]))
    with pytest.raises(ArgumentError, match="epsilon"):
        ops.label_smooth(LABELS, epsilon=2.0)
