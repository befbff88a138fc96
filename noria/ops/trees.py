"""Ensembles of decision trees.  (Breiman, 2001; Friedman, 2001)"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.loops import scan

MODES = ("<=", "<", ">=", ">", "==", "!=", "in")
AGGREGATES = ("sum", "mean", "min", "max")
UNROLLED = 16  # deeper trees are a loop


@dataclass(frozen=True)
class Trees:
    """Trees as arrays: inner nodes, and leaves, which are named by -1 - number.

    roots:    [trees], nodes or leaves
    feature, threshold, mode: [nodes]: what is compared, with what, how (an index into MODES)
    yes, no:  [nodes], where to go on; nan_is_yes: [nodes], whether a NaN goes there
    members:  [nodes, most members]: for mode "in" the set, filled up with NaN
    weights:  [leaves, targets], NaN where a leaf says nothing of a target
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    mode: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    weights: np.ndarray
    nan_is_yes: np.ndarray | None = None
    members: np.ndarray | None = None
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        nodes, leaves = len(self.feature), len(self.weights)
        for name in ("threshold", "mode", "yes", "no"):
            if len(getattr(self, name)) != nodes:
                raise ArgumentError(f"nodes need as many of {name}", expected=str(nodes))
        links = np.concatenate([self.roots, self.yes, self.no]).astype(np.int64)
        if links.size and not (-leaves <= links.min() and links.max() < nodes):
            raise ArgumentError("a tree names a node or a leaf that is not there")
        if nodes and not (self.mode.min() >= 0 and self.mode.max() < len(MODES)):
            raise ArgumentError("no such comparison", expected=", ".join(MODES))
        object.__setattr__(self, "depth", self._depth())

    def _depth(self) -> int:
        """Steps from a root to the deepest leaf. Raises ArgumentError for a node below itself."""
        level, depth = np.unique(self.roots[self.roots >= 0]), 0
        while len(level):
            depth += 1
            if depth > len(self.feature):
                raise ArgumentError("a tree has a node below itself")
            below = np.concatenate([self.yes[level], self.no[level]])
            level = np.unique(below[below >= 0])
        return depth


def tree_ensemble(x: Any, trees: Trees, *, aggregate: str = "sum") -> Any:
    """What the leaves say that each row of x falls into: [N, F] -> [N, targets].

    aggregate: "sum", "mean" (over all trees), "min" or "max" of the trees that say something; 0
    where none does. Raises ArgumentError.
    """
    if aggregate not in AGGREGATES:
        raise ArgumentError("no such aggregate", expected=", ".join(AGGREGATES), got=aggregate)
    leaf = o.sub(-1, _leaves(x, trees))  # [N, trees]
    silent = {"min": math.inf, "max": -math.inf}.get(aggregate, 0.0)
    said = ~np.isnan(trees.weights)
    weights = np.where(said, trees.weights, silent).astype(trees.weights.dtype)
    votes = o.gather(weights, leaf, axis=0)  # [N, trees, targets]
    if aggregate in ("sum", "mean"):
        total = o.reduce_sum(votes, axis=1)
        return total if aggregate == "sum" else o.div(total, float(max(len(trees.roots), 1)))
    best = (o.reduce_min if aggregate == "min" else o.reduce_max)(votes, axis=1)
    return o.where(o.equal(best, silent), 0.0, best)


def _leaves(x: Any, trees: Trees) -> Any:
    """The leaf of each tree, as Trees names it: int64 [N, trees]."""
    first = o.reshape(trees.roots.astype(np.int64), shape=(1, len(trees.roots)))
    at = o.broadcast_to(first, shape=(x.shape[0], len(trees.roots)))
    if trees.depth > UNROLLED:
        return scan(lambda at, _: (_below(x, trees, at), None), at, length=trees.depth)[0]
    for _ in range(trees.depth):
        at = _below(x, trees, at)
    return at


def _below(x: Any, trees: Trees, at: Any) -> Any:
    """Where each tree leads a row to next; leaves stay."""
    node = o.maximum(at, 0)
    yes = _compared(x, trees, node)
    below = o.where(yes, *(o.gather(v.astype(np.int64), node) for v in (trees.yes, trees.no)))
    return o.where(o.less(at, 0), at, below)


def _compared(x: Any, trees: Trees, node: Any) -> Any:
    """Whether x says yes at a node: bool [N, trees]."""
    value = o.take_along_axis(x, o.gather(trees.feature.astype(np.int64), node), axis=1)
    dtype = np.dtype(str(x.dtype)) if str(x.dtype) != "bfloat16" else np.dtype("float32")
    threshold = o.gather(trees.threshold.astype(dtype), node)
    compare = (o.less_equal, o.less, o.greater_equal, o.greater, o.equal, o.not_equal)
    kinds = np.unique(trees.mode).tolist()
    answers = {}
    for kind in kinds:
        if MODES[kind] == "in":
            members = np.empty((0, 0)) if trees.members is None else trees.members
            sets = o.gather(members.astype(dtype), node, axis=0)
            answers[kind] = o.reduce_any(o.equal(o.unsqueeze(value, axis=2), sets), axis=2)
        else:
            answers[kind] = compare[kind](value, threshold)
    out = answers[kinds[0]]
    mode = o.gather(trees.mode.astype(np.int64), node) if len(kinds) > 1 else None
    for kind in kinds[1:]:
        out = o.where(o.equal(mode, kind), answers[kind], out)
    if trees.nan_is_yes is not None and trees.nan_is_yes.any():
        follows = o.gather(trees.nan_is_yes.astype(bool), node)
        out = o.logical_or(out, o.logical_and(o.isnan(value), follows))
    return out
