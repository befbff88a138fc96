"""Sparse and dense rows in Caffe2."""

from typing import Any

import numpy as np

LENGTHS = np.array([2, 0, 3], np.int32)


def test_sparse_rows_become_dense(run: Any) -> None:
    ids, values = np.array([1, 0, 2, 2, 0]), np.arange(5, dtype=np.float32)
    dense = run("BatchSparseToDense", LENGTHS, ids, values, dense_last_dim=3, default_value=-1.0)
    assert dense[0].tolist() == [1, 0, -1] and dense[1].tolist() == [-1] * 3
    assert run("SparseToDense", ids, values).tolist() == [5, 0, 5]
    default = np.float32(7)
    out, there = run("SparseToDenseMask", ids, values, default, LENGTHS, mask=[2, 1], outputs=2)
    assert out.tolist()[:2] == [[7, 0], [7, 7]] and there[0].tolist() == [False, True]


def test_dense_rows_become_sparse(run: Any) -> None:
    dense, ids = np.arange(9, dtype=np.float32).reshape(3, 3), np.array([2, 0, 1, 1, 2])
    assert run("BatchDenseToSparse", LENGTHS, ids, dense).tolist() == [2, 0, 7, 7, 8]


def test_whole_rows_are_dropped(run: Any) -> None:
    ids = np.arange(5)
    same = run("SparseDropoutWithReplacement", ids, LENGTHS, ratio=0.0, outputs=2)
    assert np.array_equal(same[0], ids) and np.array_equal(same[1], LENGTHS)
    gone = run(
        "SparseDropoutWithReplacement", ids, LENGTHS, ratio=1.0, replacement_value=-7, outputs=2
    )
    assert gone[0].tolist() == [-7] * 3 and gone[1].tolist() == [1] * 3
