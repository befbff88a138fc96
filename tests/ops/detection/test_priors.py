import math

import numpy as np
import pytest

import noria
from noria.core.errors import ArgumentError
from noria.ops.detection import priors
from noria.testing.case import Case
from noria.testing.check import check_case

SSD = {
    "feature_size": (2, 3),
    "image_size": (20, 60),
    "min_sizes": (4.0, 8.0),
    "max_sizes": (8.0, 12.0),
    "aspect_ratios": (2.0, 1.0),
    "flip": True,
}


def ssd(clip=False, squares_first=False, steps=(10, 20), offset=0.5):
    def apply():
        out = np.zeros((2, 3, 8, 4))
        for row, column in np.ndindex(2, 3):
            x, y = (column + offset) * steps[1], (row + offset) * steps[0]
            shapes = []
            for small, large in ((4, 8), (8, 12)):
                square = (math.sqrt(small * large),) * 2
                turned = [(small * math.sqrt(r), small / math.sqrt(r)) for r in (1, 2, 0.5)]
                shapes += [turned[0], square, *turned[1:]] if squares_first else [*turned, square]
            for i, (w, h) in enumerate(shapes):
                box = [(x - w / 2) / 60, (y - h / 2) / 20, (x + w / 2) / 60, (y + h / 2) / 20]
                out[row, column, i] = np.clip(box, 0, 1) if clip else box
        return out

    return apply


def dense():
    out = []
    for row, column in np.ndindex(2, 3):
        x, y, step = (column + 0.5) * 20, (row + 0.5) * 10, 15
        for size, density in ((4, 2), (6, 1)):
            shift = step // density
            for down, along in np.ndindex(density, density):
                cx = x - step / 2 + shift / 2 + along * shift
                cy = y - step / 2 + shift / 2 + down * shift
                low = [max((cx - size / 2) / 60, 0), max((cy - size / 2) / 20, 0)]
                out.append([*low, min((cx + size / 2) / 60, 1), min((cy + size / 2) / 20, 1)])
    return np.reshape(out, (2, 3, 5, 4))


def anchors():
    out = np.zeros((2, 1, 4, 4))
    for row in range(2):
        for i, (w, h) in enumerate([(46, 22), (92, 44), (22, 44), (44, 88)]):
            # 16 * 16 / 0.5 -> 23 x 12, / 2 -> 11 x 22, times size / 16
            x, y = 7.5, row * 16 + 7.5
            w, h = [(46, 24), (92, 48), (22, 44), (44, 88)][i]
            out[row, 0, i] = [x - (w - 1) / 2, y - (h - 1) / 2, x + (w - 1) / 2, y + (h - 1) / 2]
    return out


CASES = [
    Case("prior_boxes", [], SSD, expect=ssd()),
    Case(
        "prior_boxes",
        [],
        SSD | {"clip": True, "squares_first": True, "steps": (8.0, 8.0), "offset": 0.25},
        expect=ssd(True, True, (8, 8), 0.25),
        id="squares first",
    ),
    Case(
        "density_prior_boxes",
        [],
        {
            "feature_size": (2, 3),
            "image_size": (20, 60),
            "fixed_sizes": (4.0, 6.0),
            "fixed_ratios": (1.0,),
            "densities": (2, 1),
        },
        expect=dense,
    ),
    Case(
        "anchor_boxes",
        [],
        {
            "feature_size": (2, 1),
            "sizes": (32.0, 64.0),
            "aspect_ratios": (0.5, 2.0),
            "stride": (16.0, 16.0),
        },
        expect=anchors,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_sizes_may_be_those_of_the_image_that_is_fed():
    def step(x):
        size = x.shape[2:]
        half = size[0] // 2, size[1] // 2
        return {
            "boxes": noria.ops.prior_boxes(feature_size=half, image_size=size, min_sizes=(2.0,))
        }

    program = noria.trace(step, x=noria.spec(1, 3, "H", "W"))
    for height, width in ((4, 6), (8, 2)):
        fed = {"x": np.zeros((1, 3, height, width), np.float32)}
        got = noria.Executor(program).run(fed)["boxes"]
        want = priors.prior_boxes(
            feature_size=(height // 2, width // 2), image_size=(height, width), min_sizes=(2.0,)
        )
        np.testing.assert_array_equal(got, want)


def test_a_map_without_rows_has_no_priors():
    how = {"feature_size": (0, 3), "image_size": (8, 8)}
    assert priors.prior_boxes(**how, min_sizes=(2.0,)).shape == (0, 3, 1, 4)
    dense = {"fixed_sizes": (2.0,), "fixed_ratios": (1.0,), "densities": (2,)}
    assert priors.density_prior_boxes(**how, **dense).shape == (0, 3, 4, 4)


def test_bad_sizes_are_refused():
    with pytest.raises(ArgumentError, match="max_sizes"):
        priors.prior_boxes(**(SSD | {"max_sizes": (5.0,)}))
    with pytest.raises(ArgumentError, match="positive"):
        priors.anchor_boxes(
            feature_size=(1, 1), sizes=(0.0,), aspect_ratios=(1.0,), stride=(1.0, 1.0)
        )
    with pytest.raises(ArgumentError, match="density"):
        priors.density_prior_boxes(
            feature_size=(1, 1),
            image_size=(1, 1),
            fixed_sizes=(1.0,),
            fixed_ratios=(1.0,),
            densities=(),
        )
