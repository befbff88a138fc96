"""For ranking and retrieval: ordered pairs, attention between ranks, trees of items, focus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ops.common import (
    axis_of,
    need_float,
    need_integer,
    need_rank,
    require_same_shape,
    shaped,
)
from noria.ops.numeric import cast_like, spec_of
from noria.ops.random import uniform

# ---- pairs and ranks ---------------------------------------------------------------------------


def ranked_pairs(scores: Any, labels: Any, queries: Any, weights: Any = None) -> Any:
    """Pairs of one query whose labels differ: [3], ranked rightly, wrongly, with equal scores.

    scores, labels: floats [N]; queries: integers [N]; weights: [N], a pair counts the mean of its
    two. A pair of equal scores is counted as wrong too.
    """
    for name, value in {"labels": labels, "queries": queries}.items():
        require_same_shape(spec_of(scores), spec_of(value), name)
    n = scores.shape[0]
    gaps = [o.sub(o.unsqueeze(v, axis=1), o.unsqueeze(v, axis=0)) for v in (scores, labels)]
    places = o.arange(stop=n)
    later = o.less(o.unsqueeze(places, axis=1), o.unsqueeze(places, axis=0))
    same = o.equal(o.unsqueeze(queries, axis=1), o.unsqueeze(queries, axis=0))
    counted = o.logical_and(o.logical_and(later, same), o.not_equal(gaps[1], 0.0))
    if weights is None:
        weights = o.fill(shape=(n,), value=1.0, dtype=spec_of(scores).dtype)
    both = o.mul(o.add(o.unsqueeze(weights, axis=1), o.unsqueeze(weights, axis=0)), 0.5)
    right = o.greater(o.mul(gaps[0], gaps[1]), 0.0)
    kinds = right, o.logical_not(right), o.equal(gaps[0], 0.0)
    sums = [o.reduce_sum(o.where(o.logical_and(counted, k), both, 0.0)) for k in kinds]
    return o.concat(*(o.reshape(v, shape=(1,)) for v in sums), axis=0)


def rank_attention(x: Any, ranks: Any, weight: Any) -> Any:
    """The items shown beside an item, each through the matrix of both ranks, added up: [N, P].

    x: [N, F]; ranks: integers [N, 2 M + 1]: the rank of the item, from 1, then for each rank from 1
    to M that rank, and which row of x has it; -1 (or 0) where there is none.
    weight: [M * M * F, P], the matrices [F, P] of own rank and other rank, one below the other.
    """
    need_integer(spec_of(ranks))
    most = (ranks.shape[1] - 1) // 2
    features, size = x.shape[1], weight.shape[1]
    own = o.sub(ranks[:, 0:1], 1)
    other, rows = o.sub(ranks[:, 1::2], 1), ranks[:, 2::2]
    there = o.logical_and(o.greater_equal(own, 0), o.greater_equal(other, 0))
    pairs = o.where(there, o.add(o.mul(own, most), other), 0)
    beside = o.gather(x, o.where(there, rows, 0))
    beside = o.where(o.unsqueeze(there, axis=2), beside, 0.0)
    matrices = o.gather(o.reshape(weight, shape=(most * most, features, size)), pairs)
    return o.reduce_sum(o.squeeze(o.matmul(o.unsqueeze(beside, axis=2), matrices), axis=2), axis=1)


# ---- trees of items ----------------------------------------------------------------------------


def tree_children(nodes: Any, tree: Any) -> tuple[Any, Any]:
    """(children, whether each is an item): int [..., C] of nodes [...] of a tree of items.

    tree: integers [nodes, 3 + C], for each node: its item (0: an inner node), its layer, its parent
    and its children (0: none). Node 0 is none; it has no children. (Zhu et al., 2018)
    """
    nodes, tree = shaped(nodes), shaped(tree)
    need_integer(spec_of(nodes), spec_of(tree))
    found = o.gather(tree[:, 3:], nodes)
    has = o.logical_and(o.not_equal(nodes, 0), o.not_equal(found[..., 0], 0))
    children = o.where(o.unsqueeze(has, axis=-1), found, 0)
    item = o.not_equal(o.gather(tree[:, 0], children), 0)
    return children, o.logical_and(item, o.unsqueeze(has, axis=-1))


def tree_sample(
    items: Any,
    paths: Any,
    layers: Any,
    *,
    bounds: Sequence[int],
    negatives: Sequence[int],
    positive: bool = True,
    key: Any = None,
    stream: int | None = None,
) -> tuple[Any, Any, Any]:
    """(nodes, labels, mask), [N, J] each: for each item the node of its path on each layer of a
    tree, and other nodes of that layer, drawn without one twice.

    items: integers [N]; paths: [items, layers], 0 where a path is shorter; layers: [nodes], the
    nodes of layer k are layers[bounds[k]:bounds[k + 1]]; negatives: how many others on each layer;
    positive: the node of the path comes first. labels: 1 for it, 0 for others; mask: 0 where the
    path has ended, where nodes and labels are 0. (Zhu et al., 2018)
    """
    need_integer(spec_of(items), spec_of(paths), spec_of(layers))
    if len(bounds) != len(negatives) + 1 or paths.shape[1] != len(negatives):
        raise ArgumentError(
            "each layer has bounds, negatives and a column of paths",
            expected=f"{len(negatives)} layers",
            got=f"{len(bounds)} bounds, {paths.shape[1]} columns",
        )
    path = o.gather(paths, items)
    columns: list[Any] = []
    labels: list[int] = []
    masks: list[Any] = []
    for k, count in enumerate(negatives):
        true = path[:, k : k + 1]
        drawn = _others(true, layers[bounds[k] : bounds[k + 1]], count, key, stream, k)
        both = o.concat(true, drawn, axis=1) if positive else drawn
        there = o.broadcast_to(o.not_equal(true, 0), shape=both.shape)
        columns.append(o.where(there, both, 0))
        masks.append(there)
        labels += [1] * positive + [0] * count
    nodes, mask = (o.concat(*v, axis=1) for v in (columns, masks))
    mask = cast_like(mask, nodes)
    return nodes, o.mul(mask, cast_like(np.array(labels), nodes)), mask


def _others(true: Any, layer: Any, count: int, key: Any, stream: int | None, at: int) -> Any:
    """`count` nodes of a layer, other than the true one, for each row: [N, count]."""
    size = layer.shape[0]
    if count >= size:
        raise ArgumentError(
            f"layer {at} has too few nodes", expected=f"fewer than {size}", got=f"{count} negatives"
        )
    place = None if stream is None else stream + at
    chance = uniform(key, shape=(true.shape[0], size), stream=place)
    chance = o.where(o.equal(true, layer), 2.0, chance)
    return o.gather(layer, o.topk(chance, k=count, axis=1, largest=False)[1])


# ---- focus -------------------------------------------------------------------------------------


@op
def similarity_focus(x, *, axis, indices):
    """1 where the largest similarities are, for all of an axis, 0 elsewhere: the shape of x.

    x: [N, A, B, C]; axis: 1, 2 or 3; indices: slices of that axis. In each slice the largest number
    is marked, its row and its column are crossed out, and so on until there is no row or no column
    left. (He and Lin, 2016)
    """
    need_float(x)
    need_rank(x, 4)
    if axis_of(axis, 4) == 0:
        raise ArgumentError("axis must be 1, 2 or 3", got=str(axis))
    size = x.shape[axis]
    if not indices or any(not isinstance(i, int) or i < 0 for i in indices):
        raise ArgumentError("indices name slices", got=repr(indices))
    if isinstance(size, int) and max(indices) >= size:
        raise ArgumentError("a slice is not there", expected=f"below {size}", got=repr(indices))
    return x


@similarity_focus.compute
def _(xp, x, axis, indices):
    slices = xp.moveaxis(xp.take(x, np.array(indices), axis=axis), axis, 1)
    n, k, rows, columns = slices.shape
    left = slices.astype("float64") if xp is np else slices
    marks = xp.zeros(slices.shape, bool)
    for _ in range(min(rows, columns)):
        best = xp.argmax(left.reshape(n, k, rows * columns), axis=2)[:, :, None, None]
        row = xp.arange(rows)[:, None] == best // columns
        column = xp.arange(columns) == best % columns
        marks = marks | (row & column)
        left = xp.where(row | column, -np.inf, left)
    marks = xp.expand_dims(marks.any(axis=1), axis)
    return xp.broadcast_to(marks, x.shape).astype(x.dtype)
