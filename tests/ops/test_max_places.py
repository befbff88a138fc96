import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import lookup
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.max_places import NOWHERE, max_pool2d_places, max_pool2d_spread
from noria.testing.case import Case, arr
from noria.testing.check import check_case
from tests.ops.test_pool import ROWS, inside, largest, seen, to_winners, windows_of

HOW = [
    (1, (2, 3, 7), {"kernel": 3, "stride": 2, "padding": 1}),
    (1, (2, 1, 5), {"kernel": 2, "dilation": 2}),
    (2, (2, 3, 6, 7), {"kernel": 2}),
    (2, (1, 2, 5, 4), {"kernel": 3, "stride": 1, "padding": 1}),
    (2, (2, 2, 7, 6), {"kernel": (3, 2), "stride": (2, 3), "padding": 1, "ceil_mode": True}),
    (2, (1, 2, 5, 5), {"kernel": 2, "stride": 3, "dilation": 2}),
]


def places_of(x, how):
    """Number in its window of the first that is the largest, one window at a time."""
    w = windows_of(x.shape[2:], **how)
    out = np.full((*x.shape[:2], *w.out), NOWHERE, np.uint8)
    for i in np.ndindex(out.shape):
        listed = list(enumerate(seen(i[2:], w)))
        numbered = [(k, tuple(at)) for k, at in listed if inside(at, x.shape[2:])]
        if numbered:
            out[i] = max(numbered, key=lambda p, i=i: x[(*i[:2], *p[1])])[0]
    return out


@pytest.mark.parametrize(("n", "shape", "how"), HOW)
def test_case(n, shape, how):
    both = lambda x: (largest(how)(x), places_of(x, how))  # noqa: E731
    x = arr(*shape, distinct=True)
    check_case(Case(f"max_pool{n}d_places", [x], how, expect=both, symbolic=ROWS))
    values = np.random.default_rng(1).permutation(int(np.prod(shape))).reshape(shape) * 1.0
    best = largest(how)(values)
    way_back = lambda g, p, **_: to_winners(how)(values, best, g)  # noqa: E731
    inputs = [arr(*best.shape), places_of(values, how)]
    attrs = {**how, "sizes": shape[2:]}
    check_case(Case(f"max_pool{n}d_spread", inputs, attrs, expect=way_back))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_they_are_a_max_pooling_and_its_gradient(dtype):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.integers(-3, 3, (2, 3, 9, 8)), 0).astype(dtype)
    x[0, 0, 2, 3], x[0, 1, 4:6, 4], x[1, 2] = np.nan, np.inf, -np.inf
    for how in ({"kernel": 2}, {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True}):
        out, places = max_pool2d_places(x, **how)
        np.testing.assert_array_equal(out, lookup("max_pool2d")(x, **how))
        g = rng.integers(-8, 8, out.shape).astype(dtype)
        got = max_pool2d_spread(g, places, sizes=(9, 8), **how)
        assert got.dtype == g.dtype and places.dtype == np.uint8
        np.testing.assert_array_equal(got, lookup("max_pool2d_grad")(x, out, g, **how))


def test_a_window_of_nothing_but_padding_has_no_place():
    x = np.ones((1, 1, 3, 3), np.float32)
    how = {"kernel": 2, "dilation": 5, "padding": 3}
    out, places = max_pool2d_places(x, **how)
    np.testing.assert_array_equal(places, places_of(x, how))
    assert (places == NOWHERE).any()
    got = max_pool2d_spread(np.ones_like(out), places, sizes=(3, 3), **how)
    assert got.sum() == (places != NOWHERE).sum()


def test_what_does_not_fit_is_told():
    x = np.ones((1, 1, 16, 16), np.float32)
    with pytest.raises(ArgumentError, match="too large for places"):
        max_pool2d_places(x, kernel=16)
    with pytest.raises(DTypeError):
        max_pool2d_places(x.astype(np.int32), kernel=2)
    with pytest.raises(DTypeError, match="places are bytes"):
        max_pool2d_spread(x, x.astype(np.int32), sizes=(32, 32), kernel=2)
    with pytest.raises(ShapeError, match="places"):
        max_pool2d_spread(x, x[..., 1:].astype(np.uint8), sizes=(32, 32), kernel=2)
    with pytest.raises(ShapeError, match="grad"):
        max_pool2d_spread(x, x.astype(np.uint8), sizes=(30, 32), kernel=2)
