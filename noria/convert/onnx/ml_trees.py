"""Tree ensembles of ai.onnx.ml: the classic lists of nodes with ids, and the newer encoding."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.ml import ML, classified, transformed
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.trees import Trees, tree_ensemble

AGGREGATES = {"SUM": "sum", "AVERAGE": "mean", "MIN": "min", "MAX": "max"}
NAMES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
LEAF = "LEAF"
MAX_VOTES = 1 << 27  # numbers in the table of leaves and targets


def _ints(node: Node, name: str) -> np.ndarray:
    return np.asarray(node.attr(name) if node.attr(name) is not None else (), np.int64).reshape(-1)


def _numbers(node: Node, name: str) -> np.ndarray:
    """A list of floats, or the tensor that may stand for it."""
    tensor = node.attr(f"{name}_as_tensor")
    if tensor is not None:
        return np.asarray(tensor).reshape(-1)
    return np.asarray(node.attr(name) or (), np.float32)


# ---- the newer encoding ------------------------------------------------------------------------


@onnx_op("TreeEnsemble", domain=ML, since=5)
def tree_ensemble_5(node: Node, x: Any) -> Any:
    targets = int(node.attr("n_targets", 1))
    leaf_weights = np.asarray(node.need("leaf_weights")).reshape(-1)
    ids = _ints(node, "leaf_targetids")
    if len(ids) != len(leaf_weights) or (len(ids) and not 0 <= ids.min() <= ids.max() < targets):
        raise FormatError("leaf_targetids do not fit", where=str(node), got=f"{len(ids)} leaves")
    weights = _silent(node, len(ids), targets, leaf_weights.dtype)
    weights[np.arange(len(ids)), ids] = leaf_weights
    mode = np.asarray(node.need("nodes_modes")).reshape(-1).astype(np.int64)
    missing = _ints(node, "nodes_missing_value_tracks_true")
    trees = Trees(
        roots=_ints(node, "tree_roots"),
        feature=_ints(node, "nodes_featureids"),
        threshold=np.asarray(node.need("nodes_splits")).reshape(-1),
        mode=mode,
        yes=_link(node, "true"),
        no=_link(node, "false"),
        weights=weights,
        nan_is_yes=missing if len(missing) else None,
        members=_members(node, mode),
    )
    number = node.attr("aggregate_function", 1)
    names = ("AVERAGE", "SUM", "MIN", "MAX")
    if not 0 <= number < len(names):
        raise FormatError("no such aggregate_function", where=str(node), got=repr(number))
    return transformed(node, tree_ensemble(x, trees, aggregate=AGGREGATES[names[number]]))


def _silent(node: Node, leaves: int, targets: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Leaves that say nothing of any target yet."""
    if not 0 < targets <= MAX_VOTES // max(leaves, 1):
        raise FormatError(
            "the number of targets does not fit", where=str(node), got=f"{targets}, {leaves} leaves"
        )
    return np.full((leaves, targets), np.nan, dtype)


def _link(node: Node, way: str) -> np.ndarray:
    to, leaf = _ints(node, f"nodes_{way}nodeids"), _ints(node, f"nodes_{way}leafs")
    if len(to) != len(leaf):
        raise FormatError(f"nodes_{way}leafs do not fit", where=str(node))
    return np.where(leaf != 0, -1 - to, to)


def _members(node: Node, mode: np.ndarray) -> np.ndarray | None:
    """The sets of nodes with set membership, filled up with NaN."""
    given = node.attr("membership_values")
    if given is None:
        return None
    flat = np.asarray(given).reshape(-1)
    ends = np.flatnonzero(np.isnan(flat))
    sets = [part[~np.isnan(part)] for part in np.split(flat, ends)][: int((mode == 6).sum())]
    found = np.full((len(mode), max(map(len, sets), default=0)), np.nan, flat.dtype)
    for row, values in zip(np.flatnonzero(mode == 6), sets, strict=False):
        found[row, : len(values)] = values
    return found


# ---- the classic encoding ----------------------------------------------------------------------


