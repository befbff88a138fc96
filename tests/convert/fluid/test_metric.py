"""Metrics of Fluid on small batches."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError


def test_a_window_forgets_its_oldest_batch(run_op):
    bins, window = 3, 2
    ring = np.array([[1, 0, 0], [0, 2, 0]]).ravel()
    positive = np.concatenate([ring, [1, 2, 0], [4]])  # step 4 writes where step 2 did
    inputs = {
        "Predict": np.array([[0.9, 0.1], [0.2, 0.8]], np.float32),
        "Label": np.array([[1], [0]]),
        "StatPos": positive,
        "StatNeg": np.zeros_like(positive) + np.eye(10, dtype=np.int64)[9] * 4,
    }
    attrs = {"num_thresholds": bins - 1, "slide_steps": window, "curve": "ROC"}
    got = run_op("auc", inputs, attrs, outputs=("AUC", "StatPosOut", "StatNegOut"))
    assert got["StatPosOut"].tolist() == [1, 0, 0, 0, 2, 0, 1, 2, 0, 5]
    assert got["StatNegOut"].tolist() == [0, 1, 0, 0, 0, 0, 0, 1, 0, 5]
    assert got["AUC"].tolist() == [pytest.approx((1 * 0 + 2 * 0.5) / 3)]


def test_without_a_pair_the_area_is_zero(run_op):
    counts = np.zeros((1, 3), np.int64)
    inputs = {
        "Predict": np.array([[0.3]], np.float32),
        "Label": np.array([[1]]),
        "StatPos": counts,
        "StatNeg": counts,
    }
    attrs = {"num_thresholds": 2, "slide_steps": 0}
    assert run_op("auc", inputs, attrs, outputs=("AUC",))["AUC"].tolist() == [0.0]
    with pytest.raises(ArgumentError, match="ROC"):
        run_op("auc", inputs, {**attrs, "curve": "PR"}, outputs=("AUC",))


def test_a_row_counts_once_whichever_of_its_indices_is_right(run_op):
    inputs = {
        "Out": np.ones((3, 2), np.float32),
        "Indices": np.array([[1, 1], [0, 2], [2, 0]]),
        "Label": np.array([[1], [1], [0]]),
    }
    got = run_op("accuracy", inputs, outputs=("Accuracy", "Correct", "Total"))
    assert (got["Correct"].tolist(), got["Total"].tolist()) == ([2], [3])
    assert got["Accuracy"][0] == pytest.approx(2 / 3)


def test_a_class_nobody_saw_counts_as_found(run_op):
    inputs = {
        "MaxProbs": np.ones((2, 1), np.float32),
        "Indices": np.array([[0], [1]], np.int32),
        "Labels": np.array([[0], [0]], np.int32),
    }
    slots = ("BatchMetrics", "AccumStatesInfo")
    got = run_op("precision_recall", inputs, {"class_number": 3}, outputs=slots)
    assert got["AccumStatesInfo"].tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 2, 0]]
    np.testing.assert_allclose(got["BatchMetrics"][:2], [2 / 3, 2.5 / 3])
    np.testing.assert_allclose(got["BatchMetrics"][3:], [0.5, 0.5, 0.5])
