"""Taking elements by their positions, and putting them there."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, dtype_of, fluid_op
from noria.convert.fluid.math import one
from noria.convert.fluid.shape import at_least_1d, numbers_of
from noria.core.dims import Dim, product
from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops import join
from noria.ops.numeric import spec_of

# ---- taking ------------------------------------------------------------------------------------


def _flat_ids(ids: Any) -> Any:
    """[N] of [N] or [N, 1]."""
    return o.reshape(ids, shape=(-1,)) if len(ids.shape) != 1 else ids


@fluid_op("gather")
def gather(op: Op) -> dict[str, Any]:
    given = op.get("Axis")
    axis = op.attr("axis", 0) if given is None else int(op.const(given, "the axis").reshape(-1)[0])
    return {"Out": o.gather(op.input("X"), _flat_ids(op.input("Index")), axis=axis)}


@fluid_op("gather_nd")
def gather_nd(op: Op) -> dict[str, Any]:
    x, ids = op.input("X"), op.input("Index")
    if ids.shape[-1] == 0:
        return {"Out": o.broadcast_to(x, shape=(*ids.shape[:-1], *x.shape))}
    return {"Out": at_least_1d(o.gather_nd(x, ids))}


@fluid_op("index_select")
def index_select(op: Op) -> dict[str, Any]:
    axis = op.attr("dim", 0)
    return {"Out": o.gather(op.input("X"), _flat_ids(op.input("Index")), axis=axis)}


@fluid_op("index_sample")
def index_sample(op: Op) -> dict[str, Any]:
    return {"Out": o.take_along_axis(op.input("X"), op.input("Index"), axis=1)}


@fluid_op("multiplex")
def multiplex(op: Op) -> dict[str, Any]:
    """Row n of the value that ids[n] names."""
    ids, xs = _flat_ids(op.input("Ids")), op.inputs("X")
    rows = o.arange(stop=xs[0].shape[0])
    both = join.stack(o.cast(ids, dtype="int64"), rows, axis=1)
    return {"Out": o.gather_nd(join.stack(*xs, axis=0), both)}


@fluid_op("lookup_table", "lookup_table_v2", "lookup_sparse_table", "embedding")
def lookup_table(op: Op) -> dict[str, Any]:
    """Rows of W; lookup_table takes ids [..., 1], lookup_table_v2 ids of any shape.

    padding_idx: the id whose row is zeros, which learns nothing; -1: none.
    """
    ids, table = op.input("Ids"), op.input("W")
    if op.type in ("lookup_table", "lookup_sparse_table") and ids.shape[-1] == 1:
        ids = o.squeeze(ids, axis=(len(ids.shape) - 1,))
    padding = int(op.attr("padding_idx", -1))
    padding = padding if padding >= -1 else table.shape[0] + padding
    if is_float(spec_of(table).dtype):
        still = None if padding == -1 else padding
        sparse = bool(op.attr("is_sparse", False)) and padding == -1
        rows = o.embedding(table, ids, padding_idx=still, sparse=sparse)
    else:
        rows = o.gather(table, ids)
    if padding != -1:
        kept = o.unsqueeze(o.not_equal(ids, padding), axis=len(ids.shape))
        rows = o.where(kept, rows, 0)
    return {"Out": _rows(op, rows)}


def _rows(op: Op, out: Any) -> Any:
    """The rows with those of the ids, if they are ragged."""
    splits = op.lod("Ids")
    return Lod(out, splits) if splits else out


# ---- putting -----------------------------------------------------------------------------------


@fluid_op("scatter")
def scatter(op: Op) -> dict[str, Any]:
    """Rows replaced (the last of several wins), or, without `overwrite`, set to sums of updates."""
    x, updates = op.input("X"), op.input("Updates")
    ids = o.unsqueeze(_flat_ids(op.input("Ids")), axis=1)
    if op.attr("overwrite", True):
        return {"Out": o.scatter_nd(x, ids, updates)}
    zeros = o.fill(shape=updates.shape, value=0.0, dtype=spec_of(updates).dtype)
    return {"Out": o.scatter_nd(o.scatter_nd(x, ids, zeros), ids, updates, reduction="add")}


@fluid_op("scatter_nd_add", "scatter_nd")
def scatter_nd(op: Op) -> dict[str, Any]:
    ids, updates = op.input("Index"), op.input("Updates")
    if op.type == "scatter_nd":
        shape = tuple(op.need_attr("shape"))
        x = o.fill(shape=shape, value=0.0, dtype=spec_of(updates).dtype)
    else:
        x = op.input("X")
    if ids.shape[-1] == 0:  # every update is of the whole
        outer = len(ids.shape) - 1
        whole = o.reduce_sum(updates, axis=tuple(range(outer))) if outer else updates
        return {"Out": o.add(x, whole)}
    return {"Out": o.scatter_nd(x, ids, updates, reduction="add")}


# ---- what is where -----------------------------------------------------------------------------


@fluid_op("where")
def where(op: Op) -> dict[str, Any]:
    return {"Out": o.where(op.input("Condition"), op.input("X"), op.input("Y"))}


@fluid_op("where_index")
def where_index(op: Op) -> dict[str, Any]:
    return {"Out": o.nonzero(op.input("Condition"), size=op.symbol("nonzero"))}


@fluid_op("masked_select")
def masked_select(op: Op) -> dict[str, Any]:
    places = o.nonzero(op.input("Mask"), size=op.symbol("selected"))
    return {"Y": o.gather_nd(op.input("X"), places)}


@fluid_op("one_hot", "one_hot_v2")
def one_hot(op: Op) -> dict[str, Any]:
    """An id out of range is an error, with `allow_out_of_range` a row of zeros."""
    ids = op.input("X")
    if op.type == "one_hot" and ids.shape[-1] == 1:
        ids = o.squeeze(ids, axis=(len(ids.shape) - 1,))
    (depth,) = numbers_of(op, "depth", "depth_tensor", "", "the depth of one_hot")
    if op.attr("allow_out_of_range", False):
        return {"Out": o.one_hot(ids, depth=depth, dtype=op.dtype("dtype"))}
    known = o.embedding(
        o.arange(stop=depth, dtype="float64"), ids
    )  # an error for what is not there
    checked = o.cast(known, dtype="int64")
    return {"Out": o.one_hot(checked, depth=depth, dtype=op.dtype("dtype"))}


@fluid_op("shard_index")
def shard_index(op: Op) -> dict[str, Any]:
    x, total, shards = op.input("X"), op.need_attr("index_num"), op.need_attr("nshards")
    size = (total + shards - 1) // shards
    mine = o.equal(o.floor_divide(x, size), op.need_attr("shard_id"))
    return {"Out": o.where(mine, o.remainder(x, size), op.attr("ignore_value", -1))}


@fluid_op("shape")
def shape(op: Op) -> dict[str, Any]:
    x = op.input("Input")
    if not any(isinstance(d, Dim) for d in x.shape):
        return {"Out": np.array(x.shape, np.int32)}
    sizes = [one(o.dim_value(dim=d)) for d in x.shape]
    return {"Out": o.cast(o.concat(*sizes, axis=0), dtype="int32")}


@fluid_op("size")
def size(op: Op) -> dict[str, Any]:
    return {"Out": one(o.dim_value(dim=product(op.input("Input").shape)))}


@fluid_op("is_empty")
def is_empty(op: Op) -> dict[str, Any]:
    count = product(op.input("X").shape)
    return {"Out": one(o.equal(o.dim_value(dim=count), 0))}


@fluid_op("unique", "unique_with_counts")
def unique(op: Op) -> dict[str, Any]:
    """In order of first appearance."""
    x = op.input("X")
    if len(x.shape) != 1 or op.attr("is_sorted", False):
        raise ArgumentError("unique of a vector, in order of appearance, is converted")
    values, _, inverse, counts = o.unique(x, size=op.symbol("unique"), sorted=False)
    code = op.attr("dtype", 3)
    index, counts = (o.cast(v, dtype=dtype_of(code)) for v in (inverse, counts))
    return {"Out": values, "Index": index, "Count": counts}
