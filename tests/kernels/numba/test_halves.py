"""Products of halves by kernels of float32, as on a CPU that has no instructions for halves."""

import pytest

from noria.core.flags import flags
from noria.kernels.numba import halves
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

KERNEL = "numba:halves"
WEIGHT = {"kernel": (3, 3), "padding": 1}
IMAGE = {"sizes": (9, 8), "padding": 1}
X, W, G = (2, 5, 9, 8), (20, 5, 3, 3), (2, 20, 9, 8)


def half(*shape):
    return arr(*shape, dtype="bfloat16")


@pytest.fixture(autouse=True)
def narrow(monkeypatch, fast_kernels):
    monkeypatch.setattr(halves, "WIDE", False)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("matmul", [half(7, 33), half(33, 5)], {}),
        ("matmul", [half(3, 40, 9), half(3, 11, 40)], {"transpose_x": True, "transpose_y": True}),
        ("linear", [half(900, 40), half(70, 40), arr(70)], {}),
        ("fused_linear", [half(6, 40), half(70, 40), arr(70), None], {"activation": "relu"}),
        ("conv1d", [half(2, 3, 17), half(4, 3, 3)], {}),
        ("conv2d", [half(*X), half(*W), arr(20)], {"padding": 1}),
        ("conv2d", [half(2, 32, 9, 8), half(32, 32, 3, 3)], {"padding": 1}),
        ("conv2d", [half(2, 8, 9, 8), half(8, 1, 3, 3)], {"padding": 1, "groups": 8}),
        ("conv2d_input_grad", [half(*G), half(*W)], IMAGE),
        ("conv2d_weight_grad", [half(*X), half(*G)], WEIGHT),
        ("conv_transpose2d", [half(2, 4, 5, 6), half(4, 6, 3, 3)], {"stride": 2}),
    ],
)
def test_the_result_is_that_of_float32_rounded_once(op, inputs, attrs):
    check_kernel(op, inputs, attrs, kernel=KERNEL)


def test_nan_and_infinities_stay_where_they_belong():
    check_kernel("conv2d", [half(*X), half(*W)], {"padding": 1}, kernel=KERNEL, special=True)
    check_kernel("matmul", [half(7, 33), half(33, 5)], kernel=KERNEL, special=True)


def test_what_it_leaves_to_others(monkeypatch):
    halves_of = [half(7, 33), half(33, 5)]
    with pytest.raises(AssertionError, match="nothing is bfloat16"):
        check_kernel("matmul", [arr(7, 33), arr(33, 5)], kernel=KERNEL)
    with pytest.raises(AssertionError, match="no kernel of float32"):
        check_kernel("matmul", [half(33), half(33)], kernel=KERNEL)
    with flags.set(kernels="reference"), pytest.raises(AssertionError, match="no kernel of float"):
        check_kernel("matmul", halves_of, kernel=KERNEL)
    monkeypatch.setattr(halves, "WIDE", True)
    with pytest.raises(AssertionError, match="oneDNN multiplies halves"):
        check_kernel("matmul", halves_of, kernel=KERNEL)
