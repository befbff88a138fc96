"""Convolutions of one tap in bfloat16 beside the reference, and who is left to others."""

import ml_dtypes
import numpy as np
import pytest

from noria.kernels.numba import conv_pairs, tile_sizes
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, ROWS
from noria.kernels.registry import Declined
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

FORWARD, INPUT_GRAD = "numba:conv_pairs", "numba:conv_pairs_input_grad"
MASKED = "numba:conv_pairs_masked_input_grad"
# batch, inputs, outputs, image, stride
CASES = [
    (2, PANEL, PANEL, (5, 7), 1),
    (3, 2 * PANEL, PANEL, (4, 3), 1),
    (2, PANEL, 3 * PANEL, (7, 6), 2),
    (1, PANEL, PANEL, (1, 1), 1),
    (2, PANEL, PANEL, (5, 9), (3, 2)),
    (1, PANEL, PANEL, (2, 3), 4),
    (5, PANEL, PANEL, (13, 11), 1),
    (5, PANEL, PANEL, (21, 23), 2),
]
BOTH = [False, True]
need_worth = conv_pairs.need_worth
needs_pairs = pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")


@pytest.fixture(autouse=True)
def everything(monkeypatch):
    monkeypatch.setattr(conv_pairs, "need_worth", lambda *sizes: None)
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)


def check(case, grad=False, changes=None, **options):
    n, ins, outs, (high, wide), stride = case
    attrs = {"stride": stride} | (changes or {})
    dtype = options.pop("dtype", "bfloat16")
    weight = arr(outs, ins, *options.pop("kernel", (1, 1)), dtype=dtype)
    x = arr(n, ins, high, wide, dtype=dtype)
    options = {"tol": 1e-2, **options}
    if not grad:
        check_kernel("conv2d", [x, weight], attrs, kernel=FORWARD, **options)
        return
    down, across = (stride, stride) if isinstance(stride, int) else stride
    g = arr(n, outs, -(-high // down), -(-wide // across), dtype=dtype)
    attrs |= {"sizes": (high, wide)}
    check_kernel("conv2d_input_grad", [g, weight], attrs, kernel=INPUT_GRAD, **options)


@needs_pairs
@pytest.mark.parametrize("grad", BOTH)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_image_and_stride(case, grad, fast_kernels):
    check(case, grad)


@needs_pairs
@pytest.mark.parametrize("grad", BOTH)
@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=str)
def test_nan_and_infinity_stay_in_their_pixel(case, grad, fast_kernels):
    check(case, grad, special=True)


@needs_pairs
@pytest.mark.parametrize("grad", BOTH)
@pytest.mark.parametrize("block", [1, ROWS - 1, ROWS + 1])
def test_blocks_of_any_size(block, grad, monkeypatch, fast_kernels):
    monkeypatch.setattr(conv_pairs, "BLOCK", block)
    for case in (CASES[1], CASES[2], CASES[5]):
        check(case, grad)


@needs_pairs
@pytest.mark.parametrize("grad", BOTH)
def test_any_batch_and_none(grad, fast_kernels):
    check(CASES[1], grad, symbolic={0: {0: "N"}})


@needs_pairs
@pytest.mark.parametrize(
    "case, changes, why",
    [
        ((1, PANEL, PANEL + 1, (3, 3), 1), {}, "fill panels"),
        ((1, PANEL - 2, PANEL, (3, 3), 1), {}, "fill panels"),
        ((1, PANEL, PANEL, (3, 3), 1), {"padding": 1}, "padded"),
    ],
)
def test_what_is_left_to_others(case, changes, why, fast_kernels):
    with pytest.raises(AssertionError, match=why):
        check(case, changes=changes)


@needs_pairs
def test_more_taps_other_dtypes_and_other_cpus_are_left_too(monkeypatch, fast_kernels):
    with pytest.raises(AssertionError, match="more than one tap"):
        check(CASES[0], kernel=(3, 1))
    with pytest.raises(AssertionError, match="float32"):
        check(CASES[0], dtype="float32")
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", True)
    with pytest.raises(AssertionError, match="matrix units"):
        check(CASES[0])
    monkeypatch.setattr(conv_pairs, "PAIRS", False)
    with pytest.raises(AssertionError, match="multiplies no bfloat16"):
        check(CASES[0], grad=True)


@needs_pairs
def test_results_are_rounded_to_nearest_even(fast_kernels):
    """Sums half way between two numbers, 1 + 2^-8 and 1 + 3 * 2^-8, exact in float32."""
    x = np.zeros((1, PANEL, 1, 2), ml_dtypes.bfloat16)
    x[0, :2, 0] = [[1, 1], [2**-8, 3 * 2**-8]]
    weight = np.ones((PANEL, PANEL, 1, 1), ml_dtypes.bfloat16)
    check_kernel("conv2d", [x, weight], {}, kernel=FORWARD, tol=0)


def test_the_rule_between_these_tiles_and_those_of_onednn():
    for ins in (128, 2048):
        need_worth(ins)
    need_worth(64, masked=True)
    with pytest.raises(Declined, match="so few inputs"):
        need_worth(64)


def check_masked(case, **options):
    n, ins, outs, sizes, stride = case
    small = [-(-size // stride) for size in sizes]
    shapes = (n, outs, *small), (outs, ins, 1, 1), (n, ins, *sizes)
    mask = ints(n, ins // 8, *sizes, high=256, dtype="uint8")
    inputs = [*(arr(*shape, dtype="bfloat16") for shape in shapes), mask]
    attrs = {"sizes": sizes, "stride": stride}
    check_kernel("masked_input_grad", inputs, attrs, kernel=MASKED, **{"tol": 1e-2, **options})


@needs_pairs
@pytest.mark.parametrize("case", [c for c in CASES if c[-1] == 1], ids=str)
def test_another_gradient_is_added_and_masked(case, fast_kernels):
    check_masked(case)
    check_masked(case, special=True)


@needs_pairs
@pytest.mark.parametrize("block", [1, ROWS + 1])
def test_masked_sums_in_blocks_of_any_size(block, monkeypatch, fast_kernels):
    monkeypatch.setattr(conv_pairs, "BLOCK", block)
    check_masked(CASES[1], symbolic={i: {0: "N"} for i in (0, 2, 3)})


@needs_pairs
def test_strided_masked_sums_are_left_to_others(fast_kernels):
    with pytest.raises(AssertionError, match="strided"):
        check_masked((2, PANEL, PANEL, (3, 4), 2))


@needs_pairs
def test_a_masked_sum_is_rounded_once(fast_kernels):
    """1 + 3 * 2^-9 + 2^-8 is 1 + 2^-7; of 1 + 3 * 2^-9 rounded, 1 + 2^-7, it would be 1 + 2^-6."""
    half = ml_dtypes.bfloat16
    g, more = np.zeros((1, PANEL, 1, 1), half), np.full((1, PANEL, 1, 1), 2**-8, half)
    g[0, :2, 0, 0] = [1, 3 * 2**-9]
    mask = np.full((1, PANEL // 8, 1, 1), 255, np.uint8)
    inputs = [g, np.ones((PANEL, PANEL, 1, 1), half), more, mask]
    check_kernel("masked_input_grad", inputs, {"sizes": (1, 1)}, kernel=MASKED, tol=0)
