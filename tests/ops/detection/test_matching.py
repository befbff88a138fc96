from itertools import pairwise

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import matching as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 7])


def pairs(threshold=None):
    def apply(overlaps, splits=None):
        splits = [0, len(overlaps)] if splits is None else splits
        match = np.full((len(splits) - 1, overlaps.shape[1]), -1)
        for n, (a, b) in enumerate(pairwise(splits)):
            own = overlaps[a:b]
            order = sorted(np.ndindex(own.shape), key=lambda p, own=own: -own[p])
            rows = set()
            for row, column in order:
                if row not in rows and match[n, column] < 0 and own[row, column] > 1e-6:
                    match[n, column] = row
                    rows.add(row)
            for column in range(own.shape[1]):
                best = own[:, column].argmax() if len(own) else 0
                free = threshold is not None and len(own) and match[n, column] < 0
                if free and own[best, column] >= threshold:
                    match[n, column] = best
        found = np.zeros(match.shape)
        for n, column in np.argwhere(match >= 0):
            found[n, column] = overlaps[splits[n] + match[n, column], column]
        return match, found

    return apply


MATCH = np.array([[0, -1, 2, 1, -1], [-1] * 5, [3, 0, -1, 1, 2]])


def assigned(values, match, splits, negatives=None, negative_splits=None):
    out = np.full((*match.shape, values.shape[2]), 7.0)
    weights = np.zeros((*match.shape, 1))
    for n, m in np.argwhere(match >= 0):
        out[n, m] = values[splits[n] + match[n, m], m % values.shape[1]]
        weights[n, m] = 1
    if negatives is not None:
        for n, (a, b) in enumerate(pairwise(negative_splits)):
            out[n, negatives[a:b]] = 7
            weights[n, negatives[a:b]] = 1
    return out, weights


def mined(class_loss, match, overlap):
    kept, rows = match.copy(), []
    for n in range(len(match)):
        free = [m for m in range(match.shape[1]) if match[n, m] == -1 and overlap[n, m] < 0.4]
        free = sorted(free, key=lambda m, n=n: -class_loss[n, m])
        rows.append(sorted(free[: int(np.sum(match[n] >= 0) * 1.5)]))
    return np.concatenate(rows), np.cumsum([0, *map(len, rows)]), kept


OVERLAPS = arr(7, 5, low=0, high=1, distinct=True)
CASES = [
    Case("bipartite_match", [OVERLAPS, SPLITS], expect=pairs(), jax=False),
    Case(
        "bipartite_match",
        [OVERLAPS],
        {"threshold": 0.6},
        expect=pairs(0.6),
        symbolic={0: {0: "T", 1: "M"}},
        jax=False,
    ),
    Case("target_assign", [arr(7, 5, 4), MATCH, SPLITS], {"mismatch": 7}, expect=assigned),
    Case(
        "target_assign",
        [arr(7, 1, 2), MATCH, SPLITS, np.array([1, 4, 2]), np.array([0, 1, 2, 3])],
        {"mismatch": 7},
        expect=assigned,
    ),
    Case(
        "mine_hard_examples",
        [arr(3, 5, distinct=True), MATCH, arr(3, 5, low=0, high=1)],
        {"size": "K", "ratio": 1.5, "threshold": 0.4},
        expect=mined,
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_hard_examples_take_the_match_of_easy_ones():
    loss = np.array([[0.1, 0.9, 0.5, 0.8, 0.2]], np.float32)
    match = np.array([[0, 1, -1, -1, -1]])
    how = {"size": "K", "mining": "hard_example", "sample_size": 3}
    negatives, splits, kept = family.mine_hard_examples(
        loss / 2, match, np.zeros_like(loss), loss / 2, **how
    )
    assert negatives.tolist() == [2, 3] and splits.tolist() == [0, 2]
    assert kept.tolist() == [[-1, 1, -1, -1, -1]]


def test_bad_inputs_are_refused():
    values = np.zeros((7, 5, 4), np.float32)
    with pytest.raises(ArgumentError, match="match with an object"):
        family.target_assign(values, MATCH + 3, SPLITS)
    with pytest.raises(ArgumentError, match="negative prior"):
        family.target_assign(values, MATCH, SPLITS, np.array([9]), np.array([0, 1, 1, 1]))
    with pytest.raises(ArgumentError, match="come with"):
        family.target_assign(values, MATCH, SPLITS, np.array([1]))
    with pytest.raises(ArgumentError, match="unknown mining"):
        family.mine_hard_examples(
            np.zeros((3, 5), np.float32),
            MATCH,
            np.zeros((3, 5), np.float32),
            size="K",
            mining="all",
        )


def test_objects_have_values():
    with pytest.raises(ShapeError, match="one kind of prior"):
        family.target_assign(np.zeros((7, 0, 4), np.float32), MATCH, SPLITS)
