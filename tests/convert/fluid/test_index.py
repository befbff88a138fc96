import numpy as np
import pytest

from noria.core.errors import NoriaError

X = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_rows_that_are_scattered_several_times_are_added_without_overwrite(run_op):
    ids, updates = np.array([1, 1, 3], np.int64), np.ones((3, 3), np.float32)
    inputs = {"X": X, "Ids": ids, "Updates": updates}
    got = run_op("scatter", inputs, {"overwrite": False})["Out"]
    assert got[:, 0].tolist() == [0, 2, 6, 1]
    assert run_op("scatter", inputs, {"overwrite": True})["Out"][:, 0].tolist() == [0, 1, 6, 1]


def test_the_padding_row_of_a_table_is_zeros(run_op):
    ids = np.array([[0], [2], [3]], np.int64)
    got = run_op("lookup_table", {"W": X, "Ids": ids}, {"padding_idx": 2})["Out"]
    assert got.tolist() == [[0, 1, 2], [0, 0, 0], [9, 10, 11]]
    got = run_op("lookup_table_v2", {"W": X, "Ids": ids}, {"padding_idx": -1})["Out"]
    assert got.shape == (3, 1, 3)


def test_an_id_out_of_range_is_an_error_unless_allowed(run_op):
    ids = np.array([[1], [5]], np.int64)
    got = run_op("one_hot", {"X": ids}, {"depth": 3, "allow_out_of_range": True})["Out"]
    assert got.tolist() == [[0, 1, 0], [0, 0, 0]]
    with pytest.raises(NoriaError):
        run_op("one_hot", {"X": ids}, {"depth": 3})


def test_each_row_from_the_value_its_id_names(run_op):
    ids = np.array([[1], [0], [1], [0]], np.int32)
    got = run_op("multiplex", {"Ids": ids, "X": [X, -X]})["Out"]
    assert got[:, 1].tolist() == [-1, 4, -7, 10]


def test_full_beams_from_parents(run_op):
    ids = np.array([[[2, 2]], [[6, 1]], [[3, 9]]], np.int64)
    parents = np.array([[[0, 0]], [[1, 1]], [[1, 0]]], np.int64)
    got = run_op("gather_tree", {"Ids": ids, "Parents": parents})["Out"]
    want = np.zeros_like(ids)
    for beam in range(2):
        at = beam
        for t in (2, 1, 0):
            want[t, 0, beam], at = ids[t, 0, at], parents[t, 0, at]
    assert np.array_equal(got, want)


def test_places_that_only_the_data_tell(run_op):
    got = run_op("where_index", {"Condition": X > 9})["Out"]
    assert got.tolist() == [[3, 1], [3, 2]]


def test_ids_of_one_shard(run_op):
    ids = np.array([[1], [6], [12], [19]], np.int64)
    attrs = {"index_num": 20, "nshards": 2, "shard_id": 0, "ignore_value": -1}
    assert run_op("shard_index", {"X": ids}, attrs)["Out"].ravel().tolist() == [1, 6, -1, -1]


def test_many_classes_need_no_table(run_op):
    ids = np.array([[99_999]], np.int64)
    got = run_op("one_hot", {"X": ids}, {"depth": 100_000})["Out"]
    assert got.shape == (1, 100_000) and got.argmax() == 99_999 and got.sum() == 1
