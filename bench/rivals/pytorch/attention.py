"""Transformers in PyTorch; attention is the library's fused one."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bench import data, sizes
from bench.rivals.pytorch.common import Run, inference, training


class Attention(nn.Module):
    """[N, T, width] -> [N, T, width]."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        qkv = self.qkv(x).view(n, t, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(n, t, width))


def feed_forward(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class PreNorm(nn.Module):
    """Decoder block."""

    def __init__(self, m: sizes.Decoder) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(m.width), nn.LayerNorm(m.width)
        self.attention = Attention(m.width, m.heads, causal=True)
        self.mlp = feed_forward(m.width, m.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """ids [N, T] -> logits [N, T, words]."""

    def __init__(self, m: sizes.Decoder) -> None:
        super().__init__()
        self.words = nn.Embedding(m.words, m.width)
        self.positions = nn.Parameter(torch.zeros(m.time, m.width))
        self.blocks = nn.Sequential(*(PreNorm(m) for _ in range(m.blocks)))
        self.norm, self.fc = nn.LayerNorm(m.width), nn.Linear(m.width, m.words)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.positions[: ids.shape[1]]
        return self.fc(self.norm(self.blocks(x)))


class PostNorm(nn.Module):
    """Encoder block."""

    def __init__(self, m: sizes.Bert) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(m.width, eps=1e-12) for _ in range(2))
        self.attention = Attention(m.width, m.heads, causal=False)
        self.mlp = feed_forward(m.width, m.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class Bert(nn.Module):
    """ids, types [N, T] -> pooled [N, width]."""

    def __init__(self, m: sizes.Bert) -> None:
        super().__init__()
        self.words, self.types = nn.Embedding(m.words, m.width), nn.Embedding(m.types, m.width)
        self.positions = nn.Parameter(torch.zeros(m.positions, m.width))
        self.norm = nn.LayerNorm(m.width, eps=1e-12)
        self.blocks = nn.Sequential(*(PostNorm(m) for _ in range(m.blocks)))
        self.pooler = nn.Linear(m.width, m.width)

    def forward(self, ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.types(types) + self.positions[: ids.shape[1]]
        return torch.tanh(self.pooler(self.blocks(self.norm(x))[:, 0]))


def transformer_train() -> Run:
    name, m = "transformer_train", sizes.DECODER
    ids, targets = map(torch.from_numpy, data.tokens(sizes.BATCH[name], m.time, m.words))
    model = Decoder(m)
    adam = torch.optim.Adam(model.parameters(), sizes.RATE[name], fused=True)

    def loss_of(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())

    return training(loss_of, adam, [(ids, targets)])


def bert_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """One sentence of one type."""
    ids = torch.from_numpy(data.tokens(1, sizes.BERT.time, sizes.BERT.words).ids)
    return ids, torch.zeros_like(ids)


def bert_infer() -> Run:
    return inference(Bert(sizes.BERT), *bert_inputs())


MAKERS = {"transformer_train": transformer_train, "bert_base_infer_bs1": bert_infer}
