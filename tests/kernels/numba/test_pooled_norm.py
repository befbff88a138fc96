import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.kernels.numba.pooled_norm import MOST
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.max_places import NOWHERE
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

FORWARD, BACKWARD = "numba:pooled_batch_norm", "numba:pooled_batch_norm_grad"
BATCH = {0: {0: "N"}}
STEM = {"kernel": 3, "stride": 2, "padding": 1}
HOW = [
    STEM,
    {"kernel": 2},
    {"kernel": (3, 2), "stride": (1, 3), "padding": (1, 0)},
    {"kernel": 2, "stride": 3, "dilation": 2, "padding": 1},
    {"kernel": 3, "stride": 2, "dilation": 2, "padding": 2, "ceil_mode": True},
]
TOLERANCE = {"float32": None, "bfloat16": 8e-3}


def text(how):
    return "-".join(f"{k}{v}" for k, v in how.items())


def vectors(channels):
    """scale, of either sign and one 0, bias, mean, var."""
    scale, bias, mean, var = (arr(channels, low=0.5).make((i,)) for i in range(4))
    scale[1::3] *= -1
    scale[2::5] = 0
    return [scale, bias, mean, var]


def forward(x, how, dtype="float32", **more):
    inputs = [x, *vectors(x.shape[1])]
    check_kernel("pooled_batch_norm", inputs, how, kernel=FORWARD, tol=TOLERANCE[dtype], **more)


def backward(x, how, dtype="float32", **more):
    """Check the gradient; some windows took nothing."""
    scale, *rest = vectors(x.shape[1])
    _, mean, inv_std, *_, places = o.pooled_batch_norm(x, scale, *rest, **how)
    places = places.copy()
    places.reshape(-1)[::5] = NOWHERE
    inputs = [x, scale, mean, inv_std, arr(*places.shape, dtype=dtype), places]
    tol = TOLERANCE[dtype]
    check_kernel("pooled_batch_norm_grad", inputs, how, kernel=BACKWARD, tol=tol, **more)


@pytest.mark.parametrize("how", HOW, ids=text)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_pooled_is_normalised_and_the_way_back(how, dtype):
    x = arr(2, 19, 11, 13, dtype=dtype)
    forward(x, how, dtype, symbolic=BATCH)
    backward(x.make((3,)), how, dtype)


@pytest.mark.parametrize("channels", [1, 7, 16, 64, 80])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_number_of_channels_and_images(channels, batch, dtype):
    x = arr(batch, channels, 6, 5, dtype=dtype)
    forward(x, STEM, dtype)
    backward(x.make((1,)), STEM, dtype)


def test_open_sizes():
    symbolic = {0: {0: "N", 2: "H", 3: "W"}}
    forward(arr(2, 3, 7, 6), {**STEM, "ceil_mode": True}, symbolic=symbolic)
    inputs = [arr(4, 3, 4, 6), arr(3), arr(3), arr(3, low=0.5)]
    inputs += [arr(4, 3, 2, 3), np.full((4, 3, 2, 3), 2, np.uint8)]
    rows = {i: {0: "N"} for i in (0, 4, 5)}
    check_kernel("pooled_batch_norm_grad", inputs, {"kernel": 2}, kernel=BACKWARD, symbolic=rows)


def test_long_rows_of_cells():
    x = arr(2, 3, 2, 291).make((0,))
    forward(x, {"kernel": 2})
    backward(x, {"kernel": 2})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ties_have_the_first_place_and_both_zeros_are_one(dtype):
    x = arr(2, 6, 8, 8).make((0,)).round().astype(arr(1, dtype=dtype).make((0,)).dtype)
    x[:, 3] = 0
    x.reshape(-1)[::3] *= -1  # of zeros, too
    assert np.signbit(x[x == 0]).any()
    forward(x, STEM, dtype)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_bad_number_makes_all_of_its_channel_nan(bad, dtype):
    x = arr(2, 5, 7, 8, dtype=dtype).make((1,))
    x[1, 2, 4, 4], x[0, 4, 0, 1] = bad, bad
    forward(x, STEM, dtype)
    backward(x, STEM, dtype)


def test_gradients_that_are_nan_or_infinite_stay_in_their_channel():
    x = arr(2, 5, 7, 8).make((1,))
    scale, *rest = vectors(5)
    out, mean, inv_std, *_, places = o.pooled_batch_norm(x, scale, *rest, **STEM)
    grad = arr(*out.shape).make((2,))
    grad[0, 1, 1, 1], grad[1, 3, 2, 2] = np.nan, np.inf
    inputs = [x, scale, mean, inv_std, grad, places]
    check_kernel("pooled_batch_norm_grad", inputs, STEM, kernel=BACKWARD)


def test_what_is_left_to_the_reference():
    for how, reason in ({"kernel": 8}, "the window is large"), ({"kernel": 5}, "far apart"):
        with pytest.raises(AssertionError, match=reason):
            backward(arr(1, 2, 9, 9).make((0,)), how)
    assert MOST < 25
    double = [arr(1, 2, 9, 9, dtype="float64"), *(arr(2, dtype="float64") for _ in range(4))]
    with pytest.raises(AssertionError, match="is float64"):
        check_kernel("pooled_batch_norm", double, {"kernel": 2}, kernel=FORWARD)
