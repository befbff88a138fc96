"""Losses of ONNX; the suite of onnx judges the rest."""

from typing import Any

import numpy as np

from noria import Predictor
from noria.convert.onnx import load

SCORES = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], "f4")
LABELS = np.array([1, 0])


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def test_the_loss_and_the_log_probabilities_come_together(build: Any) -> None:
    specs = {"x": ("f4", ["N", 3]), "y": ("i8", ["N"])}
    node = ("SoftmaxCrossEntropyLoss", ["x", "y"], ["loss", "log_prob"])
    program, state = load(build([node], specs, ["loss", "log_prob"]).SerializeToString())
    got = Predictor(program, state).run({"x": SCORES, "y": LABELS})
    wanted = log_softmax(SCORES)
    np.testing.assert_allclose(got["log_prob"], wanted, rtol=1e-5)
    np.testing.assert_allclose(got["loss"], -(wanted[0, 1] + wanted[1, 0]) / 2, rtol=1e-5)


def test_likelihoods_are_picked_by_label(build: Any) -> None:
    specs = {"x": ("f4", ["N", 3]), "y": ("i8", ["N"])}
    node = ("NegativeLogLikelihoodLoss", ["x", "y"], ["loss"])
    program, state = load(build([node], specs, ["loss"]).SerializeToString())
    got = Predictor(program, state).run({"x": SCORES, "y": LABELS})
    np.testing.assert_allclose(got["loss"], -(2.0 + 0.0) / 2)
