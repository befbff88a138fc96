import numpy as np
import pytest

from noria.core.errors import ArgumentError


def test_pairs_are_added_to_those_before(run_op):
    given = {
        "Score": np.array([[0.1, 3], [0.2, 2], [0.3, 2]], np.float32),
        "Label": np.array([[2], [1], [1]], np.float32),
        "QueryID": np.array([[7], [7], [7]]),
        **{f"Accumulate{k}Pair": np.array([10], "f4") for k in ("Positive", "Negative", "Neutral")},
    }
    slots = ("PositivePair", "NegativePair", "NeutralPair")
    got = run_op("positive_negative_pair", given, {"column": 1}, slots)
    assert [got[s].tolist() for s in slots] == [[12], [10], [10]]


def test_ids_are_split_once_each(run_op):
    ids = [np.array([[4], [1]]), np.array([[4], [7], [3]])]
    slots = {"Out": ["a", "b", "c"]}
    got = run_op("split_ids", {"Ids": ids}, {}, slots)
    assert [got[n].tolist() for n in "abc"] == [[[3]], [[1], [4], [7]], []]


def test_rows_come_back_in_the_order_of_their_ids(run_op):
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    given = {"Ids": np.array([[3], [0], [3]]), "Rows": [np.array([[0]]), np.array([[1], [3]])]}
    got = run_op("merge_ids", given | {"X": [table[:1], table[[1, 3]]]}, {}, {"Out": ["Out"]})
    assert got["Out"].tolist() == table[[3, 0, 3]].tolist()
    with pytest.raises(ArgumentError):
        run_op("merge_ids", given | {"X": [table[:1], table[[1, 3]]], "Ids": np.array([[2]])}, {})


def test_items_through_the_matrices_of_their_ranks(run_op):
    x, param = np.array([[2.0], [3.0]], np.float32), np.array([[1], [10], [100], [1000]], "f4")
    offset = np.array([[1, 1, 0, 2, 1], [-1, -1, -1, -1, -1]], np.int32)
    given = {"X": x, "RankOffset": offset, "RankParam": param}
    assert run_op("rank_attention", given, {"MaxRank": 2})["Out"].tolist() == [[32], [0]]
