"""Products of few rows by a matrix that changes, at all sizes around those of tiles and panels."""

import pytest

from noria.kernels.numba.few_rows import DEPTH, FEW
from noria.kernels.numba.row_product import LIGHT
from noria.kernels.numba.tile_sizes import PANEL, ROWS
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, check_kernel

NAME = "numba:few_rows"
INS = 350
OUTS = LIGHT // INS + 1
HOW = {"kernel": NAME, "tol": 1e-4, "situations": [s for s in SITUATIONS if not s.fixed]}


def check(op, *inputs, **attrs):
    check_kernel(op, [*inputs], attrs, special=True, **HOW)


@pytest.mark.parametrize("rows", [1, 2, ROWS, ROWS + 1, 80, FEW - 1])
@pytest.mark.parametrize("outs", [OUTS, 4 * PANEL, 5 * PANEL - 1])
def test_any_number_of_rows_and_outputs(rows, outs):
    check("linear", arr(rows, INS), arr(outs, INS), arr(outs))


@pytest.mark.parametrize("ins", [DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 5])
def test_any_number_of_inputs(ins):
    outs = LIGHT // ins + 2
    check("fused_linear", arr(9, ins), arr(outs, ins), arr(outs), activation="relu")


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "tanh", "sigmoid"])
def test_what_follows_the_product(activation):
    x, weight = arr(3, 5, INS), arr(OUTS, INS)
    check("fused_linear", x, weight, arr(OUTS), activation=activation)
    check("fused_linear", x, weight, arr(OUTS), arr(3, 5, OUTS), activation=activation)
    check("fused_linear", x, weight, None, arr(3, 5, OUTS), activation=activation)


def test_a_product_by_a_transposed_matrix():
    check("matmul", arr(2, 9, INS), arr(OUTS, INS), transpose_y=True)


def test_any_batch():
    check_kernel("linear", [arr(9, INS), arr(OUTS, INS)], symbolic={0: {0: "N"}}, **HOW)


@pytest.mark.parametrize(
    ("x", "y", "attrs", "why"),
    [
        ((FEW, INS), (OUTS, INS), {"transpose_y": True}, "many rows"),
        ((9, 64), (64, 64), {"transpose_y": True}, "the matrix is small"),
        ((9, INS), (INS, OUTS), {}, "not the matrix alone"),
        ((INS, 9), (OUTS, INS), {"transpose_x": True, "transpose_y": True}, "not the matrix alone"),
        ((2, 9, 64), (2, 64, 64), {}, "not rows by a matrix"),
    ],
)
def test_other_products_are_left_to_others(x, y, attrs, why):
    with pytest.raises(AssertionError, match=why):
        check_kernel("matmul", [arr(*x), arr(*y)], attrs, **HOW)


def test_a_matrix_that_never_changes_is_packed_once_instead():
    fixed = [s for s in SITUATIONS if s.fixed]
    with pytest.raises(AssertionError, match="never changes"):
        check_kernel("linear", [arr(9, INS), arr(OUTS, INS)], kernel=NAME, situations=fixed)
