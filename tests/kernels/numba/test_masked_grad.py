"""Masked sums behind a convolution's gradient, by whichever kernel gives that."""

import pytest

from noria.kernels.numba import inner
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

NAME = "numba:masked_input_grad"
# batch, channels of the gradient and of the input, its sizes, kernel, attributes
CASES = [
    (2, 5, 16, (5, 7), 1, {}),
    (2, 48, 32, (6, 5), 3, {"padding": 1}),
    (3, 16, 48, (7, 6), 1, {"stride": 2}),
    (1, 4, 16, (1, 1), 1, {}),
]


def inputs_of(case, dtype):
    n, outs, ins, sizes, kernel, how = case
    step, pads = how.get("stride", 1), 2 * how.get("padding", 0)
    small = [(size + pads - kernel) // step + 1 for size in sizes]
    weight = arr(outs, ins, kernel, kernel, dtype=dtype)
    mask = ints(n, -(-ins // 8), *sizes, high=256, dtype="uint8")
    attrs = {"sizes": sizes, **how}
    more = arr(n, ins, *sizes, dtype=dtype)
    return [arr(n, outs, *small, dtype=dtype), weight, more, mask], attrs


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_convolution(case, dtype, fast_kernels):
    tol = 2e-2 if dtype == "bfloat16" else None
    check_kernel("masked_input_grad", *inputs_of(case, dtype), kernel=NAME, tol=tol)


def test_any_batch_and_none(fast_kernels):
    rows = {i: {0: "N"} for i in (0, 2, 3)}
    check_kernel("masked_input_grad", *inputs_of(CASES[1], "float32"), kernel=NAME, symbolic=rows)


def test_nan_and_infinity(fast_kernels):
    check_kernel("masked_input_grad", *inputs_of(CASES[0], "float32"), kernel=NAME, special=True)


def test_what_is_left_to_others(fast_kernels):
    odd = inputs_of((2, 5, 24, (3, 3), 1, {}), "float32")
    with pytest.raises(AssertionError, match="multiple of 16"):
        check_kernel("masked_input_grad", *odd, kernel=NAME)
    with pytest.raises(AssertionError, match="float64"):
        check_kernel("masked_input_grad", *inputs_of(CASES[0], "float64"), kernel=NAME)


def test_without_a_kernel_of_the_convolution_there_is_none(monkeypatch, fast_kernels):
    monkeypatch.setattr(inner, "kernels", lambda: [])
    with pytest.raises(AssertionError, match="no kernel of conv2d_input_grad"):
        check_kernel("masked_input_grad", *inputs_of(CASES[0], "float32"), kernel=NAME)
