from __future__ import annotations

import numpy as np
import pytest

from noria.ir.trace import spec, trace
from noria.runtime.executor import Executor
from noria.zoo.digits import DigitsNet, classify
from noria.zoo.mlp import MLP


def test_it_trains_and_ships_under_the_names_of_pytorch(exercise) -> None:
    shapes = exercise(DigitsNet(), (1, 8, 8))
    assert shapes == {
        "body.0.weight": (32, 1, 3, 3),
        "body.1.weight": (32,),
        "body.1.bias": (32,),
        "body.1.running_mean": (32,),
        "body.1.running_var": (32,),
        "body.3.weight": (64, 32, 3, 3),
        "body.4.weight": (64,),
        "body.4.bias": (64,),
        "body.4.running_mean": (64,),
        "body.4.running_var": (64,),
        "body.9.weight": (128, 1024),
        "body.9.bias": (128,),
        "body.11.weight": (10, 128),
        "body.11.bias": (10,),
        "random": (2,),
    }


def test_classify_tells_the_mean_loss_and_the_share_of_hits() -> None:
    inputs = {"image": spec("N", 2), "label": spec("N", dtype="int64")}
    program = trace(classify(MLP(2, 3)), **inputs)
    executor = Executor(program)
    rng = np.random.default_rng(0)
    feeds = {"image": rng.standard_normal((7, 2)).astype(np.float32), "label": np.arange(7) % 3}
    got = executor.run(feeds)
    logits = got["logits"].astype(np.float64)
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert got["loss"] == pytest.approx(-np.log(chance[np.arange(7), feeds["label"]]).mean())
    assert got["accuracy"] == pytest.approx((logits.argmax(axis=1) == feeds["label"]).mean())
