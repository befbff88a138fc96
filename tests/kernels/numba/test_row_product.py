"""Products of many rows, at all sizes around those of tiles, panels and blocks."""

import pytest

from noria.kernels.numba.row_product import BLOCK, DEPTH, LEAST_ROWS, LIGHT
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:row_product"
ROWS = LEAST_ROWS + 1


def check(op, *inputs, **attrs):
    check_kernel(op, [*inputs], attrs, kernel=NAME, tol=1e-4, special=True)


@pytest.mark.parametrize("rows", [LEAST_ROWS, ROWS, 8 * BLOCK, 8 * BLOCK + 5])
@pytest.mark.parametrize("outs", [32, 64, 70, 80, 96, 112, 144, 150])
def test_any_number_of_rows_and_outputs(rows, outs):
    check("linear", arr(rows, 33), arr(outs, 33), arr(outs))


@pytest.mark.parametrize("ins", [32, 47, DEPTH - 1, DEPTH, DEPTH + 1])
def test_any_number_of_inputs(ins):
    check("linear", arr(ROWS, ins), arr(35, ins), arr(35))


@pytest.mark.parametrize("rows", [1, 2, 13, 80, LEAST_ROWS - 1])
@pytest.mark.parametrize(
    ("ins", "outs"), [(1, 1), (5, 17), (300, 3), (3, 300), (256, LIGHT // 256)]
)
def test_any_number_of_rows_of_a_light_weight(rows, ins, outs):
    check("linear", arr(rows, ins), arr(outs, ins), arr(outs))
    check("matmul", arr(rows, ins), arr(ins, outs))


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_as_it_is_or_transposed(turned):
    y = arr(70, 40) if turned else arr(40, 70)
    check("matmul", arr(2, ROWS, 40), y, transpose_y=turned)


@pytest.mark.parametrize("outs", [48, 112, 150, 512, 528])
@pytest.mark.parametrize("ins", [40, DEPTH + 3])
def test_a_matrix_read_as_it_lies_or_packed(ins, outs):
    check("matmul", arr(ROWS, ins), arr(ins, outs))


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "tanh", "sigmoid"])
def test_what_follows_the_product(activation):
    x, weight = arr(3, 260, 40), arr(66, 40)
    check("fused_linear", x, weight, arr(66), activation=activation)
    check("fused_linear", x, weight, arr(66), arr(3, 260, 66), activation=activation)
    check("fused_linear", x, weight, None, arr(3, 260, 66), activation=activation)


def test_what_follows_a_product_of_several_depths():
    x, weight = arr(ROWS, DEPTH + 40), arr(33, DEPTH + 40)
    check("fused_linear", x, weight, arr(33), arr(ROWS, 33), activation="relu")


def test_any_batch():
    open_ = {0: {0: "N"}}
    check_kernel("linear", [arr(ROWS, 40), arr(66, 40)], kernel=NAME, symbolic=open_)


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ((LEAST_ROWS - 1, 512), (512, 129), "large for few rows"),
        ((ROWS, 31), (31, 64), "small"),
        ((ROWS, 64), (64, 31), "small"),
        ((ROWS, 1024), (1024, 2112), "large"),
        ((2, 400, 64), (2, 64, 64), "not rows by a matrix"),
    ],
)
def test_other_products_are_left_to_others(x, y, why):
    with pytest.raises(AssertionError, match=why):
        check_kernel("matmul", [arr(*x), arr(*y)], kernel=NAME)


def test_a_transposed_x_is_left_to_others():
    with pytest.raises(AssertionError, match="x is transposed"):
        check_kernel("matmul", [arr(64, ROWS), arr(64, 64)], {"transpose_x": True}, kernel=NAME)