def _classic(node: Node, votes: str, targets: int) -> Trees:
    """votes: "target" or "class", the prefix of the attributes of leaves."""
    modes = np.asarray(node.need("nodes_modes"))
    tree, ids = _ints(node, "nodes_treeids"), _ints(node, "nodes_nodeids")
    if not len(modes) == len(tree) == len(ids):
        raise FormatError("nodes have lists of different lengths", where=str(node))
    is_leaf = modes == LEAF
    unknown = set(modes.tolist()) - {*NAMES, LEAF}
    if unknown:
        raise FormatError("no such mode of a node", where=str(node), got=repr(unknown.pop()))
    place = np.where(is_leaf, -np.cumsum(is_leaf), np.cumsum(~is_leaf) - 1)  # leaves: -1 - number
    keys = zip(tree.tolist(), ids.tolist(), strict=True)
    at = dict(zip(keys, place.tolist(), strict=True))

    def linked(name: str) -> np.ndarray:
        to = _ints(node, name)[~is_leaf].tolist()
        try:
            return np.array(
                [at[t, k] for t, k in zip(tree[~is_leaf].tolist(), to, strict=True)], np.int64
            )
        except (KeyError, ValueError):
            raise FormatError(f"{name} name a node that is not there", where=str(node)) from None

    first = np.unique(tree, return_index=True)[1]  # the root of a tree is its first node
    missing = _ints(node, "nodes_missing_value_tracks_true")
    return Trees(
        roots=place[np.sort(first)],
        feature=_ints(node, "nodes_featureids")[~is_leaf],
        threshold=_numbers(node, "nodes_values")[~is_leaf],
        mode=np.array([NAMES.index(m) for m in modes[~is_leaf].tolist()], np.int64),
        yes=linked("nodes_truenodeids"),
        no=linked("nodes_falsenodeids"),
        weights=_votes(node, votes, targets, at, int(is_leaf.sum())),
        nan_is_yes=missing[~is_leaf] if len(missing) else None,
    )


def _votes(
    node: Node, prefix: str, targets: int, at: dict[tuple[int, int], int], leaves: int
) -> np.ndarray:
    values = _numbers(node, f"{prefix}_weights")
    lists = [_ints(node, f"{prefix}_{name}") for name in ("treeids", "nodeids", "ids")]
    found = _silent(node, leaves, targets, values.dtype)
    if any(len(v) != len(values) for v in lists):
        raise FormatError("votes have lists of different lengths", where=str(node))
    for tree, key, target, value in zip(*map(np.ndarray.tolist, (*lists, values)), strict=True):
        leaf = -1 - at.get((tree, key), 0)
        if leaf < 0 or not 0 <= target < targets:
            raise FormatError("a vote is of no leaf or for no target", where=str(node))
        old = found[leaf, target]
        found[leaf, target] = value if np.isnan(old) else old + value
    return found


def _scores(node: Node, x: Any, votes: str, targets: int, aggregate: str) -> Any:
    trees = _classic(node, votes, targets)
    wide = trees.threshold.dtype if str(x.dtype) != "float64" else np.dtype(np.float64)
    scores = tree_ensemble(o.cast(x, dtype=str(wide)), trees, aggregate=aggregate)
    base = _numbers(node, "base_values")
    scores = o.add(scores, base.astype(str(scores.dtype))) if len(base) else scores
    return o.cast(scores, dtype="float32")


@onnx_op("TreeEnsembleRegressor", domain=ML)
def tree_ensemble_regressor(node: Node, x: Any) -> Any:
    name = node.attr("aggregate_function", "SUM")
    if name not in AGGREGATES:
        raise FormatError("no such aggregate_function", where=str(node), got=repr(name))
    targets = int(node.attr("n_targets", 1))
    return transformed(node, _scores(node, x, "target", targets, AGGREGATES[name]))


@onnx_op("TreeEnsembleClassifier", domain=ML)
def tree_ensemble_classifier(node: Node, x: Any) -> tuple[Any, Any]:
    names = ("classlabels_int64s", "classlabels_strings")
    labels = next((node.attr(n) for n in names if node.attr(n)), ())
    ids = np.unique(_ints(node, "class_ids"))
    if len(labels) == 2 and len(ids) == 1:  # one column stands for both classes
        weights = _numbers(node, "class_weights")
        shares = bool((weights >= 0).all())
        scores, threshold = _one_column(node, x, int(ids[0])), 0.5 if shares else 0.0
        return classified(node, scores, 2, names, threshold=threshold, shares=shares)
    return classified(node, _scores(node, x, "class", len(labels), "sum"), len(labels), names)


def _one_column(node: Node, x: Any, which: int) -> Any:
    """[N, 1]: the votes for one class of two; a base value may be given for that class alone."""
    trees, base = _classic(node, "class", 2), _numbers(node, "base_values")
    scores = tree_ensemble(o.cast(x, dtype=str(trees.threshold.dtype)), trees)
    scores = o.slice(scores, axes=(1,), starts=(which,), stops=(which + 1,))
    if len(base):
        scores = o.add(scores, base[-1].astype(str(scores.dtype)))
    return o.cast(scores, dtype="float32")
