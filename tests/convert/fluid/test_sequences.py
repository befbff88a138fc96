import numpy as np
import pytest

from noria.convert.fluid.handlers import Lod
from noria.core.errors import ArgumentError, ProgramError

X = np.arange(12, dtype=np.float32).reshape(6, 2)
SPLITS = np.array([0, 2, 2, 6])
RAGGED = Lod(X, (SPLITS,))


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("AVERAGE", [[1, 2], [9, 9], [7, 8]]),
        ("SUM", [[2, 4], [9, 9], [28, 32]]),
        ("SQRT", [[2 / 2**0.5, 4 / 2**0.5], [9, 9], [14, 16]]),
        ("MAX", [[2, 3], [9, 9], [10, 11]]),
        ("LAST", [[2, 3], [9, 9], [10, 11]]),
        ("FIRST", [[0, 1], [9, 9], [4, 5]]),
    ],
)
def test_rows_are_pooled_and_empty_ones_padded(run_op, kind, rows):
    got = run_op("sequence_pool", {"X": RAGGED}, {"pooltype": kind, "pad_value": 9.0})
    assert np.allclose(got["Out"], rows)


def test_the_last_level_is_pooled(run_op):
    nested = Lod(X, (np.array([0, 1, 3]), SPLITS))
    got = run_op("sequence_pool", {"X": nested}, {"pooltype": "SUM"})
    assert got["Out"].tolist() == [[2, 4], [0, 0], [28, 32]]
    assert got["Out.row_splits"].tolist() == [0, 1, 3]


def test_the_first_of_the_largest_is_told(run_op):
    x = np.array([[1, 5], [3, 5], [3, 0]], np.float32)
    given = {"X": Lod(x, (np.array([0, 0, 3]),))}
    got = run_op("sequence_pool", given, {"pooltype": "MAX"}, ("Out", "MaxIndex"))
    assert got["MaxIndex"].tolist() == [[-1, -1], [1, 0]]


def test_steps_are_cut_out_of_rows(run_op):
    given = {"X": RAGGED, "Offset": np.array([[1], [0], [0]]), "Length": np.array([[1], [0], [3]])}
    got = run_op("sequence_slice", given)
    assert got["Out"].tolist() == X[[1, 2, 3, 4]].tolist()
    assert got["Out.row_splits"].tolist() == [0, 1, 1, 4]


def test_nested_rows_are_padded_from_the_outside(run_op):
    nested = Lod(X, (np.array([0, 2, 3]), SPLITS))
    given = {"X": nested, "PadValue": np.zeros(1, np.float32)}
    got = run_op("sequence_pad", given, {"padded_length": 5}, ("Out", "Length"))
    assert got["Length"].tolist() == [2, 4] and got["Out"].shape == (2, 5, 2)


def test_a_mask_takes_its_width_from_the_data(run_op):
    got = run_op("sequence_mask", {"X": np.array([1, 3])}, {"maxlen": -1, "out_dtype": 2}, ("Y",))
    assert got["Y"].tolist() == [[1, 0, 0], [1, 1, 1]]


def test_a_dense_value_is_no_ragged_one(run_op):
    with pytest.raises(ProgramError, match="ragged"):
        run_op("sequence_reverse", {"X": X}, {}, ("Y",))


def test_an_unknown_pool_is_refused(run_op):
    with pytest.raises(ArgumentError, match="pooltype"):
        run_op("sequence_pool", {"X": RAGGED}, {"pooltype": "MEDIAN"})


@pytest.mark.parametrize("size", [0, -1, 1 << 30])
def test_a_window_no_text_has_is_refused(run_op, size):
    ids = Lod(np.ones((6, 1), np.int64), (SPLITS,))
    with pytest.raises(ArgumentError, match="win_size"):
        run_op("sequence_enumerate", {"X": ids}, {"win_size": size, "pad_value": 0})
