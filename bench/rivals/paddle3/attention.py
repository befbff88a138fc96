"""Transformers in PaddlePaddle."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from bench import data, sizes
from bench.rivals.paddle3.common import Run, inference, static, training


class Attention(nn.Layer):
    """[N, T, width] -> [N, T, width]."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        n, t, width = x.shape
        qkv = self.qkv(x).reshape([n, t, 3, self.heads, width // self.heads])
        q, k, v = qkv.unbind(2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.reshape([n, t, width]))


def feed_forward(width: int, hidden: int) -> Any:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Layer):
    """Of a decoder (norms before) or an encoder (norms behind)."""

    def __init__(self, m: Any, *, before: bool, eps: float) -> None:
        super().__init__()
        self.before = before
        self.norm1, self.norm2 = (nn.LayerNorm(m.width, epsilon=eps) for _ in range(2))
        self.attention = Attention(m.width, m.heads, causal=before)
        self.mlp = feed_forward(m.width, m.hidden)

    def forward(self, x: Any) -> Any:
        if self.before:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class Decoder(nn.Layer):
    """ids [N, T] -> logits [N, T, words]."""

    def __init__(self, m: sizes.Decoder) -> None:
        super().__init__()
        self.words = nn.Embedding(m.words, m.width)
        self.positions = self.create_parameter([m.time, m.width])
        self.blocks = nn.Sequential(*(Block(m, before=True, eps=1e-5) for _ in range(m.blocks)))
        self.norm, self.fc = nn.LayerNorm(m.width), nn.Linear(m.width, m.words)

    def forward(self, ids: Any) -> Any:
        return self.fc(self.norm(self.blocks(self.words(ids) + self.positions)))


class Bert(nn.Layer):
    """ids, types [N, T] -> pooled [N, width]."""

    def __init__(self, m: sizes.Bert) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(m.words, m.width), nn.Embedding(m.types, m.width)
        self.positions = self.create_parameter([m.positions, m.width])
        self.norm = nn.LayerNorm(m.width, epsilon=1e-12)
        self.blocks = nn.Sequential(*(Block(m, before=False, eps=1e-12) for _ in range(m.blocks)))
        self.pooler = nn.Linear(m.width, m.width)

    def forward(self, ids: Any, types: Any) -> Any:
        x = self.words(ids) + self.types(types) + self.positions[: ids.shape[1]]
        return paddle.tanh(self.pooler(self.blocks(self.norm(x))[:, 0]))


def transformer_train() -> Run:
    name, m = "transformer_train", sizes.DECODER
    model = static(Decoder(m))
    adam = paddle.optimizer.Adam(sizes.RATE[name], parameters=model.parameters())
    batch = tuple(data.tokens(sizes.BATCH[name], m.time, m.words))
    return training(lambda x, y: F.cross_entropy(model(x), y), adam, [batch])


def bert_infer() -> Run:
    ids = data.tokens(1, sizes.BERT.time, sizes.BERT.words).ids
    return inference(Bert(sizes.BERT), ids, np.zeros_like(ids))


MAKERS = {"transformer_train": transformer_train, "bert_base_infer_bs1": bert_infer}
