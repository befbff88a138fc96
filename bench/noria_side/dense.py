"""Perceptrons in noria."""

from __future__ import annotations

from typing import Any

import noria
from bench import data, sizes
from bench.noria_side.common import Run, inference, int_spec, training
from noria import optim
from noria.zoo.digits import classify
from noria.zoo.mlp import MLP


def mlp_program() -> Any:
    """Training Program of mlp_train."""
    model = classify(MLP(*sizes.MLP))
    program = noria.trace(model, image=noria.spec("N", sizes.MLP[0]), label=int_spec("N"))
    return optim.Adam(sizes.RATE["mlp_train"]).minimize(program)


def mlp_train() -> Run:
    x, y = data.classified("mlp_train")
    return training(mlp_program(), [{"image": x, "label": y}])


def tiny_mlp() -> Run:
    model = MLP(*sizes.TINY)
    program = noria.trace(lambda x: model(x), x=noria.spec("N", sizes.TINY[0]))
    return inference(program, {"x": data.vectors(1, sizes.TINY[0])})


MAKERS = {"mlp_train": mlp_train, "tiny_mlp_latency": tiny_mlp}
