import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ir.opdef import lookup
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.max_places import max_pool2d_places
from noria.ops.taken import taken_weight_grad
from noria.testing.case import Case, arr
from noria.testing.check import check_case

HOW = {"kernel": (3, 2), "stride": (1, 2), "padding": 1, "pool_kernel": 2}
X, SIZES = (2, 3, 6, 7), (6, 4)
ROWS = {i: {0: "N"} for i in range(3)}


def places(outs=4):
    x = np.random.default_rng(0).standard_normal((X[0], outs, *SIZES))
    return max_pool2d_places(x, kernel=2)[1]


def by_patches(x, grad, p):
    """Window by window, what it took and what the convolution sees there."""
    around = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    out = np.zeros((grad.shape[1], x.shape[1], 3, 2))
    for n, o, i, j in np.ndindex(grad.shape):
        down, right = divmod(int(p[n, o, i, j]), 2)
        h, w = 2 * i + down, 2 * (2 * j + right)
        out[o] += grad[n, o, i, j] * around[n, :, h : h + 3, w : w + 2]
    return out


def test_case():
    p = places()
    inputs = [arr(*X), arr(*p.shape), p]
    check_case(Case("taken_weight_grad", inputs, HOW, expect=by_patches, symbolic=ROWS))


def test_it_is_the_gradient_by_the_weight_of_what_is_spread():
    p, rng = places(), np.random.default_rng(1)
    x, g = (rng.standard_normal(s).astype(np.float32) for s in (X, p.shape))
    spread = lookup("max_pool2d_spread")(g, p, sizes=SIZES, kernel=2)
    how = {k: HOW[k] for k in ("kernel", "stride", "padding")}
    want = lookup("conv2d_weight_grad")(x, spread, **how)
    np.testing.assert_array_equal(taken_weight_grad(x, g, p, **HOW), want)


def test_what_does_not_fit_is_told():
    p, x = places(), np.zeros(X, np.float32)
    g = np.zeros(p.shape, np.float32)
    with pytest.raises(ShapeError):
        taken_weight_grad(x[0], g, p, **HOW)
    with pytest.raises(ShapeError):
        taken_weight_grad(x, g[..., 1:], p[..., 1:], **HOW)
    with pytest.raises(ShapeError):
        taken_weight_grad(x, g, p[..., 1:], **HOW)


def by_windows(grad, p, weight):
    """Window by window, the weights of what it took, added to what that sees."""
    around = np.zeros((X[0], X[1], X[2] + 2, X[3] + 2))
    for n, o, i, j in np.ndindex(grad.shape):
        down, right = divmod(int(p[n, o, i, j]), 2)
        h, w = 2 * i + down, 2 * (2 * j + right)
        around[n, :, h : h + 3, w : w + 2] += grad[n, o, i, j] * weight[o]
    return around[:, :, 1:-1, 1:-1]


def test_case_of_the_gradient_by_the_input():
    p = places()
    how = {"sizes": X[2:], "stride": (1, 2), "padding": 1, "pool_kernel": 2}
    inputs = [arr(*p.shape), p, arr(4, 3, 3, 2)]
    rows = {i: {0: "N"} for i in range(2)}
    check_case(Case("taken_input_grad", inputs, how, expect=by_windows, symbolic=rows))
