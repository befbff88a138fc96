import numpy as np

from noria.convert.fluid import packing


def test_rows_are_told_by_counts_or_by_splits():
    counts = np.array([2, 0, 3], np.int32)
    splits = packing.splits_of_counts(counts)
    assert splits.tolist() == [0, 2, 2, 5] and splits.dtype == np.int64
    assert packing.counts_of(splits).tolist() == [2, 0, 3]


def test_columns_and_back():
    x = np.array([1, 2, 3])
    column = packing.column(x, "int32")
    assert column.shape == (3, 1) and column.dtype == np.int32
    assert packing.flat(column).tolist() == packing.flat(x).tolist() == [1, 2, 3]
