"""Products of a transposed matrix by a matrix, at all sizes around those of tiles and blocks."""

import pytest

from noria.kernels.numba.conv_weight_grad_source import BY_OUTPUTS, BY_PANELS, BY_PIXELS
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.numba.weight_product import DEPTH, LEAST_ROWS, MOST_BYTES, sharing
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:weight_product"
TURNED = {"transpose_x": True}


def check(x, y, **more):
    check_kernel("matmul", [x, y], TURNED, kernel=NAME, tol=1e-4, **more)


@pytest.mark.parametrize("outs", [WIDTH, 17, 70, 131])
@pytest.mark.parametrize("ins", [PANEL, PANEL + 1, 3 * PANEL - 2])
def test_any_number_of_outputs_and_inputs(outs, ins):
    check(arr(LEAST_ROWS, outs), arr(LEAST_ROWS, ins), special=True)


@pytest.mark.parametrize("rows", [LEAST_ROWS + 1, 6 * DEPTH - 1, 6 * DEPTH])
def test_any_number_of_rows(rows):
    check(arr(rows, 20), arr(rows, 70), special=True)


def test_so_many_rows_that_threads_share_them():
    rows = 64 * 70
    assert sharing(rows, 20, 70, 2) == BY_PIXELS
    check(arr(rows, 20), arr(rows, 70))


def test_threads_get_equal_parts():
    assert sharing(4096, 400, 429, 2) == BY_OUTPUTS  # 4 panels and 3 would not be equal
    assert sharing(4096, 512, 512, 2) == BY_PANELS


def test_any_batch():
    open_ = {0: {0: "N"}, 1: {0: "N"}}
    check(arr(LEAST_ROWS, 40), arr(LEAST_ROWS, 66), symbolic=open_)


@pytest.mark.parametrize(
    ("x", "y", "attrs", "why"),
    [
        ((LEAST_ROWS - 1, 64), (LEAST_ROWS - 1, 64), TURNED, "small"),
        ((LEAST_ROWS, WIDTH - 1), (LEAST_ROWS, 64), TURNED, "small"),
        ((LEAST_ROWS, 64), (LEAST_ROWS, PANEL - 1), TURNED, "small"),
        ((LEAST_ROWS, MOST_BYTES // 4 // 2048 + 1), (LEAST_ROWS, 2048), TURNED, "large"),
        ((64, LEAST_ROWS), (LEAST_ROWS, 64), {}, "not only x is transposed"),
        ((2, LEAST_ROWS, 64), (2, LEAST_ROWS, 64), TURNED, "not two matrices"),
    ],
)
def test_other_products_are_left_to_others(x, y, attrs, why):
    with pytest.raises(AssertionError, match=why):
        check_kernel("matmul", [arr(*x), arr(*y)], attrs, kernel=NAME)
