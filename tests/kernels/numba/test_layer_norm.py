import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:layer_norm"
ROWS = {0: {0: "N"}}


def forward(x, *affine, **options):
    check_kernel("layer_norm", [x, *affine], kernel=NAME, tol=3e-5, **options)


def backward(x, scale=None, attrs=None, **options):
    """The gradient, with statistics that belong to x, an array."""
    attrs = attrs or {}
    _, mean, inv_std = o.layer_norm(x, **attrs)
    grad = arr(*x.shape).make((7,))
    inputs = [x, mean, inv_std, grad, *([] if scale is None else [scale])]
    check_kernel("layer_norm_grad", inputs, attrs, kernel=NAME, tol=1e-4, **options)


@pytest.mark.parametrize("rows", [1, 2, 3, 65, 130])
@pytest.mark.parametrize("width", [1, 7, 16, 33, 1025])
def test_any_number_of_rows_and_columns(rows, width):
    forward(arr(rows, width), arr(width), arr(width), wide=True, symbolic=ROWS)
    if width > 1:  # the variance of one number is 0: its gradient is rounding errors
        backward(arr(rows, width).make((5,)), arr(width), wide=True)


@pytest.mark.parametrize("affine", [(), (arr(17),), (None, arr(17)), (arr(17), arr(17))])
def test_scale_and_bias_may_be_absent(affine):
    forward(arr(5, 17), *affine, special=True)


def test_without_a_scale_there_is_one_gradient():
    backward(arr(9, 17).make((5,)), special=True)
    backward(arr(9, 17).make((5,)), arr(17), special=True)


def test_several_axes():
    attrs = {"axes": (-2, -1)}
    inputs = [arr(2, 3, 4, 5), arr(4, 5), arr(4, 5)]
    check_kernel("layer_norm", inputs, attrs, kernel=NAME, wide=True, tol=3e-5)
    backward(arr(2, 3, 4, 5).make((3,)), arr(4, 5), attrs)


@pytest.mark.parametrize("mean", [1e4, -3e5])
def test_a_large_mean_does_not_cancel_the_variance_away(mean):
    x = arr(20, 100, low=mean - 1, high=mean + 1).make((1,))
    out = o.layer_norm(x.astype(np.float64))[0]
    assert np.abs(out).max() < 4
    check_kernel("layer_norm", [x], kernel=NAME, wide=True, tol=1e-3)


def test_other_halves_are_left_to_the_reference():
    with pytest.raises(AssertionError, match="not float32"):
        forward(arr(3, 8, dtype="float16"))


@pytest.mark.parametrize("width", [1, 7, 33, 1025])
def test_halves_keep_float32_statistics(width):
    rng = np.random.default_rng(width)
    x, grad = (rng.standard_normal((70, width)).astype("bfloat16") for _ in range(2))
    scale, bias = (rng.standard_normal(width).astype(np.float32) for _ in range(2))
    check_kernel("layer_norm", [x, scale, bias], kernel=NAME, tol=1e-2)
    out, mean, inv_std = o.layer_norm(x, scale, bias)
    assert (out.dtype, mean.dtype, inv_std.dtype) == (x.dtype, np.float32, np.float32)
    if width > 1:
        inputs = [x, mean, inv_std, grad, scale]
        check_kernel("layer_norm_grad", inputs, kernel=NAME, tol=2e-2)
