"""Products of a transposed matrix by a matrix, at all sizes around those of tiles and blocks."""

import pytest

from noria.kernels.numba.conv_weight_grad_source import BY_OUTPUTS, BY_PANELS, BY_PIXELS
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.numba.weight_product import DEPTH, FEW, MANY, MOST_BYTES, sharing
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:weight_product"
TURNED = {"transpose_x": True}


def check(x, y, **more):
    check_kernel("matmul", [x, y], TURNED, kernel=NAME, tol=1e-4, **more)


@pytest.mark.parametrize("outs", [WIDTH, 17, 70, 131])
@pytest.mark.parametrize("ins", [PANEL, PANEL + 1, 3 * PANEL - 2])
def test_any_number_of_outputs_and_inputs(outs, ins):
    check(arr(MANY, outs), arr(MANY, ins), special=True)


@pytest.mark.parametrize("rows", [1, 2, 33, DEPTH, FEW - 1, MANY + 1, 6 * DEPTH - 1, 6 * DEPTH])
def test_any_number_of_rows(rows):
    check(arr(rows, 20), arr(rows, 70), special=True)


@pytest.mark.parametrize("ins", [5, 6, 7, 8, 9, 13, 25])
@pytest.mark.parametrize("cut", [0, 3])
def test_panels_of_even_widths_read_as_they_lie_or_packed(ins, cut):
    check(arr(MANY + 1, 20), arr(MANY + 1, ins * WIDTH - cut), special=True)


def test_so_many_rows_that_threads_share_them():
    rows = 64 * 70
    assert sharing(rows, 20, 70, 2) == BY_PIXELS
    check(arr(rows, 20), arr(rows, 70))


def test_threads_get_equal_parts():
    assert sharing(4096, 400, 429, 2) == BY_OUTPUTS  # 4 panels and 3 would not be equal
    assert sharing(4096, 512, 512, 2) == BY_PANELS


def test_any_batch():
    open_ = {0: {0: "N"}, 1: {0: "N"}}
    for rows in (30, MANY):
        check(arr(rows, 40), arr(rows, 66), symbolic=open_)


@pytest.mark.parametrize(
    ("x", "y", "attrs", "why"),
    [
        ((FEW, 64), (FEW, 64), TURNED, "as many rows"),
        ((MANY - 1, 64), (MANY - 1, 64), TURNED, "as many rows"),
        ((MANY, WIDTH - 1), (MANY, 64), TURNED, "narrow"),
        ((MANY, 64), (MANY, PANEL - 1), TURNED, "narrow"),
        ((MANY, MOST_BYTES // 4 // 2048 + 1), (MANY, 2048), TURNED, "large"),
        ((64, MANY), (MANY, 64), {}, "not only x is transposed"),
        ((2, MANY, 64), (2, MANY, 64), TURNED, "not two matrices"),
    ],
)
def test_other_products_are_left_to_others(x, y, attrs, why):
    with pytest.raises(AssertionError, match=why):
        check_kernel("matmul", [arr(*x), arr(*y)], attrs, kernel=NAME)
