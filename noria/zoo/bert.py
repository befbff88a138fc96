"""BERT: an encoder that looks both ways, and a pooler on its first position.

(Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language understanding",
2019). Parameters are named as in Hugging Face's `BertModel`, so its safetensors load as they are.
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.embedding import Embedding
from noria.nn.layers import LayerNorm, Linear
from noria.nn.module import Module, ModuleList

EPSILON = 1e-12


def _linear(ins: int, outs: int) -> Linear:
    layer = Linear(ins, outs)
    layer.weight.init = init.normal(std=0.02)
    assert layer.bias is not None
    layer.bias.init = init.zeros()
    return layer


def _table(rows: int, size: int) -> Embedding:
    table = Embedding(rows, size)
    table.weight.init = init.normal(std=0.02)
    return table


def _first(table: Embedding, count: Any) -> Any:
    """Its first rows."""
    return o.slice(table.weight, axes=(0,), starts=(0,), stops=(count,))


class Embeddings(Module):
    """The sum of what a word, its position and its type are, normalised."""

    def __init__(self, words: int, positions: int, types: int, size: int) -> None:
        self.word_embeddings = _table(words, size)
        self.position_embeddings = _table(positions, size)
        self.token_type_embeddings = _table(types, size)
        self.LayerNorm = LayerNorm(size, epsilon=EPSILON)

    def __call__(self, ids: Any, types: Any) -> Any:
        table = self.token_type_embeddings
        kind = _first(table, 1) if types is None else table(types)
        place = o.add(_first(self.position_embeddings, ids.shape[1]), kind)
        return self.LayerNorm(o.add(self.word_embeddings(ids), place))


class SelfAttention(Module):
    """The heads: [N, T, size] -> [N, T, size]."""

    def __init__(self, size: int, heads: int) -> None:
        self.query, self.key, self.value = (_linear(size, size) for _ in range(3))
        self.heads = heads

    def __call__(self, x: Any, mask: Any) -> Any:
        shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
        parts = (o.reshape(f(x), shape=shape) for f in (self.query, self.key, self.value))
        return o.reshape(o.attention(*parts, mask, layout="nthd")[0], shape=x.shape)


class Output(Module):
    """A linear layer, added to what the block began with, normalised."""

    def __init__(self, ins: int, size: int) -> None:
        self.dense, self.LayerNorm = _linear(ins, size), LayerNorm(size, epsilon=EPSILON)

    def __call__(self, x: Any, residual: Any) -> Any:
        return self.LayerNorm(o.add(self.dense(x), residual))


class Attention(Module):
    """The heads and what joins them."""

    def __init__(self, size: int, heads: int) -> None:
        self.self, self.output = SelfAttention(size, heads), Output(size, size)

    def __call__(self, x: Any, mask: Any) -> Any:
        return self.output(self.self(x, mask), x)


class Intermediate(Module):
    """The wide layer of a block."""

    def __init__(self, size: int, inner: int) -> None:
        self.dense = _linear(size, inner)

    def __call__(self, x: Any) -> Any:
        return o.gelu(self.dense(x))


class Layer(Module):
    """A block: attention, then two linear layers at each position."""

    def __init__(self, size: int, heads: int, inner: int) -> None:
        self.attention = Attention(size, heads)
        self.intermediate, self.output = Intermediate(size, inner), Output(inner, size)

    def __call__(self, x: Any, mask: Any) -> Any:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class Encoder(Module):
    """The blocks, one after another."""

    def __init__(self, layers: int, size: int, heads: int, inner: int) -> None:
        self.layer = ModuleList(Layer(size, heads, inner) for _ in range(layers))

    def __call__(self, x: Any, mask: Any) -> Any:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Pooler(Module):
    """tanh of a linear layer of the first position."""

    def __init__(self, size: int) -> None:
        self.dense = _linear(size, size)

    def __call__(self, x: Any) -> Any:
        return o.tanh(self.dense(x[:, 0]))


class Bert(Module):
    """ids [N, T] -> (hidden states [N, T, size], pooled [N, size]). `Bert()` is BERT base."""

    def __init__(
        self,
        words: int = 30_522,
        positions: int = 512,
        types: int = 2,
        layers: int = 12,
        size: int = 768,
        heads: int = 12,
        inner: int = 3072,
    ) -> None:
        self.embeddings = Embeddings(words, positions, types, size)
        self.encoder = Encoder(layers, size, heads, inner)
        self.pooler = Pooler(size)

    def __call__(self, ids: Any, types: Any = None, mask: Any = None) -> tuple[Any, Any]:
        """types: of each word, [N, T], default 0; mask: bool [N, T], which words are no padding."""
        seen = None if mask is None else o.unsqueeze(mask, axis=(1, 2))
        x = self.encoder(self.embeddings(ids, types), seen)
        return x, self.pooler(x)
