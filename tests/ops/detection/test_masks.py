import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import masks as family
from noria.testing.case import Case
from noria.testing.check import check_case

# Image 0: a square and, in two parts, another object, and a crowd; image 1: a triangle.
SQUARE = [[2, 2], [10, 2], [10, 10], [2, 10]]
PARTS = [[12, 0], [16, 0], [16, 8], [12, 8]], [[12, 12], [20, 12], [20, 16], [12, 16]]
TRIANGLE = [[0, 0], [16, 0], [0, 16]]
CROWD = [[0, 0], [30, 0], [30, 30]]
POLYGONS = [SQUARE, *PARTS, CROWD, TRIANGLE]
INPUTS = [
    np.array([[40, 40, 2.0], [40, 40, 1.0]], np.float32),
    np.array([1, 2, 1, 2]),
    np.array([0, 0, 1, 0]),
    np.array([0, 3, 4]),
    np.concatenate(POLYGONS).astype(np.float32),
    np.array([0, 1, 3, 4, 5]),
    np.cumsum([0, *map(len, POLYGONS)]),
    np.array([[0, 0, 8, 8], [4, 4, 20, 20], [24, 0, 40, 32], [0, 0, 16, 16]], np.float32),
    np.array([0, 1, 2, 2]),
    np.array([0, 3, 4]),
]
HOW = {"size": "K", "class_count": 3, "resolution": 8}


def inside(polygons, region, size):
    """Whether the middles of a grid over a region lie in any polygon: how often a ray crosses."""
    x1, y1, x2, y2 = region
    places = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(x1 + places * (x2 - x1), y1 + places * (y2 - y1))
    found = np.zeros((size, size), bool)
    for polygon in polygons:
        odd = np.zeros((size, size), bool)
        for (xs, ys), (xe, ye) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
            if ys != ye:
                at = xs + (y - ys) * (xe - xs) / (ye - ys)
                odd ^= ((ys > y) != (ye > y)) & (x < at)
        found |= odd
    return found


def expected(*inputs):
    rois, masks = inputs[7], np.full((3, 3, 64), -1)
    masks[0, 1] = inside([SQUARE], rois[1] / 2, 8).ravel()
    masks[1, 2] = inside(PARTS, rois[2] / 2, 8).ravel()
    masks[2, 2] = inside([TRIANGLE], rois[3], 8).ravel()
    return rois[1:], np.array([1, 2, 0]), masks.reshape(3, 192), np.array([0, 2, 3])


CASES = [Case("mask_targets", INPUTS, HOW, expect=expected, jax=False)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_masks_of_any_polygon_are_those_of_middles_of_pixels_but_for_its_edge():
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        around = np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(4, 18, (9, 1)) + 14
        drawn = family._drawn(around, 28)
        want = inside([around.tolist()], (0, 0, 28, 28), 28)
        assert np.sum(drawn != want) <= 12 and want.sum() > 20


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_masks_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for case in range(60):
        corners = rng.uniform(-6, 34, (rng.integers(3, 10), 2))
        corners = np.round(corners) if case % 3 == 0 else corners
        parts = coco.frPyObjects([corners.ravel().tolist()], 28, 28)
        want = coco.decode(coco.merge(parts)).astype(bool)
        np.testing.assert_array_equal(family._drawn(corners, 28), want)


def test_where_no_region_has_a_label_nothing_counts():
    inputs = [*INPUTS]
    inputs[8] = np.zeros(4, int)
    rois, index, masks, splits = family.mask_targets(*inputs, **HOW)
    assert rois.tolist() == INPUTS[7][[0, 3]].tolist() and index.tolist() == [0, 0]
    assert (masks == -1).all() and splits.tolist() == [0, 1, 2]


def test_bad_inputs_are_refused():
    inputs = [*INPUTS]
    inputs[8] = np.array([0, 1, 2, 3])
    with pytest.raises(ArgumentError, match="label is no class"):
        family.mask_targets(*inputs, **HOW)
    inputs = [*INPUTS]
    inputs[4] = inputs[4] * np.float32(1e9)
    with pytest.raises(ArgumentError, match="too far"):
        family.mask_targets(*inputs, **HOW)


@pytest.mark.parametrize(("place", "what"), [(0, "image_info"), (4, "points"), (7, "rois")])
def test_tables_of_another_width_are_refused(place, what):
    wide = [np.pad(a, [(0, 0), (0, 1)]) if i == place else a for i, a in enumerate(INPUTS)]
    with pytest.raises(ShapeError, match=f"columns of {what}"):
        family.mask_targets(*wide, **HOW)
