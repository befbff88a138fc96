"""Rank tables: sequences in order of their lengths, and the arrays of steps made by them.

Fluid's DynamicRNN runs a step for all sequences that are long enough, longest first, so that its
batch shrinks. Here a step always has all rows: those of sequences that have ended compute what
nobody reads, and going back to a ragged batch leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from noria.convert.fluid.arrays import Buffer, TensorArray
from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.math import one
from noria.core.dims import Size
from noria.core.errors import ProgramError
from noria.ir.opdef import vocabulary as o
from noria.ops.ragged import (
    places_below,
    ragged_range,
    sequence_pad,
    sequence_starts,
    sequence_unpad,
)
from noria.ops.sequence import sequence_lengths, sequence_splits


@dataclass(frozen=True, eq=False)
class RankTable:
    """order: sequences, longest first, int64 [N]; lengths: [N], as they are in the batch;
    steps: the longest; total: of all lengths; splits: of the batch."""

    order: Any
    lengths: Any
    steps: Size
    total: Size
    splits: Any


@fluid_op("lod_rank_table")
def lod_rank_table(op: Op) -> dict[str, Any]:
    splits = op.need_lod("X")
    level = op.attr("level", 0)
    if level != len(splits) - 1:
        raise ProgramError(
            "a rank table of the innermost level is converted", got=f"{level} of {len(splits)}"
        )
    lengths = sequence_lengths(splits[level])
    order = o.argsort(o.neg(lengths), axis=0)  # equal lengths stay in order
    steps = places_below(lengths, size=op.symbol("steps")).shape[0]
    total = op.input("X").shape[0]
    return {"Out": [RankTable(order, lengths, steps, total, splits[level])]}


def _table(op: Op) -> RankTable:
    held = op.held("RankTable")
    if not held or not isinstance(held[0], RankTable):
        raise ProgramError(f"{op.type} needs a rank table", where=op.where)
    return held[0]


@fluid_op("max_sequence_len")
def max_sequence_len(op: Op) -> dict[str, Any]:
    return {"Out": Lod(one(o.dim_value(dim=_table(op).steps)))}


@fluid_op("lod_tensor_to_array")
def lod_tensor_to_array(op: Op) -> dict[str, Any]:
    """Step t of all sequences, in their order, is element t: [steps, N, ...]."""
    table, x = _table(op), op.input("X")
    splits = op.need_lod("X")[-1]
    ranked = o.gather(sequence_pad(x, splits, size=table.steps), table.order)
    perm = (1, 0, *range(2, len(ranked.shape)))
    values = o.transpose(ranked, perm=perm)
    return {"Out": [Buffer(values, o.dim_value(dim=table.steps))]}


@fluid_op("array_to_lod_tensor")
def array_to_lod_tensor(op: Op) -> dict[str, Any]:
    table, array = _table(op), op.held("X")[0]
    if not isinstance(array, Buffer):
        kind = "a list" if isinstance(array, TensorArray) else type(array).__name__
        raise ProgramError("an array of steps is needed", got=kind, where=op.where)
    steps = o.slice(array.values, axes=(0,), starts=(0,), stops=(table.steps,))
    rank = o.argsort(table.order, axis=0)
    apart = o.transpose(steps, perm=(1, 0, *range(2, len(steps.shape))))
    values, _ = sequence_unpad(o.gather(apart, rank), table.lengths, size=table.total)
    return {"Out": Lod(values, (table.splits,))}


@fluid_op("shrink_rnn_memory")
def shrink_rnn_memory(op: Op) -> dict[str, Any]:
    """All rows: those that have ended are left out at the end."""
    _table(op)
    return {"Out": Lod(o.identity(op.input("X")))}


@fluid_op("reorder_lod_tensor_by_rank")
def reorder_lod_tensor_by_rank(op: Op) -> dict[str, Any]:
    table, x, splits = _table(op), op.input("X"), op.lod("X")
    if not splits:
        return {"Out": Lod(o.gather(x, table.order))}
    if len(splits) > 1:
        raise ProgramError("rows of one level are put in order", got=f"{len(splits)} levels")
    starts, lengths = (
        o.gather(v, table.order) for v in (sequence_starts(splits[0]), sequence_lengths(splits[0]))
    )
    places = ragged_range(starts, lengths, size=x.shape[0])
    return {"Out": Lod(o.gather(x, places), (sequence_splits(lengths),))}


# ---- rows apart and together again -------------------------------------------------------------


def _mask(op: Op) -> Any:
    return o.reshape(o.cast(op.input("Mask"), dtype="bool"), shape=(-1,))


@fluid_op("split_lod_tensor")
def split_lod_tensor(op: Op) -> dict[str, Any]:
    """The rows where the mask is true, and the others."""
    x, mask = op.input("X"), _mask(op)
    if op.lod("X"):
        raise ProgramError("rows of a ragged value are not split by a mask", where=op.where)
    parts = []
    for chosen, name in ((mask, "chosen"), (o.logical_not(mask), "others")):
        places = o.nonzero(chosen, size=op.symbol(name))
        parts.append(Lod(o.gather_nd(x, places)))
    return {"OutTrue": parts[0], "OutFalse": parts[1]}


@fluid_op("merge_lod_tensor", "merge_lod_tensor_infer")
def merge_lod_tensor(op: Op) -> dict[str, Any]:
    """Each row from the one or the other value, as the mask says, in order."""
    mask, first, second = _mask(op), op.input("InTrue"), op.input("InFalse")
    ones = o.cast(mask, dtype="int64")
    count = o.reduce_sum(ones)
    behind = o.add(o.cumsum(o.sub(1, ones), axis=0), o.sub(count, 1))
    places = o.where(mask, o.sub(o.cumsum(ones, axis=0), 1), behind)
    return {"Out": Lod(o.gather(o.concat(first, second, axis=0), places))}
