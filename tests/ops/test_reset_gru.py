"""The gated recurrent unit that resets before its product, against a loop over single rows."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.reset_gru import gru_reset_before
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 6])
H, T, N = 3, 6, 4


def gru(reverse):
    def apply(x, weight, splits, h0=None):
        size = weight.shape[1]
        h_all, gates = np.zeros((len(x), size)), np.zeros((len(x), 3 * size))
        for n, (a, b) in enumerate(itertools.pairwise(splits)):
            h = np.zeros(size) if h0 is None else h0[n]
            for p in reversed(range(a, b)) if reverse else range(a, b):
                r = expit(x[p, :size] + weight[:size] @ h)
                z = expit(x[p, size : 2 * size] + weight[size : 2 * size] @ h)
                new = np.tanh(x[p, 2 * size :] + weight[2 * size :] @ (r * h))
                h = (1 - z) * new + z * h
                h_all[p], gates[p] = h, np.concatenate([r, z, new])
        return h_all, gates

    return apply


OPEN = {0: {1: "3*H"}, 1: {0: "3*H", 1: "H"}}
X, W, STEPS, STATE = arr(T, 3 * H), arr(3 * H, H), arr(T, H), arr(N, H)
CASES = [
    Case("gru_reset_before", [X, W, SPLITS], expect=gru(False), symbolic=OPEN),
    Case("gru_reset_before", [X, W, SPLITS, STATE], {"reverse": True}, expect=gru(True), id="back"),
    Case("gru_reset_before", [arr(2, 3), arr(3, 1), np.array([0, 2])], grad2=True),
    Case("gru_reset_before", [arr(0, 9), W, np.array([0, 0])], expect=gru(False), id="empty"),
    Case(
        "gru_reset_before_grad",
        [arr(T, 3 * H, low=0, high=1), STEPS, W, SPLITS, STEPS, STATE],
        {"reverse": True},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_wrong_sizes_and_splits_are_told():
    x, weight = X.make((1,)), W.make((2,))
    with pytest.raises(ShapeError, match="weight"):
        gru_reset_before(x, weight[:-1], SPLITS)
    with pytest.raises(ArgumentError, match="row_splits"):
        gru_reset_before(x, weight, np.array([0, 9]))
