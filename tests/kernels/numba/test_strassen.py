"""Strassen's products against float64, and what he leaves to direct sums."""

import numpy as np
import pytest

from noria.core.flags import flags
from noria.kernels.numba.packed_linear import MOST_ROWS
from noria.kernels.numba.strassen import worth
from noria.kernels.numba.strassen_source import APART, DEPTH
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, Situation, check_kernel

NAME = "numba:strassen"
FIXED = [s for s in SITUATIONS if s.fixed]
FIXED += [Situation(f"fixed inputs, {n} threads", n, fixed=True) for n in (1, 2)]
INS, OUTS = 4 * WIDTH, 4 * PANEL


@pytest.fixture(autouse=True)
def everywhere():
    """However small the sizes are."""
    with flags.set(strassen="1"):
        yield


def check(op, *inputs, **attrs):
    options = {"tol": 1e-4, "special": True, "situations": FIXED}
    check_kernel(op, [*inputs], attrs, kernel=NAME, **options)


@pytest.mark.parametrize("rows", [4, 5, 13, 24, 31, 64, 127, 128, MOST_ROWS + 1, 2 * MOST_ROWS + 7])
def test_any_number_of_rows(rows):
    check("linear", arr(rows, INS), arr(OUTS, INS), arr(OUTS))


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
@pytest.mark.parametrize("ins", [2 * WIDTH, 2 * DEPTH, 2 * DEPTH + 2 * WIDTH])
def test_any_number_of_panels_and_inputs(pairs, ins):
    check("linear", arr(13, ins), arr(2 * pairs * PANEL, ins))


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "tanh", "sigmoid"])
def test_what_follows_the_product(activation):
    x, weight, bias, residual = arr(2, 7, INS), arr(OUTS, INS), arr(OUTS), arr(2, 7, OUTS)
    check("fused_linear", x, weight, bias, activation=activation)
    check("fused_linear", x, weight, bias, residual, activation=activation)
    check("fused_linear", x, weight, None, residual, activation=activation)
