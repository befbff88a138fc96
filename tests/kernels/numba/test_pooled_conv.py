import pytest

from noria.kernels.numba.pooled_sizes import MOST_ELEMENTS
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

HOW = [
    ((5, 5), {"pool_kernel": 2}),
    ((3, 3), {"pool_kernel": 2, "padding": 1}),
    ((3, 2), {"pool_kernel": (1, 2), "stride": (2, 1), "padding": (2, 1)}),
    ((1, 4), {"pool_kernel": 3}),
    ((2, 2), {"pool_kernel": 2, "pool_stride": 3, "padding": (0, 1, 2, 0)}),
    ((1, 1), {"pool_kernel": 1}),
    ((4, 3), {"pool_kernel": (MOST_ELEMENTS, 1), "padding": "same"}),
]
ids = [str(k) for k in range(len(HOW))]


def pooled(shape, outs, kernel, how, bias=True, **more):
    inputs = [arr(*shape), arr(outs, shape[1], *kernel), *([arr(outs)] if bias else [])]
    check_kernel("pooled_conv2d", inputs, how, kernel="numba:pooled_conv", **more)


@pytest.mark.parametrize("how", HOW, ids=ids)
@pytest.mark.parametrize("ins", [1, 3])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_any_windows(how, ins, activation):
    kernel, rest = how
    pooled((3, ins, 14, 13), 7, kernel, {**rest, "activation": activation})


@pytest.mark.parametrize("outs", [1, 16, 17, 32, 50, 65, 130])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_any_number_of_outputs_and_images(outs, images):
    how = {"pool_kernel": 2, "padding": 1, "activation": "relu"}
    pooled((images, 2, 9, 17), outs, (3, 3), how, symbolic={0: {0: "N"}})


def test_no_bias():
    pooled((2, 1, 12, 12), 20, (5, 5), {"pool_kernel": 2}, bias=False)


def test_nan_and_infinities_take_the_place_they_would_take():
    how = {"pool_kernel": 2, "activation": "relu"}
    pooled((2, 1, 9, 9), 20, (2, 2), how, special=True)
    pooled((2, 1, 9, 9), 20, (2, 2), {"pool_kernel": 3}, special=True)


def test_an_activation_that_is_no_bound_is_declined():
    with pytest.raises(AssertionError, match="not a bound"):
        pooled((1, 1, 6, 6), 3, (3, 3), {"pool_kernel": 2, "activation": "tanh"})
