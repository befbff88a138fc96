import itertools

import numpy as np
import pytest

from noria.core.errors import NoriaError
from noria.ops import ranking
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case


def pair_by_pair(scores, labels, queries, weights):
    out = np.zeros(3)
    for i, j in itertools.combinations(range(len(scores)), 2):
        if queries[i] != queries[j] or labels[i] == labels[j]:
            continue
        w = (weights[i] + weights[j]) / 2
        out[0 if (scores[i] - scores[j]) * (labels[i] - labels[j]) > 0 else 1] += w
        out[2] += w * (scores[i] == scores[j])
    return out


def test_pairs_of_a_query_are_counted():
    scores = np.array([0.5, 0.2, 0.5, 0.1, 0.9, 0.3], np.float32)
    labels = np.array([1, 0, 0, 2, 1, 1], np.float32)
    inputs = [scores, labels, ints(6, high=2), arr(6, low=0.5)]
    case = Case("pairs", inputs, expect=pair_by_pair, grad=False)
    check_case(case, ranking.ranked_pairs)


RANKS = np.array([[1, 1, 0, 2, 1], [2, 1, 0, 2, 1], [-1, -1, -1, -1, -1], [2, -1, -1, 2, 3]])


def test_each_item_sees_the_ranks_beside_it():
    def expect(x, weight):
        out = np.zeros((4, 5))
        for n, row in enumerate(RANKS):
            for k in range(2):
                own, other = row[0] - 1, row[2 * k + 1] - 1
                if own >= 0 and other >= 0:
                    at = (own * 2 + other) * 3
                    out[n] += x[row[2 * k + 2]] @ weight[at : at + 3]
        return out

    def fn(x, weight):
        return ranking.rank_attention(x, RANKS, weight)

    case = Case("ranks", [arr(4, 3), arr(12, 5)], expect=expect, grad=[0, 1], tol=1e-5)
    check_case(case, fn)


# item, layer, parent, children
INNER = [[0, 0, 0, 0, 0], [0, 0, 0, 2, 3], [0, 1, 1, 4, 5]]
TREE = np.array([*INNER, [7, 1, 1, 0, 0], [8, 2, 2, 0, 0], [9, 2, 2, 0, 0]])


def test_children_of_nodes_and_which_are_items():
    children, items = ranking.tree_children(np.array([[1, 2], [3, 0]]), TREE)
    assert children.tolist() == [[[2, 3], [4, 5]], [[0, 0], [0, 0]]]
    assert items.tolist() == [[[False, True], [True, True]], [[False, False]] * 2]


PATHS = np.array([[2, 4], [3, 0], [2, 6]])
LAYERS = np.array([2, 3, 4, 5, 6])


def sampled(items, **changes):
    options = {"bounds": (0, 2, 5), "negatives": (1, 2), "key": np.array([1, 2])} | changes
    return ranking.tree_sample(items, PATHS, LAYERS, **options)


def test_negatives_are_other_nodes_of_the_layer():
    items = np.repeat(np.arange(3), 50)
    nodes, labels, mask = sampled(items)
    assert np.array_equal(nodes[:, 0], PATHS[items, 0]) and (nodes[:, 1] == 5 - nodes[:, 0]).all()
    ended = PATHS[items, 1] == 0
    assert (mask[ended] == [1, 1, 0, 0, 0]).all() and (mask[~ended] == 1).all()
    assert (labels == mask * [1, 0, 1, 0, 0]).all()
    for row in nodes[~ended]:
        assert set(row[2:]) == {4, 5, 6}
    assert len({tuple(row) for row in nodes}) > 4


def test_the_path_itself_may_be_left_out():
    nodes, labels, _ = sampled(np.array([0, 1]), positive=False)
    assert nodes.shape == (2, 3) and labels.sum() == 0 and nodes[1].tolist() == [2, 0, 0]


def focused(axis, indices):
    """Greedy, number by number."""

    def apply(x):
        moved = np.moveaxis(x, axis, 1)
        out = np.zeros(moved.shape)
        for n, k in itertools.product(range(len(x)), indices):
            rows, columns = set(), set()
            order = sorted(np.ndindex(moved.shape[2:]), key=lambda at: -moved[(n, k, *at)])
            for r, c in order:
                if r not in rows and c not in columns:
                    rows.add(r), columns.add(c)
                    out[n, :, r, c] = 1
        return np.moveaxis(out, 1, axis)

    return apply


CASES = [
    Case(
        "similarity_focus",
        [arr(2, 3, 4, 5, distinct=True)],
        {"axis": axis, "indices": indices},
        expect=focused(axis, indices),
        symbolic={0: {0: "N"}},
    )
    for axis, indices in [(1, (0,)), (2, (3, 0)), (3, (4, 1, 2))]
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


X = np.ones((2, 3, 4, 5))
WRONG = {
    "the batch as axis": lambda: ranking.similarity_focus(X, axis=0, indices=(0,)),
    "no slice": lambda: ranking.similarity_focus(X, axis=1, indices=()),
    "a slice that is not there": lambda: ranking.similarity_focus(X, axis=1, indices=(3,)),
    "a matrix": lambda: ranking.similarity_focus(X[0], axis=1, indices=(0,)),
    "a layer too small": lambda: sampled(np.array([0]), negatives=(2, 2)),
    "bounds of other layers": lambda: sampled(np.array([0]), bounds=(0, 5)),
    "a node that is not there": lambda: ranking.tree_children(np.array([9]), TREE),
    "labels of others": lambda: ranking.ranked_pairs(np.ones(3), np.ones(2), np.ones(3, int)),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"similarity_focus"}
