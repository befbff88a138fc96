import numpy as np
import pytest

from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.window import slide
from noria.testing.case import arr
from noria.testing.kernel import check_kernel
from tests.kernels.numba.test_taken import places_of

HOW = [
    ((5, 5), {"pool_kernel": 2}),
    ((3, 3), {"pool_kernel": 2, "padding": 1}),
    ((3, 2), {"pool_kernel": (1, 2), "stride": (2, 1), "padding": (2, 1)}),
    ((1, 4), {"pool_kernel": 3}),
    ((2, 2), {"pool_kernel": 2, "pool_stride": 3, "padding": (0, 1, 2, 0)}),
    ((1, 1), {"pool_kernel": 1}),
    ((4, 3), {"pool_kernel": (3, 2), "padding": "same"}),
]
ids = [str(k) for k in range(len(HOW))]


def input_grad(shape, outs, kernel, how, **more):
    sizes = slide(shape[2:], kernel, how.get("stride", 1), how.get("padding", 0)).out
    pool = {k.removeprefix("pool_"): v for k, v in how.items() if k.startswith("pool_")}
    places = places_of(shape[0], outs, sizes, pool)
    inputs = [arr(*places.shape), places, arr(outs, shape[1], *kernel)]
    attrs = {**how, "sizes": shape[2:]}
    check_kernel("taken_input_grad", inputs, attrs, kernel="numba:taken_input_grad", **more)


@pytest.mark.parametrize("how", HOW, ids=ids)
@pytest.mark.parametrize("ins", [1, 3, 20])
def test_any_windows(how, ins):
    input_grad((3, ins, 14, 13), 7, *how)


@pytest.mark.parametrize("outs", [1, 17, 50])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_any_number_of_channels_and_images(outs, images):
    input_grad((images, 6, 12, 11), outs, *HOW[0], symbolic={i: {0: "N"} for i in range(2)})


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_patch(wrong):
    places = places_of(2, 5, (8, 8), {"kernel": 2})
    grad = np.random.default_rng(0).standard_normal(places.shape).astype(np.float32)
    grad[1, 2, 1, 3] = wrong
    attrs = {"sizes": (12, 12), "pool_kernel": 2}
    inputs = [grad, places, arr(5, 3, 5, 5)]
    check_kernel("taken_input_grad", inputs, attrs, kernel="numba:taken_input_grad")


def test_a_place_of_no_element_is_nothing_beside_what_is_not_finite():
    places = places_of(1, 5, (8, 8), {"kernel": 2}).copy()
    places[0, 1, 2, 2], places[0, 4, 3, 0] = 255, 4
    grad = np.random.default_rng(0).standard_normal(places.shape).astype(np.float32)
    grad[0, 2, 1, 3] = np.nan
    attrs = {"sizes": (12, 12), "pool_kernel": 2}
    inputs = [grad, places, arr(5, 3, 5, 5)]
    check_kernel("taken_input_grad", inputs, attrs, kernel="numba:taken_input_grad")


def test_windows_that_reach_many_rows_are_declined():
    with pytest.raises(AssertionError, match="many rows"):
        input_grad((1, 1, 40, 40), 2, (30, 3), {"pool_kernel": 2})
