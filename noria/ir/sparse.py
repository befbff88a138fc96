"""Sparse gradients: a pair (ids, rows), produced by look-ups, understood by sums, clipping and
the optimisers. Not a type of the IR: both halves are ordinary Values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Value


@dataclass(frozen=True, eq=False, slots=True)
class SparseGrad:
    """Gradient of a table: row `ids[i]` gets `rows[i]`; an id may occur several times.

    ids:   int [n]
    rows:  float [n, *shape[1:]]
    shape: shape of the table
    """

    ids: Value
    rows: Value
    shape: Shape

    @property
    def dtype(self) -> str:
        return self.rows.dtype

    def dense(self) -> Value:
        """The same gradient as one array of the table's shape."""
        return o.scatter_rows(self.ids, self.rows, shape=self.shape)


def add_sparse(parts: Sequence[SparseGrad]) -> SparseGrad:
    """Sum of sparse gradients of one table: their rows one after another."""
    if len(parts) == 1:
        return parts[0]
    ids = o.concat(*(p.ids for p in parts), axis=0)
    rows = o.concat(*(p.rows for p in parts), axis=0)
    return SparseGrad(ids, rows, parts[0].shape)
