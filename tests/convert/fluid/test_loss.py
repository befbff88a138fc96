"""Losses that the reference vectors do not judge."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError

RNG = np.random.default_rng(0)


def test_binary_cross_entropy_stops_at_a_hundred(run_op):
    p = np.array([0.0, 1.0, 0.25], np.float32)
    y = np.array([1.0, 0.0, 1.0], np.float32)
    got = run_op("bce_loss", {"X": p, "Label": y})["Out"]
    np.testing.assert_allclose(got, [87.498, 87.498, np.log(4)], rtol=1e-3)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_negative_log_likelihood_leaves_a_label_out(run_op, reduction):
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    label, weight = np.array([0, 2, -100, 1]), np.array([0.5, 1.0, 2.0], np.float32)
    got = run_op(
        "nll_loss",
        {"X": x, "Label": label, "Weight": weight},
        {"reduction": reduction, "ignore_index": -100},
        outputs=("Out", "Total_weight"),
    )
    losses = np.array([-x[0, 0] * 0.5, -x[1, 2] * 2, 0, -x[3, 1]])
    wanted = {"none": losses, "sum": [losses.sum()], "mean": [losses.sum() / 3.5]}[reduction]
    np.testing.assert_allclose(got["Out"], wanted, rtol=1e-5)
    np.testing.assert_allclose(got["Total_weight"], [3.5])


def test_smoothed_labels_take_the_prior(run_op):
    x, prior = np.eye(2, dtype=np.float32), np.array([[0.75, 0.25]], np.float32)
    got = run_op("label_smooth", {"X": x, "PriorDist": prior}, {"epsilon": 0.2})["Out"]
    np.testing.assert_allclose(got, [[0.95, 0.05], [0.15, 0.85]], rtol=1e-6)


def test_the_mean_is_a_vector_of_one(run_op):
    assert run_op("mean", {"X": np.array([[1.0, 3.0]], np.float32)})["Out"].tolist() == [2.0]


def test_centers_move_by_the_rate(run_op):
    inputs = {
        "X": np.array([[2.0, 0.0]], np.float32),
        "Label": np.array([[1]]),
        "Centers": np.zeros((2, 2), np.float32),
        "CenterUpdateRate": np.array([0.5], np.float32),
    }
    slots = ("Loss", "CentersOut", "SampleCenterDiff")
    got = run_op("center_loss", inputs, {"cluster_num": 2, "need_update": True}, outputs=slots)
    assert got["Loss"].tolist() == [[2.0]]
    assert got["CentersOut"].tolist() == [[0, 0], [0.5, 0]]
    assert got["SampleCenterDiff"].tolist() == [[2.0, 0.0]]


def test_an_unknown_reduction_is_refused(run_op):
    x = np.ones((2, 2), np.float32)
    with pytest.raises(ArgumentError, match="unknown reduction"):
        run_op("kldiv_loss", {"X": x, "Target": x}, {"reduction": "median"}, outputs=("Loss",))
