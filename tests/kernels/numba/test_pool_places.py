import numpy as np
import pytest

from noria.kernels.numba import pool
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.max_places import max_pool1d_places, max_pool2d_places
from noria.testing.case import arr
from noria.testing.kernel import check_kernel
from tests.kernels.numba.test_pool import MAX, image, text

NAME = "numba:pool_places"
BATCH = {0: {0: "N"}}
BOTH = {0: {0: "N"}, 1: {0: "N"}}
MORE = [
    {"kernel": 2, "stride": 3, "dilation": 2, "padding": 1},
    {"kernel": 3, "stride": 2, "dilation": 2, "padding": 2, "ceil_mode": True},
    {"kernel": (3, 2), "stride": (1, 4), "dilation": (2, 3), "padding": (0, 3)},
    {"kernel": 7, "stride": 1, "padding": 3},
]


def spread(x, attrs, dtype="float32", **more):
    """Check the gradient for a picture, or a sequence."""
    n = x.ndim - 2
    _, places = (max_pool1d_places, max_pool2d_places)[n - 1](x, **attrs)
    how = {**attrs, "sizes": x.shape[2:]}
    inputs = [arr(*places.shape, dtype=dtype), places]
    check_kernel(f"max_pool{n}d_spread", inputs, how, kernel=NAME, **more)


@pytest.mark.parametrize("attrs", [*MAX, *MORE], ids=text)
@pytest.mark.parametrize("ties", [False, True])
def test_the_largest_where_it_stands_and_the_way_back(attrs, ties):
    x = image(2, 3, 11, 13, ties=ties)
    symbolic = None if ties else BATCH
    check_kernel("max_pool2d_places", [x], attrs, kernel=NAME, symbolic=symbolic, tol=0.0)
    spread(x if ties else x.make((3,)), attrs, symbolic=None if ties else BOTH)


@pytest.mark.parametrize("channels", [1, 7, 17, 64])
@pytest.mark.parametrize("batch", [1, 5])
def test_any_number_of_channels_and_images(channels, batch):
    x = image(batch, channels, 6, 5, ties=True)
    for attrs in ({"kernel": 3, "stride": 2, "padding": 1}, {"kernel": 2}):
        check_kernel("max_pool2d_places", [x], attrs, kernel=NAME, tol=0.0)
        spread(x, attrs)


@pytest.mark.parametrize("attrs", [{"kernel": 2}, {"kernel": 3, "stride": 1, "padding": 1}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_nan_is_the_largest_and_minus_infinity_is_something(attrs, dtype):
    x = arr(2, 3, 7, 8, dtype=dtype).make((1,))
    x.reshape(-1)[::11] = np.nan
    x.reshape(-1)[5::17] = -np.inf
    x[1, 2] = -np.inf
    x[1, 1] = np.nan
    check_kernel("max_pool2d_places", [x], attrs, kernel=NAME, tol=0.0)
    spread(x, attrs, dtype)


def test_gradients_that_are_nan_or_infinite_go_where_they_belong():
    x = arr(2, 3, 7, 8).make((1,))
    for attrs in ({"kernel": 2}, {"kernel": 3, "stride": 2, "padding": 1}):
        _, places = max_pool2d_places(x, **attrs)
        grad = arr(*places.shape).make((2,))
        grad.reshape(-1)[::7] = np.nan
        grad.reshape(-1)[3::11] = np.inf
        how = {**attrs, "sizes": (7, 8)}
        check_kernel("max_pool2d_spread", [grad, places], how, kernel=NAME)


def test_windows_of_nothing_but_padding_have_no_place():
    x, attrs = arr(1, 2, 3, 3).make((0,)), {"kernel": 2, "dilation": 5, "padding": 3}
    out, places = max_pool2d_places(x, **attrs)
    assert (places == 255).any() and np.isneginf(out[places == 255]).all()
    check_kernel("max_pool2d_places", [x], attrs, kernel=NAME, tol=0.0)
    spread(x, attrs)


@pytest.mark.parametrize("attrs", [MAX[2], MAX[7], MORE[0], MORE[1]], ids=text)
def test_bfloat16(attrs):
    x = arr(2, 3, 11, 13, dtype="bfloat16")
    check_kernel("max_pool2d_places", [x], attrs, kernel=NAME, symbolic=BATCH, tol=0.0)
    spread(x.make((3,)), attrs, "bfloat16")


@pytest.mark.parametrize(
    "attrs",
    [
        {"kernel": 3, "stride": 2, "padding": 1},
        {"kernel": 4, "stride": 3, "ceil_mode": True, "padding": (1, 2)},
        {"kernel": 2, "dilation": 3},
    ],
    ids=text,
)
def test_a_sequence_is_a_picture_of_one_row(attrs):
    x = image(2, 3, 17)
    check_kernel("max_pool1d_places", [x], attrs, kernel=NAME, symbolic=BATCH)
    spread(x.make((0,)), attrs)


def test_open_sizes_of_images():
    symbolic = {0: {2: "H", 3: "W"}}
    attrs = {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    check_kernel("max_pool2d_places", [arr(2, 3, 7, 6)], attrs, kernel=NAME, symbolic=symbolic)


@pytest.mark.parametrize(
    ("x", "attrs", "reason"),
    [
        (arr(1, 2, 9, 9, dtype="float64"), {"kernel": 2}, "is float64"),
        (arr(1, 2, 9, 9), {"kernel": 8}, "the window is large"),
    ],
)
def test_what_is_left_to_the_reference(x, attrs, reason):
    assert pool.MAX_TAPS < 64
    with pytest.raises(AssertionError, match=reason):
        check_kernel("max_pool2d_places", [x], attrs, kernel=NAME)
