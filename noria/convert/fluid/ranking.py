"""Fluid's operators for ranking, and for tables that are kept in parts."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.sequences import flat
from noria.ir.opdef import vocabulary as o
from noria.ops import ranking
from noria.ops.order import sort


@fluid_op("positive_negative_pair")
def positive_negative_pair(op: Op) -> dict[str, Any]:
    scores, column = op.input("Score"), op.attr("column", -1)
    weight = op.get("Weight")
    counts = ranking.ranked_pairs(
        scores[:, column],
        flat(op.input("Label")),
        flat(op.input("QueryID")),
        None if weight is None else flat(weight),
    )
    kinds = ("Positive", "Negative", "Neutral")
    before = [op.get(f"Accumulate{k}Pair") for k in kinds]
    if all(v is not None for v in before):
        counts = o.add(counts, o.concat(*map(flat, before), axis=0))
    return {f"{k}Pair": Lod(counts[i : i + 1]) for i, k in enumerate(kinds)}


@fluid_op("rank_attention")
def rank_attention(op: Op) -> dict[str, Any]:
    out = ranking.rank_attention(op.input("X"), op.input("RankOffset"), op.input("RankParam"))
    return {"Out": out}


@fluid_op("similarity_focus")
def similarity_focus(op: Op) -> dict[str, Any]:
    axis, indices = op.attr("axis"), op.attr("indexes")
    return {"Out": o.similarity_focus(op.input("X"), axis=axis, indices=indices)}


# ---- tables in parts ---------------------------------------------------------------------------


@fluid_op("split_ids")
def split_ids(op: Op) -> dict[str, Any]:
    """Each id once, rising, to the part that its remainder names."""
    ids = sort(o.concat(*map(flat, op.inputs("Ids")), axis=0))
    place = o.arange(stop=ids.shape[0])
    again = o.logical_and(o.equal(ids, o.roll(ids, shift=1, axis=0)), o.greater(place, 0))
    parts, out = len(op.outputs["Out"]), []
    for k in range(parts):
        mine = o.logical_and(o.equal(o.remainder(ids, parts), k), o.logical_not(again))
        places = o.nonzero(mine, size=op.symbol("part"))
        out.append(Lod(o.gather(ids, places)))
    return {"Out": out}


@fluid_op("merge_ids")
def merge_ids(op: Op) -> dict[str, Any]:
    """The rows of the ids asked for, from the parts they were looked up in."""
    rows = o.concat(*map(flat, op.inputs("Rows")), axis=0)
    table = o.concat(*op.inputs("X"), axis=0)
    out = []
    for ids in map(flat, op.inputs("Ids")):
        same = o.equal(o.unsqueeze(ids, axis=1), rows)
        # an id that is in no part is out of range, which `gather` refuses
        place = o.where(o.reduce_any(same, axis=1), _first(same), rows.shape[0])
        out.append(Lod(o.gather(table, place)))
    return {"Out": out}


def _first(flags: Any) -> Any:
    return o.argmax(o.cast(flags, dtype="int32"), axis=1)
