import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ops.weight_grads import weight_grads
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def expected(*given, sums):
    dy, *xs = given
    return (*(dy.T @ x for x in xs), *[dy.sum(0)] * sums)


def grads(*inputs, bias=False, **how):
    how = {"expect": lambda *given: expected(*given, sums=bias)} | how
    return Case("weight_grads", list(inputs), {"bias": bias}, **how)


CASES = [
    grads(arr(5, 3), arr(5, 2), symbolic={0: {0: "N"}, 1: {0: "N"}}, grad2=True),
    grads(arr(5, 3), arr(5, 2), arr(5, 4), bias=True),
    grads(arr(0, 3), arr(0, 2), bias=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_what_are_no_gradients_is_refused():
    dy = np.ones((4, 3), np.float32)
    with pytest.raises(ArgumentError, match="one x or more"):
        weight_grads(dy)
    with pytest.raises(ShapeError, match="matrices"):
        weight_grads(dy, np.ones((4, 3, 2), np.float32))
    with pytest.raises(ShapeError, match="rows"):
        weight_grads(dy, np.ones((5, 2), np.float32))
    with pytest.raises(DTypeError):
        weight_grads(dy.astype(int), dy.astype(int))
