"""Perceptrons in JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from bench import data, sizes
from bench.rivals.jax_xla.common import Run, Scope, predictor, training


def perceptron(s: Scope, x: Any, widths: Sequence[int], name: str = "fc") -> Any:
    """Linear layers with ReLU between them; widths start with that of x."""
    for i, width in enumerate(widths[1:]):
        x = s.linear(f"{name}{i}", jax.nn.relu(x) if i else x, width)
    return x


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean over all rows."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def mlp_train() -> Run:
    def loss_of(s: Scope, x: Any, y: Any) -> Any:
        return cross_entropy(perceptron(s, x, sizes.MLP), y)

    batch = data.classified("mlp_train")
    return training(loss_of, optax.adam(sizes.RATE["mlp_train"]), [batch])


def tiny_mlp() -> Run:
    """NumPy in, NumPy out."""
    x = data.vectors(1, sizes.TINY[0])
    call = predictor(lambda s, x: perceptron(s, x, sizes.TINY), x)

    def run(steps: int) -> None:
        for _ in range(steps):
            np.asarray(call(x))

    return run


MAKERS = {"mlp_train": mlp_train, "tiny_mlp_latency": tiny_mlp}
