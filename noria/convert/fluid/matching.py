"""Fluid's operators that compare texts, filter and hash them."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.sequences import count, flat
from noria.core.dtypes import as_dtype
from noria.core.errors import ProgramError
from noria.ir.opdef import vocabulary as o
from noria.ops import hashing, matching, patches, ragged
from noria.ops.join import stack
from noria.ops.random import bernoulli
from noria.ops.sequence import regular_splits, sequence_lengths, sequence_splits

# ---- along the steps ---------------------------------------------------------------------------


@fluid_op("row_conv")
def row_conv(op: Op) -> dict[str, Any]:
    x, weight, splits = op.input("X"), op.input("Filter"), op.lod("X")
    if splits:
        return {"Out": Lod(matching.row_conv(x, splits[-1], weight), splits)}
    rows, steps, size = x.shape
    packed = o.reshape(x, shape=(rows * steps, size))
    out = matching.row_conv(packed, regular_splits(rows, steps), weight)
    return {"Out": o.reshape(out, shape=x.shape)}


@fluid_op("add_position_encoding")
def add_position_encoding(op: Op) -> dict[str, Any]:
    x, splits = op.input("X"), op.lod("X")
    if splits:
        places = matching.sequence_places(splits[-1], total=x.shape[0])
    else:
        places = o.arange(stop=x.shape[1])
    code = matching.position_encoding(places, size=x.shape[-1], dtype=as_dtype(x.dtype))
    out = o.add(o.mul(x, op.attr("alpha", 1.0)), o.mul(code, op.attr("beta", 1.0)))
    return {"Out": Lod(out, splits)}


# ---- ragged matrices and images ----------------------------------------------------------------


@fluid_op("match_matrix_tensor")
def match_matrix_tensor(op: Op) -> dict[str, Any]:
    x, y = op.need_lod("X")[-1], op.need_lod("Y")[-1]
    names = op.symbol("height"), op.symbol("width"), op.symbol("matched")
    values, splits, products = matching.match_matrix(
        op.input("X"), x, op.input("Y"), y, op.input("W"), sizes=names
    )
    return {
        "Out": Lod(o.unsqueeze(values, axis=1), (splits,)),
        "Tmp": Lod(o.reshape(products, shape=(-1, 1))),
    }


@fluid_op("var_conv_2d")
def var_conv_2d(op: Op) -> dict[str, Any]:
    pixels, splits, windows = matching.ragged_conv2d(
        flat(op.input("X")),
        op.need_lod("ROW")[-1],
        op.need_lod("COLUMN")[-1],
        op.input("W"),
        kernel=(count(op, "KernelH", 1), count(op, "KernelW", 1)),
        stride=(count(op, "StrideH", 1), count(op, "StrideW", 1)),
        sizes=(op.symbol("rows"), op.symbol("pixels")),
    )
    out = {}
    for slot, value in {"Out": pixels, "Col": windows}.items():
        values, rows = matching.channels_first(value, splits)
        out[slot] = Lod(o.unsqueeze(values, axis=1), (rows,))
    return out


@fluid_op("tree_conv")
def tree_conv(op: Op) -> dict[str, Any]:
    nodes, edges = op.input("NodesVector"), op.input("EdgeSet")
    return {
        "Out": patches.tree_conv(nodes, edges, op.input("Filter"), depth=op.attr("max_depth", 2))
    }


# ---- filters -----------------------------------------------------------------------------------


@fluid_op("filter_by_instag")
def filter_by_instag(op: Op) -> dict[str, Any]:
    """Instances that have one of the wanted tags; one that counts nothing where there are none."""
    x, tags = op.input("Ins"), flat(op.input("Ins_tag"))
    dense = not op.attr("is_lod", True)
    splits = regular_splits(x.shape[0], 1) if dense else op.need_lod("Ins")[-1]
    wanted = o.unsqueeze(flat(op.input("Filter_tag")), axis=0)
    hit = o.reduce_any(o.equal(o.unsqueeze(tags, axis=1), wanted), axis=1)
    before = sequence_splits(o.cast(hit, dtype="int64"))
    found = sequence_lengths(o.gather(before, op.need_lod("Ins_tag")[-1]))
    chosen = flat(o.nonzero(found, size=op.symbol("chosen")))
    starts, lengths = (
        o.gather(v, chosen) for v in (ragged.sequence_starts(splits), sequence_lengths(splits))
    )
    places = ragged.ragged_range(starts, lengths, size=op.symbol("kept"))
    none = o.cast(o.equal(before[-1:], 0), dtype="int64")
    filler = ragged.ragged_range(np.zeros(1, np.int64), none, size=op.symbol("nothing"))
    fill = o.fill(
        shape=(filler.shape[0], *x.shape[1:]),
        value=op.attr("out_val_if_empty", 0),
        dtype=as_dtype(x.dtype),
    )
    return _filtered(o.concat(o.gather(x, places), fill, axis=0), starts, lengths, filler)


def _filtered(rows: Any, starts: Any, lengths: Any, filler: Any) -> dict[str, Any]:
    ones = o.add(o.mul(filler, 0), 1)
    splits = sequence_splits(o.concat(lengths, ones, axis=0))
    begins = ragged.sequence_starts(splits), o.concat(starts, ones, axis=0)
    index = stack(*begins, sequence_lengths(splits), axis=1)
    weight = o.concat(o.add(o.mul(starts, 0), 1), o.mul(filler, 0), axis=0)
    each = regular_splits(weight.shape[0], 1)
    return {
        "Out": Lod(rows, (splits,)),
        "IndexMap": Lod(index, (each,)),
        "LossWeight": Lod(o.unsqueeze(o.cast(weight, dtype="float32"), axis=1), (each,)),
    }


# ---- hashes ------------------------------------------------------------------------------------


@fluid_op("hash")
def hash_(op: Op) -> dict[str, Any]:
    x, seeds = op.input("X"), range(count(op, "num_hash", 1))
    hashes = o.xxhash(x, seeds=tuple(seeds), mod=op.attr("mod_by", 100000))
    return {"Out": Lod(o.unsqueeze(hashes, axis=-1), op.lod("X"))}


@fluid_op("pyramid_hash")
def pyramid_hash(op: Op) -> dict[str, Any]:
    """Runs of ids as vectors; a row without any gives zeros. At test time all are scaled."""
    lists = op.attr("white_list_len", 0) or op.attr("black_list_len", 0)
    if lists and op.attr("use_filter", True):
        raise ProgramError("pyramid_hash with Bloom filters is not supported", where=op.where)
    first, steps, runs, kept = _kept_runs(op, op.need_lod("X")[-1])
    size = count(op, "num_emb")
    vectors = hashing.hash_embedding(
        flat(op.input("X")),
        first,
        steps,
        flat(op.input("W")),
        longest=count(op, "pyramid_layer", 2),
        size=size,
        chunk=count(op, "rand_len"),
        space=op.need_attr("space_len"),
    )
    if not op.attr("is_training", 0):
        vectors = o.mul(vectors, float(op.attr("drop_out_percent", 0.0)))
    out, splits = _or_zeros(op, vectors, runs)
    return {
        "Out": Lod(out, (splits,)),
        "DropPos": Lod(o.unsqueeze(kept, axis=1), (runs,)),
        "X_Temp_Out": Lod(o.cast(op.input("X"), dtype="float32"), op.lod("X")),
    }


def _kept_runs(op: Op, splits: Any) -> tuple[Any, Any, Any, Any]:
    """(first, steps, row_splits) of the runs that are kept, and int32 which of all they are."""
    longest, rate = count(op, "pyramid_layer", 2), float(op.attr("drop_out_percent", 0.0))
    first, steps, runs = hashing.ngrams(splits, longest=longest, size=op.symbol("runs"))
    if not (op.attr("is_training", 0) and rate):
        return first, steps, runs, o.fill(shape=first.shape, value=1, dtype="int32")
    kept = bernoulli(shape=first.shape, p=1.0 - rate, dtype="int32")
    both = stack(first, steps, axis=1)
    wanted = o.not_equal(kept, 0)
    both, runs = ragged.sequence_filter(both, runs, wanted, size=op.symbol("kept"))
    return both[:, 0], both[:, 1], runs, kept


def _or_zeros(op: Op, vectors: Any, runs: Any) -> tuple[Any, Any]:
    """The rows, with one vector of zeros where there is none: (vectors, row_splits)."""
    zero = o.fill(shape=(1, vectors.shape[1]), value=0.0, dtype=as_dtype(vectors.dtype))
    counts, behind = sequence_lengths(runs), o.dim_value(dim=vectors.shape[0])
    starts = o.where(o.equal(counts, 0), behind, ragged.sequence_starts(runs))
    counts = o.maximum(counts, 1)
    places = ragged.ragged_range(starts, counts, size=op.symbol("steps"))
    return o.gather(o.concat(vectors, zero, axis=0), places), sequence_splits(counts)
