import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.kernels.numba import pool
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:pool"
BATCH = {0: {0: "N"}}
ATTRS = [
    {"kernel": 1},
    {"kernel": 2},
    {"kernel": 3, "stride": 2, "padding": 1},
    {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel": 3, "stride": 1, "padding": 1},
    {"kernel": 4, "stride": 3, "padding": 2, "ceil_mode": True},
    {"kernel": 5, "stride": 2, "padding": 2},
    {"kernel": (2, 3), "stride": (3, 1), "padding": (1, 0, 0, 2)},
    {"kernel": (1, 4), "stride": (2, 5), "padding": "same"},
    {"kernel": 5, "stride": 7},
]
MAX = [*ATTRS, {"kernel": 3, "dilation": 2, "padding": 1}, {"kernel": (2, 1), "dilation": (3, 1)}]
AVG = [{**attrs, "count_include_pad": include} for attrs in ATTRS for include in (False, True)]


def text(attrs):
    return ",".join(f"{k}={v}".replace(" ", "") for k, v in attrs.items())


def image(*shape, ties=False):
    """Numbers with many ties, or without any."""
    if not ties:
        return arr(*shape, distinct=True)
    return np.random.default_rng(1).integers(-2, 3, shape).astype(np.float32)


def pooled(x, attrs):
    """The largest of each window of an array."""
    return o.max_pool2d(x, **attrs)


@pytest.mark.parametrize("attrs", MAX, ids=text)
@pytest.mark.parametrize("ties", [False, True])
def test_the_largest_of_each_window(attrs, ties):
    symbolic = None if ties else BATCH
    x = image(2, 3, 11, 13, ties=ties)
    check_kernel("max_pool2d", [x], attrs, kernel=NAME, symbolic=symbolic, tol=0.0)


@pytest.mark.parametrize("attrs", MAX, ids=text)
@pytest.mark.parametrize("ties", [False, True])
def test_the_gradient_goes_to_the_first_of_the_largest(attrs, ties):
    x = image(2, 3, 11, 13, ties=ties)
    x = x if ties else x.make((3,))
    out = pooled(x, attrs)
    check_kernel("max_pool2d_grad", [x, out, arr(*out.shape)], attrs, kernel=NAME)


@pytest.mark.parametrize("attrs", AVG, ids=text)
def test_the_mean_of_each_window_and_its_gradient(attrs):
    x = image(2, 3, 11, 13)
    check_kernel("avg_pool2d", [x], attrs, kernel=NAME, symbolic=BATCH)
    grad = arr(*o.avg_pool2d(x.make((1,)), **attrs).shape)
    attrs = {**attrs, "sizes": (11, 13)}
    check_kernel("avg_pool2d_grad", [grad], attrs, kernel=NAME, symbolic=BATCH)


@pytest.mark.parametrize("channels", [1, 7, 17, 64])
@pytest.mark.parametrize("batch", [1, 5])
def test_any_number_of_channels_and_images(channels, batch):
    x = image(batch, channels, 6, 5, ties=True)
    attrs = {"kernel": 3, "stride": 2, "padding": 1}
    out = pooled(x, attrs)
    check_kernel("max_pool2d", [x], attrs, kernel=NAME, tol=0.0)
    check_kernel("max_pool2d_grad", [x, out, arr(*out.shape)], attrs, kernel=NAME)
    check_kernel("avg_pool2d", [x], attrs, kernel=NAME)
    check_kernel("avg_pool2d_grad", [arr(*out.shape)], {**attrs, "sizes": (6, 5)}, kernel=NAME)


@pytest.mark.parametrize("attrs", [{"kernel": 2}, {"kernel": 3, "stride": 1, "padding": 1}])
def test_nan_and_infinities_are_in_the_results_where_they_belong(attrs):
    check_kernel("max_pool2d", [arr(2, 3, 7, 8)], attrs, kernel=NAME, special=True, tol=0.0)
    check_kernel("avg_pool2d", [arr(2, 3, 7, 8)], attrs, kernel=NAME, special=True)


@pytest.mark.parametrize("attrs", [{"kernel": 2}, {"kernel": 3, "stride": 1, "padding": 1}])
def test_the_gradient_of_a_window_with_nan_goes_to_the_nan(attrs):
    x = arr(2, 3, 7, 8).make((1,))
    x.reshape(-1)[::11] = np.nan
    x.reshape(-1)[5::17] = -np.inf
    out = pooled(x, attrs)
    check_kernel("max_pool2d_grad", [x, out, arr(*out.shape)], attrs, kernel=NAME)


def test_a_window_that_sees_only_minus_infinity_gives_its_gradient_to_the_first():
    x = np.full((1, 2, 4, 4), -np.inf, np.float32)
    for attrs in ({"kernel": 2}, {"kernel": 3, "stride": 2, "padding": 1}):
        out = pooled(x, attrs)
        check_kernel("max_pool2d", [x], attrs, kernel=NAME)
        check_kernel("max_pool2d_grad", [x, out, arr(*out.shape)], attrs, kernel=NAME)


def test_open_sizes_of_images():
    symbolic = {0: {2: "H", 3: "W"}}
    attrs = {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    check_kernel("max_pool2d", [arr(2, 3, 7, 6)], attrs, kernel=NAME, symbolic=symbolic)


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
        check_kernel("max_pool2d", [x], attrs, kernel=NAME)


@pytest.mark.parametrize("attrs", [MAX[2], MAX[7]], ids=text)
def test_bfloat16(attrs):
    x = arr(2, 3, 11, 13, dtype="bfloat16")
    check_kernel("max_pool2d", [x], attrs, kernel=NAME, symbolic=BATCH, special=True, tol=0.0)
    check_kernel("avg_pool2d", [x], attrs, kernel=NAME, symbolic=BATCH)
    array = x.make((3,))
    out = pooled(array, attrs)
    grad = arr(*out.shape, dtype="bfloat16")
    check_kernel("max_pool2d_grad", [array, out, grad], attrs, kernel=NAME)
    how = {**attrs, "sizes": (11, 13)}
    check_kernel("avg_pool2d_grad", [grad], how, kernel=NAME)


def test_it_takes_no_two_dtypes():
    x = arr(1, 2, 4, 4).make((3,))
    out = pooled(x, {"kernel": 2})
    with pytest.raises(AssertionError, match="bfloat16 and float32 in one kernel"):
        grad = arr(*out.shape, dtype="bfloat16")
        check_kernel("max_pool2d_grad", [x, out, grad], {"kernel": 2}, kernel=NAME)


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
    x = image(2, 3, 17).make((0,))
    out = o.max_pool1d(x, **attrs)
    check_kernel("max_pool1d", [image(2, 3, 17)], attrs, kernel=NAME, symbolic=BATCH)
    check_kernel("max_pool1d_grad", [x, out, arr(*out.shape)], attrs, kernel=NAME)
    check_kernel("avg_pool1d", [image(2, 3, 17)], attrs, kernel=NAME, symbolic=BATCH)
    how = attrs | {"sizes": (17,)}
    check_kernel("avg_pool1d_grad", [arr(*out.shape)], how, kernel=NAME, symbolic=BATCH)
    excluded = attrs | {"count_include_pad": False}
    check_kernel("avg_pool1d", [image(2, 3, 17)], excluded, kernel=NAME)
