"""Recurrent networks in JAX: scans over time, input projections of all steps as one product."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bench import data, sizes
from bench.rivals.jax_xla.common import Run, Scope, training
from bench.rivals.jax_xla.dense import cross_entropy

UNROLL = 5  # steps in one pass of the scan's loop


def lstm(s: Scope, name: str, x: Any, width: int, *, reverse: bool = False) -> Any:
    """[T, N, in] -> [T, N, width], from a zero state."""
    gates = s.linear(f"{name}.x", x, 4 * width)
    w = s.param(f"{name}.h", width, 4 * width)
    zero = jnp.zeros((x.shape[1], width), x.dtype)

    def step(state: Any, gates_x: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(gates_x + h @ w, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return lax.scan(step, (zero, zero), gates, reverse=reverse, unroll=UNROLL)[1]


def lstm_lm_train() -> Run:
    name, m = "lstm_lm_train", sizes.LM

    def loss_of(s: Scope, ids: Any, targets: Any) -> Any:
        x = s.embedding("words", ids, m.words, m.width)
        for i in range(m.layers):
            x = lstm(s, f"lstm{i}", x, m.width)
        return cross_entropy(s.linear("fc", x, m.words), targets)

    ids, targets = data.tokens(sizes.BATCH[name], m.time, m.words)
    method = optax.chain(optax.clip_by_global_norm(m.clip), optax.sgd(sizes.RATE[name]))
    return training(loss_of, method, [(ids.T.astype(np.int32), targets.T.astype(np.int32))])


def ragged_lstm_train() -> Run:
    """Padded to a multiple of 40, so that few programs are compiled, and masked."""
    name, m = "ragged_lstm_train", sizes.RAGGED

    def loss_of(s: Scope, ids: Any, lengths: Any, label: Any) -> Any:
        out = lstm(s, "lstm", s.embedding("words", ids, m.words, m.width), m.width)
        last = out[lengths - 1, jnp.arange(len(lengths))]
        valid = jnp.arange(len(ids))[:, None] < lengths
        top = jnp.where(valid[:, :, None], out, -jnp.inf).max(0)
        return cross_entropy(s.linear("fc", jnp.concatenate([last, top], 1), m.classes), label)

    batches = [
        tuple(a.astype(np.int32) for a in (t.padded(40).T, t.lengths, t.label))
        for t in data.ragged_batches()
    ]
    return training(loss_of, optax.adam(sizes.RATE[name]), batches)


def bilstm_ctc_train() -> Run:
    name, m = "bilstm_ctc_train", sizes.CTC
    speech = data.speech(sizes.BATCH[name])
    labels = speech.padded().astype(np.int32)
    label_pad = (np.arange(labels.shape[1]) >= speech.lengths[:, None]).astype(np.float32)
    frame_pad = np.zeros((len(labels), m.time), np.float32)

    def loss_of(s: Scope, x: Any, labels: Any, label_pad: Any) -> Any:
        for i in range(m.layers):
            ways = [lstm(s, f"lstm{i}.{r}", x, m.width, reverse=r) for r in (False, True)]
            x = jnp.concatenate(ways, -1)
        logits = s.linear("fc", x, m.classes).swapaxes(0, 1)
        return optax.ctc_loss(logits, frame_pad, labels, label_pad, blank_id=0).mean()

    batch = (speech.features.swapaxes(0, 1), labels, label_pad)
    return training(loss_of, optax.adam(sizes.RATE[name]), [batch])


MAKERS = {
    "lstm_lm_train": lstm_lm_train,
    "ragged_lstm_train": ragged_lstm_train,
    "bilstm_ctc_train": bilstm_ctc_train,
}
