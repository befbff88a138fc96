"""Losses and transforms of Caffe2."""

from typing import Any

import numpy as np

RNG = np.random.default_rng(4)


def test_labels_and_distributions_give_the_same_loss(run: Any) -> None:
    logits = RNG.normal(size=(3, 5)).astype(np.float32)
    labels, weights = np.array([1, 4, 0], np.int32), np.array([1.0, 0.0, 2.0], np.float32)
    p, loss = run("SoftmaxWithLoss", logits, labels, weights, scale=2.0, outputs=2)
    want = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = -np.log(want[range(3), labels])
    assert np.allclose(p, want, atol=1e-6)
    assert np.isclose(loss, 2 * (chosen * weights).sum() / 3, atol=1e-5)
    hot = np.eye(5, dtype=np.float32)[labels]
    _, other = run("SoftmaxWithLoss", logits, hot, weights, scale=2.0, label_prob=1, outputs=2)
    assert np.isclose(loss, other, atol=1e-5)
    g = run("SoftmaxWithLossGradient", logits, labels, weights, p, np.float32(3), scale=2.0)
    assert np.allclose(g, 3 * 2 * (want - hot) * weights[:, None] / 3, atol=1e-5)


def test_labels_of_minus_one_take_no_part(run: Any) -> None:
    logits = RNG.normal(size=(1, 3, 2, 2)).astype(np.float32)
    labels = np.array([[[0, -1], [-1, -1]]], np.int32)
    _, loss = run("SpatialSoftmaxWithLoss", logits, labels, outputs=2)
    x = logits[0, :, 0, 0]
    assert np.isclose(loss, np.log(np.exp(x).sum()) - x[0], atol=1e-5)


def test_pairs_are_compared_within_their_session(run: Any) -> None:
    x, y = (np.array(v, np.float32) for v in ([1.0, 2.0, 0.5, 3.0], [1.0, 0.0, 0.0, 0.0]))
    out = run("PairWiseLoss", x, y, np.array([3, 1], np.int32))
    want = (np.log1p(np.exp(1.0)) + np.log1p(np.exp(-0.5))) / 2
    assert np.allclose(out, [want, 0], atol=1e-6)


def test_a_power_of_zero_is_a_logarithm(run: Any) -> None:
    x = np.array([[1.0, 2.0], [3.0, -9.0]], np.float32)
    out = run("BatchBoxCox", x, np.array([0.0, 2.0], "f4"), np.array([1.0, 0.5], "f4"))
    want = [[np.log(2), (2.5**2 - 1) / 2], [np.log(4), -0.5]]
    assert np.allclose(out, want, atol=1e-6)


def test_lines_are_flat_outside_their_bounds(run: Any) -> None:
    x = np.array([[-1.0], [0.5], [1.0], [1.5], [9.0]], np.float32)
    out = run(
        "PiecewiseLinearTransform",
        x,
        bounds=[0.0, 1.0, 2.0],
        slopes=[1.0, 3.0],
        intercepts=[0.0, -2.0],
    )
    assert np.allclose(out.ravel(), [0, 0.5, 1, 2.5, 4])
    two = np.array([[0.7, 0.3]], np.float32)
    out = run(
        "PiecewiseLinearTransform", two, binary=1, bounds=[0.0, 1.0], slopes=[0.5], intercepts=[0.1]
    )
    assert np.allclose(out, [[0.75, 0.25]])


def test_sigmoid_losses_are_means_over_the_last_axis(run: Any) -> None:
    x, t = RNG.normal(size=(2, 3)), RNG.integers(0, 2, (2, 3)).astype(np.float64)
    p = 1 / (1 + np.exp(-x))
    want = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(1)
    assert np.allclose(run("SigmoidCrossEntropyWithLogits", x, t), want)
    trick = -((2 * t - 1) * np.log(p)).mean(1)
    assert np.allclose(run("SigmoidCrossEntropyWithLogits", x, t, log_D_trick=1), trick)


def test_documents_are_ranked_within_their_session(run: Any) -> None:
    y = np.array([0.3, 0.9, 0.1, 0.5], np.float32)
    r = np.array([2.0, 0.0, 1.0, 1.0], np.float32)
    loss, dy = run("LambdaRankNdcg", y, r, np.array([3, 1], "i4"), use_ndcg_as_loss=1, outputs=2)
    discount = 1 / np.log2(np.arange(2, 5))
    gain = 2 ** r[:3]
    ideal = (gain * discount[[0, 2, 1]]).sum()
    actual = (gain * discount[[1, 0, 2]]).sum()
    assert np.allclose(loss, [(ideal - actual) / ideal, 0], atol=1e-5) and dy[3] == 0
    pairs = np.abs(np.subtract.outer(discount[[1, 0, 2]], discount[[1, 0, 2]]))
    pairs = pairs * np.abs(np.subtract.outer(gain, gain)) / ideal
    sign = np.where(np.subtract.outer(r[:3], r[:3]) > 0, 1, -1)
    slope = -(pairs * sign / (1 + np.exp(sign * np.subtract.outer(y[:3], y[:3])))).sum(1)
    assert np.allclose(dy[:3], slope, atol=1e-5)
    assert np.allclose(
        run("LambdaRankNdcgGradient", y, np.array([3, 1], "i4"), dy, np.array([2.0, 1.0], "f4"))[
            :3
        ],
        2 * dy[:3],
    )
