"""Tables of keys against dictionaries and plain loops."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError
from noria.ops.lookup import lookup, ngram_counts
from noria.testing.case import Case, ints
from noria.testing.check import check_case

KEYS, VALUES = np.array([4, 2, 9, 2]), np.array([0.5, 1.5, 2.5, 3.5], np.float32)


def by_dict(x, keys, values, default):
    table = dict(zip(keys.tolist(), values.tolist(), strict=True))
    return np.array([table.get(v, float(default)) for v in x.ravel().tolist()]).reshape(x.shape)


def by_loops(size, skips):
    def apply(x, pool, places):
        n, out = pool.shape[1], np.zeros((len(x), size))
        for row, tokens in enumerate(x):
            for apart in range(1, (skips if n > 1 else 0) + 2):
                for start in range(len(tokens) - (n - 1) * apart):
                    gram = tokens[start : start + (n - 1) * apart + 1 : apart]
                    for k, place in enumerate(places):
                        out[row, place] += (pool[k] == gram).all()
        return out

    return apply


ONE = np.float32(-1)
BIGRAMS = np.array([[1, 2], [2, 1], [0, 0]])
CASES = [
    Case("lookup", [ints(3, 5), KEYS, VALUES, ONE], expect=by_dict, symbolic={0: {0: "N"}}),
    Case("lookup", [ints(4), KEYS[:0], VALUES[:0], ONE], expect=by_dict, id="no keys"),
    Case(
        "ngram_counts",
        [ints(3, 9, high=3), BIGRAMS, np.array([2, 0, 3])],
        {"size": 4, "skips": 2},
        expect=by_loops(4, 2),
        symbolic={0: {0: "N"}},
    ),
    Case(
        "ngram_counts",
        [ints(2, 5, high=4), np.array([[1], [3]]), np.array([0, 1])],
        {"size": 2, "skips": 3},
        expect=by_loops(2, 3),
    ),
    Case("ngram_counts", [ints(2, 1), BIGRAMS, np.array([0, 1, 2])], {"size": 3}, id="too short"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_nan_is_found():
    keys, values = np.array([1.0, np.nan]), np.array([5, 6])
    got = lookup(np.array([np.nan, 1.0, 2.0]), keys, values, np.array(-1))
    assert got.tolist() == [6, 5, -1]


def test_bad_places_and_dtypes_are_told():
    x = np.zeros((1, 3), np.int64)
    with pytest.raises(ArgumentError, match="place"):
        ngram_counts(x, BIGRAMS, np.array([0, 1, 5]), size=3)
    with pytest.raises(DTypeError, match="keys"):
        lookup(x, KEYS.astype(np.int32), VALUES, ONE)
