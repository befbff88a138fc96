"""Layers over tables: rows by id, bags of them, and many features in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import positive
from noria.nn.module import Module, Parameter
from noria.ops.common import axis_of
from noria.ops.embedding import embedding_bag


class Embedding(Module):
    """Rows of a table by id.  ids int [...] -> [..., dim].

    padding_idx: the id whose row is not learned; negative: from the end.
    sparse: the gradient is (ids, rows) and optimisers touch only those rows.
    """

    def __init__(
        self, rows: int, dim: int, *, padding_idx: int | None = None, sparse: bool = False
    ) -> None:
        positive(rows=rows, dim=dim)
        self.weight = Parameter((rows, dim), init.normal())
        if padding_idx is not None:
            padding_idx = axis_of(padding_idx, rows, what="padding_idx")
        self.padding_idx, self.sparse = padding_idx, sparse

    def __call__(self, ids: Any) -> Any:
        return o.embedding(self.weight, ids, padding_idx=self.padding_idx, sparse=self.sparse)


class EmbeddingBag(Embedding):
    """Sum, mean or maximum of the rows of each bag of ids.  ids int [..., L] -> [..., dim].

    Called with row_splits [N + 1], ids int [T] are N packed bags of different lengths -> [N, dim].
    mode:    "sum", "mean" or "max"; "sum" takes weights, of the shape of ids, of the rows
    padding_idx, sparse: as in `Embedding`; ids that are padding_idx are left out of their bag.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        mode: str = "mean",
        padding_idx: int | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__(rows, dim, padding_idx=padding_idx, sparse=sparse)
        if mode not in ("sum", "mean", "max"):
            raise ArgumentError("unknown mode", expected="sum, mean or max", got=repr(mode))
        self.mode = mode

    def __call__(self, ids: Any, row_splits: Any = None, weights: Any = None) -> Any:
        return embedding_bag(
            self.weight,
            ids,
            weights,
            row_splits=row_splits,
            mode=self.mode,
            padding_idx=self.padding_idx,
            sparse=self.sparse,
        )


class FieldEmbedding(Module):
    """Rows of many features, in one table: ids int [..., F], one of each feature, -> [..., F, dim].

    sizes:  how many ids each of the F features has: 0 <= ids[..., f] < sizes[f]
    sparse: as in `Embedding`
    One table is one look-up, one grouping of ids and one update instead of F.
    """

    def __init__(self, sizes: Sequence[int], dim: int, *, sparse: bool = False) -> None:
        for n in sizes:
            positive(size=n)
        self.sizes = tuple(sizes)
        self.table = Embedding(sum(self.sizes), dim, sparse=sparse)

    def __call__(self, ids: Any) -> Any:
        return self.table(o.field_ids(ids, sizes=self.sizes))
