"""Attention between positions, and the encoder layer made of it. Batches come first: [N, T, E]."""

from __future__ import annotations

from typing import Any

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import Dropout, LayerNorm, Linear
from noria.nn.module import Module, Parameter


class MultiheadAttention(Module):
    """Several heads of scaled dot-product attention side by side.  (Vaswani et al., 2017)

    embed_dim is split among num_heads; parameters are named, shaped and started as in PyTorch:
    in_proj_weight [3 E, E], in_proj_bias [3 E], out_proj.weight [E, E], out_proj.bias [E].
    """

    def __init__(self, embed_dim: int, num_heads: int, *, bias: bool = True) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ArgumentError(
                "embed_dim must be divisible by num_heads", got=f"{embed_dim=}, {num_heads=}"
            )
        shape = 3 * embed_dim, embed_dim
        self.in_proj_weight = Parameter(shape, init.xavier_uniform(shape))
        self.in_proj_bias = Parameter(shape[:1], init.zeros()) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias)
        if self.out_proj.bias is not None:
            self.out_proj.bias.init = init.zeros()
        self.size, self.heads = embed_dim, num_heads

    def __call__(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        mask: Any = None,
        *,
        causal: bool = False,
    ) -> Any:
        """query [N, Tq, E]; key, value [N, Tk, E], default the query and the key; out [N, Tq, E].

        mask: broadcasts to [N, heads, Tq, Tk]; bool: where a query may look (PyTorch's module,
        unlike its function, takes the opposite); float: added to the scores.
        causal: a query looks at no key behind its own position.
        """
        if key is None and value is None:
            qkv = o.linear(query, self.in_proj_weight, self.in_proj_bias)
            qkv = o.reshape(qkv, shape=(*query.shape[:2], 3, self.heads, self.size // self.heads))
            out, _ = o.self_attention(qkv, mask, causal=causal)
        else:
            key = query if key is None else key
            parts = self._projected([query, key, key if value is None else value])
            out, _ = o.attention(*parts, mask, causal=causal, layout="nthd")
        return self.out_proj(o.reshape(out, shape=(*query.shape[:2], self.size)))

    def _projected(self, inputs: list[Any]) -> list[Any]:
        """Each input through its third of the weights, as [N, T, heads, d]."""
        weights = o.split(self.in_proj_weight, num=3, axis=0)
        biases = [None] * 3
        if self.in_proj_bias is not None:
            biases = o.split(self.in_proj_bias, num=3, axis=0)
        out = [o.linear(*args) for args in zip(inputs, weights, biases, strict=True)]
        inner = (self.heads, self.size // self.heads)
        return [o.reshape(y, shape=(*y.shape[:2], *inner)) for y in out]


class TransformerEncoderLayer(Module):
    """Self-attention, then two linear layers at each position, each added to its input.
    (Vaswani et al., 2017)

    x [N, T, d_model] -> the same. Parameters are named as in PyTorch.
    activation: the name of an op, such as "relu" or "gelu"
    norm_first: normalise before each part (Xiong et al., 2020) instead of after each sum
    dropout: of what each part gives, and between the linear layers; not of attention weights
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        *,
        dropout: float = 0.0,
        activation: str = "relu",
        norm_first: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        self.self_attn = MultiheadAttention(d_model, nhead)
        self.linear1 = Linear(d_model, dim_feedforward)
        self.linear2 = Linear(dim_feedforward, d_model)
        self.norm1 = LayerNorm(d_model, epsilon=epsilon)
        self.norm2 = LayerNorm(d_model, epsilon=epsilon)
        self.dropout = Dropout(dropout)
        self.activation, self.norm_first = getattr(o, activation), norm_first

    def __call__(self, x: Any, mask: Any = None, *, causal: bool = False) -> Any:
        """mask, causal: as `MultiheadAttention` takes them."""

        def attend(x: Any) -> Any:
            return self.dropout(self.self_attn(x, mask=mask, causal=causal))

        if self.norm_first:
            x = o.add(x, attend(self.norm1(x)))
            return o.add(x, self._forward(self.norm2(x)))
        x = self.norm1(o.add(x, attend(x)))
        return self.norm2(o.add(x, self._forward(x)))

    def _forward(self, x: Any) -> Any:
        inner = self.dropout(self.activation(self.linear1(x)))
        return self.dropout(self.linear2(inner))
