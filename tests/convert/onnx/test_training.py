"""Optimiser steps of ONNX; the suite of onnx judges the rest."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load

onnx = pytest.importorskip("onnx")


def test_two_tensors_take_a_step_of_nesterov_momentum(build: Any) -> None:
    names = ["r", "t", "x1", "x2", "g1", "g2", "v1", "v2"]
    node = onnx.helper.make_node(
        "Momentum",
        names,
        ["a1", "a2", "b1", "b2"],
        domain="ai.onnx.preview.training",
        alpha=0.9,
        beta=0.5,
        mode="nesterov",
        norm_coefficient=0.1,
    )
    specs: dict[str, Any] = {"r": ("f4", []), "t": ("i8", [])}
    specs |= {n: ("f4", [2 if n.endswith("1") else 1]) for n in names[2:]}
    model = build([node], specs, ["a1", "a2", "b1", "b2"])
    model.opset_import.add(domain="ai.onnx.preview.training", version=1)
    program, state = load(model.SerializeToString())
    rng = np.random.default_rng(0)
    feeds = {n: rng.normal(size=s[1]).astype("f4") for n, s in specs.items()}
    feeds |= {"r": np.float32(0.1), "t": np.int64(3)}
    got = Predictor(program, state).run(feeds)
    for i in "12":
        g = feeds["g" + i] + 0.1 * feeds["x" + i]
        v = 0.9 * feeds["v" + i] + 0.5 * g
        np.testing.assert_allclose(got["b" + i], v, rtol=1e-5)
        np.testing.assert_allclose(got["a" + i], feeds["x" + i] - 0.1 * (g + 0.9 * v), rtol=1e-5)
