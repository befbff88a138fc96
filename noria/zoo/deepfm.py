"""DeepFM: a factorisation machine and a perceptron on the same embeddings, for click prediction.

(Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction", 2017; the
second-order term in linear time: Rendle, "Factorization Machines", 2010)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn.embedding import Embedding, EmbeddingBag
from noria.nn.layers import Linear
from noria.nn.module import Module
from noria.zoo.mlp import MLP


class DeepFM(Module):
    """(ids int [N, fields], dense float32 [N, dense]) -> logits [N].

    All fields share one table, so an id names a field and its value; tables are learned sparsely.

    rows:   of the table; dim: of an embedding
    hidden: sizes of the perceptron's layers
    """

    def __init__(
        self,
        rows: int,
        dim: int = 16,
        *,
        fields: int = 26,
        dense: int = 13,
        hidden: Sequence[int] = (400, 400, 400),
    ) -> None:
        self.inputs = fields * dim
        self.embedding = Embedding(rows, dim, sparse=True)
        self.weight = EmbeddingBag(rows, 1, mode="sum", sparse=True)
        self.dense = Linear(dense, 1)
        self.mlp = MLP(self.inputs + dense, *hidden, 1)

    def __call__(self, ids: Any, dense: Any) -> Any:
        e = self.embedding(ids)  # [N, fields, dim]
        total = o.reduce_sum(e, axis=1)
        pairs = o.square(total) - o.reduce_sum(o.square(e), axis=1)  # [N, dim]
        second = 0.5 * o.reduce_sum(pairs, axis=1)
        flat = o.reshape(e, shape=(ids.shape[0], self.inputs))
        first = self.weight(ids) + self.dense(dense)  # [N, 1]
        deep = self.mlp(o.concat(flat, dense, axis=1))
        return second + o.squeeze(first + deep, axis=1)
