"""Several products of one gradient, at all sizes around those of tiles and blocks."""

import pytest

from noria.kernels.numba.conv_weight_grad_source import BY_OUTPUTS, BY_PANELS
from noria.kernels.numba.tile_sizes import PANEL, ROWS
from noria.kernels.numba.weight_grads import DEPTH, sharing
from noria.testing.case import arr
from noria.testing.kernel import check_kernel


def check(rows, outs, *widths, bias=True, **more):
    inputs = [arr(rows, outs), *(arr(rows, width) for width in widths)]
    check_kernel(
        "weight_grads", inputs, {"bias": bias}, kernel="numba:weight_grads", tol=1e-4, **more
    )


@pytest.mark.parametrize("outs", [1, 5, 16, 17, 70, 131])
@pytest.mark.parametrize("widths", [(1, 7), (PANEL, 17), (PANEL + 1, 3 * PANEL - 2, 5)])
def test_any_number_of_outputs_and_inputs(outs, widths):
    check(DEPTH + 3, outs, *widths, special=True)


@pytest.mark.parametrize("rows", [1, 3, DEPTH - 1, DEPTH, 2 * DEPTH + 2])
@pytest.mark.parametrize("bias", [False, True])
def test_any_number_of_rows(rows, bias):
    check(rows, 20, 70, 66, bias=bias)


def test_one_product_and_its_sums():
    check(300, 97, 130)


def test_any_batch():
    check(200, 40, 66, 20, symbolic={0: {0: "N"}, 1: {0: "N"}, 2: {0: "N"}})


def test_panels_are_shared_where_outputs_are_few():
    assert sharing(512, 4, 2) == BY_OUTPUTS
    assert sharing(ROWS, 4, 2) == BY_PANELS
    check(2 * DEPTH, ROWS, 2 * PANEL, 2 * PANEL)
