"""Products with packed weights, at all sizes around those of tiles, panels and blocks."""

import pytest

from noria.kernels.numba.packed_linear import _blocks
from noria.kernels.numba.tile_sizes import PANEL, ROWS
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, Situation, check_kernel

NAME = "numba:packed_linear"
FIXED = [s for s in SITUATIONS if s.fixed]
FIXED += [Situation(f"fixed inputs, {n} threads", n, fixed=True) for n in (1, 2)]


def check(op, *inputs, **attrs):
    check_kernel(op, [*inputs], attrs, kernel=NAME, tol=1e-4, special=True, situations=FIXED)


@pytest.mark.parametrize("rows", [4, 5, 6, 13, 128, 250])
@pytest.mark.parametrize("outs", [1, 16, 33, 64, 65, 130])
def test_any_number_of_rows_and_outputs(rows, outs):
    check("linear", arr(rows, 9), arr(outs, 9), arr(outs))


@pytest.mark.parametrize("ins", [1, 7, 383, 384, 385, 800])
def test_any_number_of_inputs(ins):
    check("linear", arr(13, ins), arr(70, ins))


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "tanh", "sigmoid"])
def test_what_follows_the_product(activation):
    x, weight = arr(2, 7, 12), arr(66, 12)
    check("fused_linear", x, weight, arr(66), activation=activation)
    check("fused_linear", x, weight, arr(66), arr(2, 7, 66), activation=activation)
    check("fused_linear", x, weight, None, arr(2, 7, 66), activation=activation)


def test_any_batch():
    open_ = {0: {0: "N"}}
    check_kernel("linear", [arr(9, 12), arr(66, 12)], kernel=NAME, situations=FIXED, symbolic=open_)


def test_a_weight_that_changes_and_few_rows_are_left_to_others():
    for rows, situations, why in ((9, SITUATIONS, "changes"), (3, FIXED, "few rows")):
        with pytest.raises(AssertionError, match=why):
            check_kernel("linear", [arr(rows, 4), arr(5, 4)], kernel=NAME, situations=situations)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("rows", [4, 128, 5000])
@pytest.mark.parametrize("outs", [1, 768, 10_000])
def test_every_thread_has_something_to_do(threads, rows, outs):
    panels, blocks = -(-outs // PANEL), _blocks(rows, outs, threads)
    assert 1 <= blocks <= -(-rows // ROWS)
    assert rows / blocks <= 40 * ROWS
    assert panels * blocks >= min(threads, panels * -(-rows // ROWS))
