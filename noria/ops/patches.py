"""Convolution over trees: a node sees those below it, down to a depth.  (Mou et al., 2016)"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.numeric import spec_of
from noria.ops.packed import need_numpy


@op
def tree_patches(edges, *, nodes, depth, dtype="float32"):
    """How much of each node is in the patch of each other: [B, nodes, nodes, 3], left, right, top.

    edges: integers [B, E, 2], pairs of a node and one below it, counted from 1; a pair with a 0
    ends the list. The patch of a node reaches `depth` levels, itself one of them. Level d counts
    top = 1 - d / depth; what is left is shared by left and right, as the node is placed among its
    brothers: the first is left, the last right. A tree of E edges has E + 1 nodes; others have no
    patch. Raises ArgumentError, when it runs, for nodes that are not there. XLA cannot compile it.
    """
    need_integer(edges)
    need_rank(edges, 3, what="edges")
    require_equal(edges.shape[2], 2, "the nodes of an edge and 2")
    if not isinstance(depth, int) or depth < 1:
        raise ArgumentError("a patch has one level or more", got=f"{depth=}")
    return Spec((edges.shape[0], nodes, nodes, 3), dtype)


@tree_patches.compute
def _(xp, edges, nodes, depth, dtype):
    need_numpy(xp, "tree_patches")
    if ((edges < 0) | (edges > nodes)).any():
        raise ArgumentError("an edge leads to no node", expected=f"0 to {nodes}")
    out = np.zeros((len(edges), nodes, nodes, 3), dtype)
    for patches, pairs in zip(out, edges, strict=True):
        below = _below(pairs, nodes)
        for root in range(min(sum(map(len, below)) + 1, nodes)):
            for node, place, count, level in _patch(root, below, depth):
                top = (depth - level) / depth
                left = (1 - top) * (0.5 if count == 1 else (place - 1) / (count - 1))
                patches[root, node] += left, (1 - top) * (1 - left), top
    return out


def _below(pairs: Any, nodes: int) -> list[list[int]]:
    """The nodes right below each node, counted from 0."""
    below: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in pairs.tolist():
        if not a or not b:
            break
        below[a - 1].append(b - 1)
    return below


def _patch(root: int, below: list[list[int]], depth: int) -> list[tuple[int, int, int, int]]:
    """(node, its place among its brothers, how many they are, level) of each node of a patch."""
    patch, open_nodes, seen = [(root, 1, 1, 0)], [(root, 0)], {root}
    while open_nodes:
        node, level = open_nodes.pop()
        if level + 1 == depth:
            continue
        for place, child in enumerate(below[node], 1):
            if child not in seen:
                seen.add(child)
                patch.append((child, place, len(below[node]), level + 1))
                open_nodes.append((child, level + 1))
    return patch


def tree_conv(x: Any, edges: Any, weight: Any, *, depth: int) -> Any:
    """Convolution over trees: [B, N, F] -> [B, N, O, K].

    x: the features of nodes; edges, depth: as of `tree_patches`; weight: [F, 3, O, K], what is done
    with the left, the right and the top part of a patch
    """
    spec, kernel = spec_of(x), spec_of(weight)
    need_float(spec, kernel)
    need_rank(spec, 3)
    need_rank(kernel, 4, what="weight")
    batch, nodes, features = spec.shape
    if kernel.shape[1] != 3:
        raise ShapeError("weight has three parts", expected="[F, 3, O, K]", got=str(kernel))
    require_equal(kernel.shape[0], features, "the features of weight and of x")
    patches = tree_patches(edges, nodes=nodes, depth=depth, dtype=spec.dtype)
    seen = o.matmul(o.transpose(patches, perm=(0, 3, 1, 2)), o.unsqueeze(x, axis=1))
    seen = o.reshape(o.transpose(seen, perm=(0, 2, 3, 1)), shape=(batch, nodes, features * 3))
    out = o.matmul(seen, o.reshape(weight, shape=(features * 3, -1)))
    return o.reshape(out, shape=(batch, nodes, *kernel.shape[2:]))
