import numpy as np
import pytest

X = np.array([[1, 5, 2], [4, 3, 6]], np.int64)


def test_integers_stay_integers_and_there_are_no_scalars(run_op):
    got = run_op("reduce_sum", {"X": X.astype(np.int32)}, {"reduce_all": True})["Out"]
    assert got.dtype == np.int32 and got.tolist() == [21]
    assert run_op("reduce_max", {"X": X}, {"dim": [-1]})["Out"].tolist() == [5, 6]
    assert run_op("reduce_max", {"X": X}, {"dim": [0], "keep_dim": True})["Out"].shape == (1, 3)


@pytest.mark.parametrize("descending", [False, True])
def test_order(run_op, descending):
    attrs = {"axis": 1, "descending": descending}
    got = run_op("argsort", {"X": X}, attrs, ("Out", "Indices"))
    want = np.sort(X, 1)[:, :: -1 if descending else 1]
    assert np.array_equal(got["Out"], want)
    assert np.array_equal(np.take_along_axis(X, got["Indices"], 1), want)


def test_the_largest(run_op):
    got = run_op("top_k", {"X": X}, {"k": 2}, ("Out", "Indices"))
    assert got["Out"].tolist() == [[5, 2], [6, 4]] and got["Indices"].tolist() == [[1, 2], [2, 0]]
    assert run_op("arg_max", {"X": X}, {"axis": 0})["Out"].tolist() == [1, 0, 1]


def test_running_sums(run_op):
    attrs = {"axis": 1, "exclusive": True, "reverse": True}
    assert run_op("cumsum", {"X": X}, attrs)["Out"].tolist() == [[7, 2, 0], [9, 6, 0]]
