import itertools
import math

import numpy as np
import pytest

from noria.ops.detection import roi_sampled as family
from noria.ops.detection.roi import roi_align
from noria.testing.case import Case, arr
from noria.testing.check import check_case

TURNED = np.array([[8, 7, 9, 6, 30], [5, 9, 4, 12, -75], [1, 1, 0.5, 0.3, 10]], np.float32)
QUADS = np.array([[2, 2, 12, 3, 11, 10, 3, 9], [-2, 1, 8, -1, 9, 6, 1, 8]], np.float32)
BATCH = np.array([0, 1, 1])
HOW = {"size": (2, 3), "scale": 0.5}


def linear(x, y, z):
    """x [C, H, W] at a place; 0 more than a pixel outside."""
    height, width = x.shape[1:]
    if not (-1 <= y <= height and -1 <= z <= width):
        return np.zeros(len(x))
    y, z = min(max(y, 0), height - 1), min(max(z, 0), width - 1)
    top, left = int(y), int(z)
    low, right, dy, dz = min(top + 1, height - 1), min(left + 1, width - 1), y - top, z - left
    upper = x[:, top, left] * (1 - dz) + x[:, top, right] * dz
    return upper * (1 - dy) + (x[:, low, left] * (1 - dz) + x[:, low, right] * dz) * dy


def turned(samples=2):
    def apply(x, rois, batch):
        x = x.astype(float)
        out = np.zeros((len(rois), x.shape[1], 2, 3))
        for r, (cx, cy, w, h, degrees) in enumerate(rois.astype(float)):
            cx, cy, w, h = cx * 0.5, cy * 0.5, max(w * 0.5, 1), max(h * 0.5, 1)
            a = math.radians(degrees)
            down, along = samples or math.ceil(h / 2), samples or math.ceil(w / 3)
            for p, q in np.ndindex(2, 3):
                seen = []
                for i, j in itertools.product(range(down), range(along)):
                    yy = -h / 2 + (p + (i + 0.5) / down) * h / 2
                    xx = -w / 2 + (q + (j + 0.5) / along) * w / 3
                    place = (
                        yy * math.cos(a) - xx * math.sin(a) + cy,
                        xx * math.cos(a) + yy * math.sin(a) + cx,
                    )
                    seen.append(linear(x[batch[r]], *place))
                out[r, :, p, q] = np.mean(seen, 0)
        return out

    return apply


X = arr(2, 2, 6, 7)
FRONT = {"size": (4, 5), "scale": 0.5}
SHAPE = {"shape": (2, 2, 6, 7)}
CASES = [
    Case(
        "roi_align_rotated",
        [X, TURNED, BATCH],
        HOW | {"samples": 2},
        expect=turned(),
        grad=[0],
        jax=False,
    ),
    Case(
        "roi_align_rotated",
        [X, TURNED, BATCH],
        HOW,
        expect=turned(0),
        symbolic={0: {0: "N", 2: "H", 3: "W"}},
        grad=[0],
        jax=False,
    ),
    Case("roi_align_rotated_grad", [arr(3, 2, 2, 3), TURNED, BATCH], HOW | SHAPE, jax=False),
    Case(
        "roi_perspective_transform",
        [X, QUADS, BATCH[:2]],
        {"size": (4, 5), "scale": 0.5},
        grad=[0],
        jax=False,
    ),
    Case(
        "roi_perspective_transform_grad",
        [arr(2, 2, 4, 5), QUADS, BATCH[:2]],
        SHAPE | FRONT,
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_a_region_that_is_not_turned_is_an_upright_one():
    x = np.random.default_rng(0).normal(size=(1, 2, 9, 9)).astype(np.float32)
    ids, how = np.array([0]), {"size": (3, 2), "samples": 2, "aligned": True}
    box, center = np.array([[1, 2, 7, 6]], np.float32), np.array([[4, 4, 6, 4, 0]], np.float32)
    got = family.roi_align_rotated(x, center, ids, **how)
    np.testing.assert_allclose(got, roi_align(x, box, ids, **how), atol=1e-5)
    around = family.roi_align_rotated(x, center + np.float32([0, 0, 0, 0, 180]), ids, **how)
    np.testing.assert_allclose(around, got[:, :, ::-1, ::-1], atol=1e-5)


def test_a_quadrilateral_is_seen_from_its_front():
    x = np.tile(np.arange(20, dtype=np.float32), (1, 1, 20, 1))  # each element is its column
    square = np.array([[4, 4, 12, 4, 12, 12, 4, 12]], np.float32)
    out, mask, matrix = family.roi_perspective_transform(x, square, np.array([0]), size=9)
    np.testing.assert_allclose(out[0, 0], np.tile(np.arange(4, 13), (9, 1)), atol=1e-3)
    assert mask.min() == 1
    place = matrix.reshape(3, 3) @ np.array([8, 8, 1])
    np.testing.assert_allclose(place[:2] / place[2], [12, 12], rtol=1e-5)
    tilted = np.array([[4, 4, 12, 6, 12, 10, 4, 12]], np.float32)  # its right side is farther off
    out, mask, _ = family.roi_perspective_transform(x, tilted, np.array([0]), size=9)
    seen = out[0, 0][mask[0, 0] == 1]
    assert seen.min() >= 4 - 1e-3 and seen.max() <= 12 + 1e-3 and np.ptp(out[0, 0, :, 0]) < 1e-3
    outside = family.roi_perspective_transform(x, square + 30, np.array([0]), size=9)
    assert not outside[0].any() and not outside[1].any()
