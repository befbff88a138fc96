import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ops.fused_bag import fused_bag
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case
from tests.ops.test_embedding import SPLITS, bag


def fused(mode="sum"):
    return lambda table, ids, splits, weights: bag(table, ids, weights, splits, mode).astype(
        table.dtype
    )


def bags(*inputs, mode="sum", **how):
    how = {"expect": fused(mode)} | how
    return Case("fused_bag", [*inputs, None, None][:4], {"mode": mode}, **how)


CASES = [
    bags(arr(5, 3), ints(4, 3, high=5), symbolic={1: {0: "N"}}, grad2=True),
    bags(arr(5, 3), ints(4, 3, high=5), mode="mean"),
    bags(arr(9, 3, distinct=True), np.array([[0, 4, 8], [1, 2, 3]]), mode="max"),
    bags(arr(5, 3), ints(4, 3, high=5), None, arr(4, 3)),
    bags(arr(5, 3), ints(9, high=5), SPLITS),
    bags(arr(12, 2, distinct=True), np.arange(9), SPLITS, mode="max"),
    bags(arr(5, 3), ints(9, high=5), SPLITS.astype(np.int32), arr(9)),
    bags(arr(5, 3, dtype="bfloat16"), ints(4, 3, high=5)),
    bags(arr(5, 3), ints(2, 0)),
    bags(arr(5, 2, 3), ints(2, 3, high=5), expect=lambda t, i, *_: t[i].sum(1)),
    bags(arr(5), ints(2, 4, 3, high=5), expect=lambda t, i, *_: t[i].sum(2)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_what_is_no_bag_is_refused():
    table, ids = np.ones((5, 2)), np.zeros((2, 3), int)
    with pytest.raises(ArgumentError, match="packed bags"):
        fused_bag(table, ids[0], np.array([0, 3]), mode="mean")
    with pytest.raises(ArgumentError, match="mode"):
        fused_bag(table, ids, mode="min")
    with pytest.raises(ShapeError, match="weights"):
        fused_bag(table, ids, None, np.ones(3))
    with pytest.raises(DTypeError):
        fused_bag(table, ids, None, ids)
    with pytest.raises(ArgumentError, match="outside the table"):
        fused_bag(table, ids + 5)
