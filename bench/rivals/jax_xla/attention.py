"""Transformers in JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bench import data, sizes
from bench.rivals.jax_xla.common import Run, Scope, inference, training
from bench.rivals.jax_xla.dense import cross_entropy


def layer_norm(s: Scope, name: str, x: Any, eps: float = 1e-5) -> Any:
    mean = x.mean(-1, keepdims=True)
    var = jnp.square(x - mean).mean(-1, keepdims=True)
    scale, shift = s.param(f"{name}.w", x.shape[-1]), s.param(f"{name}.b", x.shape[-1])
    return (x - mean) * lax.rsqrt(var + eps) * scale + shift


def attention(s: Scope, name: str, x: Any, heads: int, *, causal: bool) -> Any:
    n, t, width = x.shape
    q, k, v = jnp.split(s.linear(f"{name}.qkv", x, 3 * width), 3, -1)
    q, k, v = (a.reshape(n, t, heads, width // heads) for a in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=causal)
    return s.linear(f"{name}.out", y.reshape(n, t, width), width)


def feed_forward(s: Scope, name: str, x: Any, hidden: int) -> Any:
    y = jax.nn.gelu(s.linear(f"{name}.up", x, hidden), approximate=False)
    return s.linear(f"{name}.down", y, x.shape[-1])


def transformer_train() -> Run:
    name, m = "transformer_train", sizes.DECODER

    def loss_of(s: Scope, ids: Any, targets: Any) -> Any:
        x = s.embedding("words", ids, m.words, m.width) + s.param("positions", m.time, m.width)
        for i in range(m.blocks):
            y = layer_norm(s, f"norm1.{i}", x)
            x = x + attention(s, f"attention{i}", y, m.heads, causal=True)
            x = x + feed_forward(s, f"mlp{i}", layer_norm(s, f"norm2.{i}", x), m.hidden)
        logits = s.linear("fc", layer_norm(s, "norm", x), m.words)
        return cross_entropy(logits, targets)

    pair = data.tokens(sizes.BATCH[name], m.time, m.words)
    batch = tuple(a.astype(np.int32) for a in pair)
    return training(loss_of, optax.adam(sizes.RATE[name]), [batch])


def bert(s: Scope, ids: Any, types: Any) -> Any:
    m = sizes.BERT
    x = s.embedding("words", ids, m.words, m.width) + s.embedding("types", types, m.types, m.width)
    x = x + s.param("positions", m.positions, m.width)[: ids.shape[1]]
    x = layer_norm(s, "norm", x, 1e-12)
    for i in range(m.blocks):
        y = attention(s, f"attention{i}", x, m.heads, causal=False)
        x = layer_norm(s, f"norm1.{i}", x + y, 1e-12)
        x = layer_norm(s, f"norm2.{i}", x + feed_forward(s, f"mlp{i}", x, m.hidden), 1e-12)
    return jnp.tanh(s.linear("pooler", x[:, 0], m.width))


def bert_infer() -> Run:
    ids = data.tokens(1, sizes.BERT.time, sizes.BERT.words).ids.astype(np.int32)
    return inference(bert, ids, np.zeros_like(ids))


MAKERS = {"transformer_train": transformer_train, "bert_base_infer_bs1": bert_infer}
