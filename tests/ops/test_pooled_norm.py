import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.max_places import NOWHERE
from noria.ops.pooled_norm import pooled_batch_norm, pooled_batch_norm_grad
from noria.testing.case import Case, arr
from noria.testing.check import check_case

HOW = {"kernel": (3, 2), "stride": 2, "padding": (1, 0), "momentum": 0.2, "epsilon": 1e-3}
POOL = {k: v for k, v in HOW.items() if k not in ("momentum", "epsilon")}
SHAPE, POOLED = (3, 4, 7, 6), (3, 4, 4, 3)
ROWS = {0: {0: "N"}}


def vectors(dtype="float32"):
    """scale, of either sign, bias, mean and var."""
    rng = np.random.default_rng(3)
    scale, bias, mean, var = rng.uniform(0.5, 2, (4, 4)).astype(dtype)
    return [scale * np.array([1, -1, 1, -1], dtype), bias, mean, var]


def by_windows(x, scale, bias, mean, var):
    """Each window by itself."""
    rest = o.batch_norm(x, scale, bias, mean, var, training=True, momentum=0.2, epsilon=1e-3)[1:]
    out, places = np.zeros(POOLED), np.zeros(POOLED, np.uint8)
    for n, c, i, j in np.ndindex(POOLED):
        seen = {}
        for k, (a, b) in enumerate(np.ndindex(3, 2)):
            h, w = 2 * i + a - 1, 2 * j + b
            if 0 <= h < 7:
                seen[k] = x[n, c, h, w] * (1 if scale[c] >= 0 else -1)
        places[n, c, i, j] = max(seen, key=seen.get)
        best = max(seen.values()) * (1 if scale[c] >= 0 else -1)
        normed = (best - rest[0][c]) * rest[1][c] * scale[c] + bias[c]
        out[n, c, i, j] = max(normed, 0)
    return out, *rest, places


def test_case():
    check_case(
        Case(
            "pooled_batch_norm",
            [arr(*SHAPE, distinct=True), *vectors()],
            HOW,
            expect=by_windows,
            symbolic=ROWS,
        )
    )


def places():
    return np.random.default_rng(0).choice([0, 2, 3, 5, NOWHERE], POOLED).astype(np.uint8)


def test_case_of_the_gradient():
    scale, *_ = vectors()
    inputs = [arr(*SHAPE), scale, arr(4), arr(4, low=0.5), arr(*POOLED), places()]

    def spread(x, scale, mean, inv_std, grad, places):
        whole = np.zeros((3, 4, 9, 6))
        for at in np.ndindex(POOLED):
            if places[at] != NOWHERE:
                a, b = divmod(int(places[at]), 2)
                whole[*at[:2], 2 * at[2] + a, 2 * at[3] + b] += grad[at]
        return o.batch_norm_grad(x, scale, mean, inv_std, whole[:, :, 1:8])

    check_case(Case("pooled_batch_norm_grad", inputs, POOL, expect=spread))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_it_is_the_pooling_of_the_normalised(dtype):
    x = arr(*SHAPE, dtype=dtype, distinct=True).make((0,))
    given = vectors("float64" if dtype == "float64" else "float32")
    normed = {k: HOW[k] for k in ("momentum", "epsilon")}
    whole, *rest = o.batch_norm_relu(x, *given, **normed)
    out, *others, found = pooled_batch_norm(x, *given, **HOW)
    want, first = o.max_pool2d_places(whole, **POOL)
    np.testing.assert_array_equal(out, want)
    for a, b in zip(others, rest, strict=True):
        np.testing.assert_array_equal(a, b)
    if dtype != "bfloat16":  # else rounding makes ties
        np.testing.assert_array_equal(found[want > 0], first[want > 0])
    assert (found != NOWHERE).all()


def test_ties_that_rounding_makes_are_none():
    x = np.array([1, 1.0078125, 1, -300]).astype(ml_dtypes.bfloat16).reshape(1, 1, 2, 2)
    one = np.ones(1, "float32")
    *_, found = pooled_batch_norm(x, one, one, 0 * one, one, kernel=2)
    assert found.item() == 1
    *_, found = pooled_batch_norm(x, -one, one, 0 * one, one, kernel=2)
    assert found.item() == 3


def test_nan_has_no_place():
    x = arr(*SHAPE).make((0,))
    x[1, 2, 3, 3] = np.nan
    out, *_, found = pooled_batch_norm(x, *vectors(), **HOW)
    assert np.isnan(out[:, 2]).all() and (found[:, 2] == NOWHERE).all()
    assert np.isfinite(out[:, :2]).all() and (found[:, :2] != NOWHERE).all()


def test_what_does_not_fit_is_told():
    x, (scale, bias, mean, var) = arr(*SHAPE).make((0,)), vectors()
    with pytest.raises(ShapeError):
        pooled_batch_norm(x, scale[1:], bias, mean, var, **HOW)
    with pytest.raises(ShapeError):
        pooled_batch_norm(x, scale, bias, mean, var, kernel=9)
    with pytest.raises(ShapeError, match="grad"):
        pooled_batch_norm_grad(x, scale, mean, var, x, places(), **POOL)
