"""DeepFM in JAX, with dense gradients: XLA fuses their update of all rows."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from bench import data, sizes
from bench.rivals.jax_xla.common import Run, Scope, predictor, training
from bench.rivals.jax_xla.dense import perceptron


def deepfm(s: Scope, ids: Any, dense: Any) -> Any:
    m = sizes.DEEPFM
    e = s.embedding("table", ids, m.rows, m.width)
    fm = 0.5 * (jnp.square(e.sum(1)) - jnp.square(e).sum(1)).sum(1)
    deep = perceptron(s, jnp.concatenate([e.reshape(len(e), -1), dense], 1), m.mlp, "mlp")
    linear = s.embedding("linear", ids, m.rows, 1).sum((1, 2))
    return fm + linear + (s.linear("fc", dense, 1) + deep)[:, 0]


def deepfm_train() -> Run:
    def loss_of(s: Scope, ids: Any, dense: Any, label: Any) -> Any:
        return optax.sigmoid_binary_cross_entropy(deepfm(s, ids, dense), label).mean()

    batches = [(b.ids.astype(np.int32), b.dense, b.label) for b in data.click_batches()]
    return training(loss_of, optax.adagrad(sizes.RATE["deepfm_train"]), batches)


def deepfm_latency() -> Run:
    """NumPy in, NumPy out."""
    clicks = data.clicks(1)
    ids, dense = clicks.ids.astype(np.int32), clicks.dense
    call = predictor(deepfm, ids, dense)

    def run(steps: int) -> None:
        for _ in range(steps):
            np.asarray(call(ids, dense))

    return run


MAKERS = {"deepfm_train": deepfm_train, "deepfm_latency": deepfm_latency}
