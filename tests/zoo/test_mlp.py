from __future__ import annotations

import numpy as np

from noria.nn.layers import Flatten
from noria.nn.module import Sequential
from noria.zoo.mlp import MLP


def test_it_trains_and_ships_under_the_names_of_pytorch(exercise) -> None:
    assert exercise(Sequential(Flatten(), MLP(12, 7, 2)), (1, 3, 4), rate=0.03) == {
        "1.body.0.weight": (7, 12),
        "1.body.0.bias": (7,),
        "1.body.2.weight": (2, 7),
        "1.body.2.bias": (2,),
    }


def test_relu_is_between_the_layers_and_not_behind_the_last() -> None:
    model = MLP(3, 4, 2)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    w = model.state()
    hidden = np.maximum(x @ w["body.0.weight"].T + w["body.0.bias"], 0)
    want = hidden @ w["body.2.weight"].T + w["body.2.bias"]
    assert want.min() < 0
    np.testing.assert_allclose(model(x), want, rtol=1e-5, atol=1e-6)
