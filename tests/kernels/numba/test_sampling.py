import itertools

import numpy as np
import pytest

from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:grid_sample"
HOW = [
    {"mode": mode, "padding_mode": padding, "align_corners": align}
    for mode, padding, align in itertools.product(
        ("bilinear", "nearest"), ("zeros", "border", "reflection"), (False, True)
    )
]
HOW.append({"pixels": True})
ROWS = {0: {0: "N"}, 1: {0: "N"}}


def text(how):
    return "-".join(map(str, how.values()))


def places(how, *shape):
    reach = 7.0 if "pixels" in how else 2.6
    return arr(*shape, 2, low=-reach, high=reach)


@pytest.mark.parametrize("how", HOW, ids=text)
@pytest.mark.parametrize("batch", [1, 5])
def test_an_image_is_sampled(how, batch):
    inputs = [arr(batch, 5, 4, 6), places(how, batch, 3, 7)]
    check_kernel("grid_sample", inputs, how, kernel=NAME, symbolic=ROWS)


@pytest.mark.parametrize("how", HOW, ids=text)
@pytest.mark.parametrize("batch", [1, 5])
def test_the_gradient_by_the_image(how, batch):
    inputs = [arr(batch, 5, 3, 7), places(how, batch, 3, 7)]
    attrs = how | {"sizes": (4, 6)}
    check_kernel("grid_sample_input_grad", inputs, attrs, kernel=NAME, symbolic=ROWS)


@pytest.mark.parametrize("how", HOW, ids=text)
def test_the_gradient_by_the_grid(how):
    inputs = [arr(2, 5, 4, 6), places(how, 2, 9), arr(2, 5, 9)]
    rows = ROWS | {2: {0: "N"}}
    check_kernel("grid_sample_grid_grad", inputs, how, kernel=NAME, symbolic=rows)


def test_places_that_are_no_numbers_or_far_away():
    grid = np.array([[np.nan, 0.5], [np.inf, 0], [-1e30, 1], [0, -np.inf]], np.float32)
    for padding in ("zeros", "border", "reflection"):
        inputs = [arr(1, 3, 4, 5), grid.reshape(1, 4, 2)]
        check_kernel("grid_sample", inputs, {"padding_mode": padding}, kernel=NAME)
