"""Trees against a walk from root to leaf."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops.trees import MODES, Trees, tree_ensemble

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3)).round(1)
X[4, 1] = np.nan
COMPARE = [np.less_equal, np.less, np.greater_equal, np.greater, np.equal, np.not_equal]


def made(members=None, **changes):
    """A tree of three nodes and four leaves, and a leaf alone."""
    parts = {
        "roots": np.array([0, -5]),
        "feature": np.array([0, 1, 2]),
        "threshold": np.array([0.1, -0.2, 0.3]),
        "mode": np.array([0, 3, 5]),
        "yes": np.array([1, -1, -3]),
        "no": np.array([2, -2, -4]),
        "weights": np.array([[1, 2], [3, np.nan], [np.nan, 5], [6, 7], [0.5, np.nan]]),
        "nan_is_yes": np.array([0, 1, 0]),
    }
    return Trees(**{**parts, **changes}, members=members)


def walk(trees, x):
    """The weights of the leaf each tree leads a row to."""
    found = []
    for at in trees.roots:
        while at >= 0:
            value, mode = x[trees.feature[at]], trees.mode[at]
            if MODES[mode] == "in":
                yes = value in trees.members[at]
            else:
                yes = COMPARE[mode](value, trees.threshold[at])
            if np.isnan(value):
                yes = yes or bool(trees.nan_is_yes[at])
            at = trees.yes[at] if yes else trees.no[at]
        found.append(trees.weights[-1 - at])
    return np.array(found)


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("aggregate", ["sum", "mean", "min", "max"])
def test_each_row_gets_what_its_leaves_say(aggregate):
    members = np.array([[np.nan] * 3, [0.1, 0.2, np.nan], [np.nan] * 3])
    for trees in (made(), made(members, mode=np.array([1, 6, 4]))):
        votes = np.array([walk(trees, row) for row in X])
        if aggregate == "mean":
            want = np.nansum(votes, axis=1) / 2
        else:
            want = getattr(np, f"nan{aggregate}")(votes, axis=1)
        want = np.nan_to_num(want)
        np.testing.assert_allclose(tree_ensemble(X, trees, aggregate=aggregate), want)


def test_a_tree_as_deep_as_a_list_is_a_loop():
    n = 40
    trees = Trees(
        roots=np.array([0]),
        feature=np.zeros(n, int),
        threshold=np.arange(n) / 10,
        mode=np.zeros(n, int),
        yes=-1 - np.arange(n),
        no=np.append(np.arange(1, n), -1 - n),
        weights=np.arange(n + 1.0)[:, None],
    )
    x = np.array([[-1.0], [0.05], [3.85], [9.0]])
    assert tree_ensemble(x, trees)[:, 0].tolist() == [0, 1, 39, 40]


def test_trees_that_are_none_are_told():
    with pytest.raises(ArgumentError, match="below itself"):
        made(yes=np.array([0, -1, -3]))
    with pytest.raises(ArgumentError, match="not there"):
        made(no=np.array([2, -2, -9]))
    with pytest.raises(ArgumentError, match="aggregate"):
        tree_ensemble(X, made(), aggregate="median")
