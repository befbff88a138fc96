"""Tree ensembles in the classic encoding against onnxruntime; the suite of onnx has the new one."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import ArgumentError, FormatError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("f4")
HOLES = X.copy()
HOLES[1, 2] = np.nan
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"]
LEAVES = [(t, i) for t in range(3) for i in range(3, 7)]


def floats(count: int, positive: bool) -> list[float]:
    numbers = RNG.normal(size=count)
    return (abs(numbers) / 5 if positive else numbers).tolist()


def nodes() -> dict[str, Any]:
    """Three trees of three nodes and four leaves each."""
    rng, all_nodes = np.random.default_rng(1), [(t, i) for t in range(3) for i in range(7)]
    return {
        "nodes_treeids": [t for t, _ in all_nodes],
        "nodes_nodeids": [i for _, i in all_nodes],
        "nodes_featureids": rng.integers(4, size=21).tolist(),
        "nodes_values": rng.normal(size=21).tolist(),
        "nodes_modes": ["LEAF" if i > 2 else MODES[rng.integers(4)] for _, i in all_nodes],
        "nodes_truenodeids": [2 * i + 1 if i < 3 else 0 for _, i in all_nodes],
        "nodes_falsenodeids": [2 * i + 2 if i < 3 else 0 for _, i in all_nodes],
        "nodes_missing_value_tracks_true": rng.integers(2, size=21).tolist(),
    }


def votes(prefix: str, targets: int, positive: bool) -> dict[str, Any]:
    return {
        f"{prefix}_treeids": [t for t, _ in LEAVES],
        f"{prefix}_nodeids": [i for _, i in LEAVES],
        f"{prefix}_ids": [k % targets for k in range(len(LEAVES))],
        f"{prefix}_weights": floats(len(LEAVES), positive),
    }


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regression(same_as_onnxruntime: Any, aggregate: str) -> None:
    how = {**nodes(), **votes("target", 2, False), "n_targets": 2, "aggregate_function": aggregate}
    same_as_onnxruntime("TreeEnsembleRegressor", HOLES, **how)


@pytest.mark.parametrize(("targets", "positive"), [(1, False), (1, True), (3, True)])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC"])
def test_classes(
    same_as_onnxruntime: Any,
    transform: str,
    targets: int,
    positive: bool,
) -> None:
    labels = [2, 4, 8][: max(targets, 2)]
    how = {**nodes(), **votes("class", targets, positive), "post_transform": transform}
    same_as_onnxruntime("TreeEnsembleClassifier", HOLES, (7, 1), classlabels_int64s=labels, **how)


def test_a_tree_in_a_circle_and_nodes_that_are_not_there_are_told(converted: Any) -> None:
    how = {**nodes(), **votes("target", 1, False), "n_targets": 1}
    circle = {**how, "nodes_truenodeids": [0] * 21}
    with pytest.raises(ArgumentError, match="below itself"):
        converted("TreeEnsembleRegressor", HOLES, circle, (1,))
    lost = {**how, "nodes_truenodeids": [9] * 21}
    with pytest.raises(FormatError, match="not there"):
        converted("TreeEnsembleRegressor", HOLES, lost, (1,))
