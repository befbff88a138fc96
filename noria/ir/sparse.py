"""Sparse gradients: a pair (ids, rows), produced by look-ups, understood by sums, clipping and
the optimisers. Not a type of the IR: both halves are ordinary Values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from noria.core.dims import product
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Value


@dataclass(frozen=True, eq=False, slots=True)
class SparseGrad:
    """Gradient of a table: the row of each id of `ids[i]` gets `rows[i]`; an id may occur several
    times.

    ids:   int [..., *per]
    rows:  float [..., *shape[1:]]: one row for each id, or for all ids of a bag
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
        return o.scatter_rows(self.ids, self._each(), shape=self.shape)

    def flat(self) -> SparseGrad:
        """The same gradient with ids [n] and rows [n, ...]."""
        n = product(self.ids.shape)
        rows = o.reshape(self._each(), shape=(n, *self.shape[1:]))
        return SparseGrad(o.reshape(self.ids, shape=(n,)), rows, self.shape)

    def _each(self) -> Value:
        """A row for each id: [*ids.shape, *shape[1:]]."""
        row = self.shape[1:]
        lead = self.rows.ndim - len(row)
        missing = range(lead, self.ids.ndim)
        if not missing:
            return self.rows
        rows = o.unsqueeze(self.rows, axis=tuple(missing))
        return o.broadcast_to(rows, shape=(*self.ids.shape, *row))


def add_sparse(parts: Sequence[SparseGrad]) -> SparseGrad:
    """Sum of sparse gradients of one table: their rows one after another."""
    if len(parts) == 1:
        return parts[0]
    flat = [p.flat() for p in parts]
    ids = o.concat(*(p.ids for p in flat), axis=0)
    rows = o.concat(*(p.rows for p in flat), axis=0)
    return SparseGrad(ids, rows, parts[0].shape)
