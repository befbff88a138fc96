"""Fluid's operators for ranking, and for tables that are kept in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.sequences import flat
from noria.core.dims import Size
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


# ---- rows of a table ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SelectedRows:
    """Some rows of a table: values [n, ...] of rows ids [n] of `height`; an id may come again."""

    ids: Any
    values: Any
    height: Size


def _rows(op: Op, slot: str) -> SelectedRows:
    """Rows of a table; of a dense one, all."""
    held = op.held(slot)[0]
    if isinstance(held, SelectedRows):
        return held
    x = op.input(slot)
    return SelectedRows(o.arange(stop=x.shape[0]), x, x.shape[0])


def _those(op: Op, ids: Any, values: Any, low: int, high: Size) -> SelectedRows:
    """The rows low to high - 1, as a table of their own."""
    inside = o.logical_and(o.greater_equal(ids, low), o.less(ids, o.dim_value(dim=high)))
    place = flat(o.nonzero(inside, size=op.symbol("rows")))
    return SelectedRows(o.sub(o.gather(ids, place), low), o.gather(values, place), high - low)


@fluid_op("merge_selected_rows")
def merge_selected_rows(op: Op) -> dict[str, Any]:
    """Values of one row are added; ids rise."""
    x = _rows(op, "X")
    ids, values = o.merge_rows(x.ids, x.values, shape=(x.height, *x.values.shape[1:]))
    return {"Out": _those(op, ids, values, 0, x.height)}


@fluid_op("split_selected_rows")
def split_selected_rows(op: Op) -> dict[str, Any]:
    """Tables of `height_sections` rows each, one behind the other."""
    x, start, out = _rows(op, "X"), 0, []
    for height in op.attr("height_sections"):
        out.append(_those(op, x.ids, x.values, start, start + height))
        start += height
    return {"Out": out}


@fluid_op("get_tensor_from_selected_rows")
def get_tensor_from_selected_rows(op: Op) -> dict[str, Any]:
    return {"Out": Lod(_rows(op, "X").values)}
