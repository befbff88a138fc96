import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import lookup
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.pooled_conv import pooled_conv2d
from noria.testing.case import Case, arr
from noria.testing.check import check_case

HOW = {"stride": (1, 2), "padding": 1, "activation": "relu", "pool_kernel": (2, 3)}
INPUTS = [arr(2, 3, 6, 13), arr(4, 3, 3, 2), arr(4)]


def by_windows(x, weight, bias):
    """Each window by itself, from all that the convolution sees."""
    around = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    out, places = np.zeros((2, 4, 3, 2)), np.zeros((2, 4, 3, 2), np.uint8)
    for n, o, i, j in np.ndindex(out.shape):
        seen = []
        for a, b in np.ndindex(2, 3):
            h, w = 2 * i + a, 2 * (3 * j + b)
            seen.append(max((around[n, :, h : h + 3, w : w + 2] * weight[o]).sum() + bias[o], 0))
        out[n, o, i, j], places[n, o, i, j] = max(seen), np.argmax(seen)
    return out, places


def test_case():
    check_case(Case("pooled_conv2d", INPUTS, HOW, expect=by_windows, symbolic={0: {0: "N"}}))


def arrays():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(a.shape).astype(np.float32) for a in INPUTS]


@pytest.mark.parametrize("activation", [None, "relu"])
def test_it_is_the_pooling_of_the_convolution(activation):
    x, weight, bias = arrays()
    how = {"stride": (1, 2), "padding": 1, "activation": activation}
    conv = lookup("fused_conv2d")(x, weight, bias, **how)
    want = lookup("max_pool2d_places")(conv, kernel=2)
    for a, b in zip(pooled_conv2d(x, weight, bias, **how, pool_kernel=2), want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_told():
    x, weight, _ = arrays()
    with pytest.raises((ShapeError, ArgumentError)):
        pooled_conv2d(x[:, :2], weight, pool_kernel=2)
    with pytest.raises(ShapeError):
        pooled_conv2d(x, weight, pool_kernel=7)
    with pytest.raises(ArgumentError):
        pooled_conv2d(x, weight, pool_kernel=2, activation="none")
