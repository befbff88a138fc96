from types import SimpleNamespace

import numpy as np
import pytest

from noria.convert.fluid.handlers import Op, fluid_op
from noria.convert.fluid.ranking import SelectedRows
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


TABLE = SelectedRows(np.array([4, 0, 4]), np.array([[1.0], [2.0], [3.0]]), 6)


def applied(type, attrs=(), names=("out",)):
    frame = SimpleNamespace(symbol=lambda base: base)
    op = Op(type, {"X": [("x", TABLE)]}, {"Out": list(names)}, dict(attrs), frame)
    return fluid_op.find(type)(op)["Out"]


def test_rows_of_one_id_are_added():
    merged = applied("merge_selected_rows")
    assert merged.ids.tolist() == [0, 4] and merged.values.tolist() == [[2], [4]]


def test_a_table_is_split_into_parts():
    parts = applied("split_selected_rows", {"height_sections": (2, 4)}, ("a", "b"))
    assert [p.ids.tolist() for p in parts] == [[0], [2, 2]]
    assert [p.values.tolist() for p in parts] == [[[2]], [[1], [3]]]


def test_the_values_of_rows_are_an_array(run_op):
    assert applied("get_tensor_from_selected_rows").values.tolist() == [[1], [2], [3]]
    x = np.ones((3, 2), np.float32)
    assert run_op("get_tensor_from_selected_rows", {"X": x})["Out"].tolist() == x.tolist()
