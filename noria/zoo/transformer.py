"""A language model of pre-norm transformer blocks that look only backwards.

(Vaswani et al., "Attention is all you need", 2017; Radford et al., "Language models are
unsupervised multitask learners", 2019, whose order of normalisation, learned positions and GELU
these are.) The output layer is a matrix of its own, not the embedding's.
"""

from __future__ import annotations

from typing import Any

from noria.core.dims import known_ge
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.attention import TransformerEncoderLayer
from noria.nn.embedding import Embedding
from noria.nn.layers import LayerNorm, Linear
from noria.nn.module import Module, ModuleList


class TransformerLM(Module):
    """ids [N, T] -> logits [N, T, words], for T <= positions."""

    def __init__(
        self,
        words: int = 10_000,
        positions: int = 128,
        layers: int = 6,
        size: int = 512,
        heads: int = 8,
        inner: int = 2048,
    ) -> None:
        self.token, self.position = Embedding(words, size), Embedding(positions, size)
        for table in (self.token, self.position):
            table.weight.init = init.normal(std=0.02)
        self.layers = ModuleList(
            TransformerEncoderLayer(size, heads, inner, activation="gelu", norm_first=True)
            for _ in range(layers)
        )
        self.norm, self.head = LayerNorm(size), Linear(size, words)

    def __call__(self, ids: Any) -> Any:
        time, most = ids.shape[1], self.position.weight.shape[0]
        if known_ge(most, time) is False:
            raise ShapeError("the text is too long", expected=f"T <= {most}", got=str(time))
        places = o.slice(self.position.weight, axes=(0,), starts=(0,), stops=(time,))
        x = o.add(self.token(ids), places)  # [N, T, size]
        for layer in self.layers:
            x = layer(x, causal=True)
        return self.head(self.norm(x))


def language_model(model: Module) -> Any:
    """The function to trace for training: mean loss of predicting `targets` [N, T] from `ids`."""

    def step(ids: Any, targets: Any) -> dict[str, Any]:
        losses, _ = o.softmax_cross_entropy(model(ids), targets)
        return {"loss": o.reduce_mean(losses)}

    return step
