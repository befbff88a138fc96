import math

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import roi_deformed as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

UPRIGHT = np.array([[1, 2, 9, 11], [3, 0, 8.6, 5.4], [0, 3, 13, 7]], np.float32)
BATCH = np.array([0, 1, 1])
HOW = {"size": (2, 3), "scale": 0.5}
DEFORM = HOW | {"channels": 4, "group": (2, 3), "samples": 2, "spread": 0.2}


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


def deformed(x, rois, batch, moves):
    x = x.astype(float)
    out, count = np.zeros((3, 4, 2, 3)), np.zeros((3, 4, 2, 3))
    for r, c, p, q in np.ndindex(out.shape):
        x1, y1, x2, y2 = (math.floor(v + 0.5) for v in rois[r])
        x1, y1, x2, y2 = x1 / 2 - 0.5, y1 / 2 - 0.5, (x2 + 1) / 2 - 0.5, (y2 + 1) / 2 - 0.5
        w, h, kind = max(x2 - x1, 0.1), max(y2 - y1, 0.1), c // 2
        left = x1 + q * w / 3 + moves[r, 2 * kind, p, q] * 0.2 * w
        top = y1 + p * h / 2 + moves[r, 2 * kind + 1, p, q] * 0.2 * h
        plane, seen = x[batch[r], (c * 2 + p) * 3 + q][None], []
        for i, j in np.ndindex(2, 2):
            y, z = top + i * h / 4, left + j * w / 6
            if -0.5 <= y <= x.shape[2] - 0.5 and -0.5 <= z <= x.shape[3] - 0.5:
                seen.append(linear(plane, y, z)[0])
        out[r, c, p, q], count[r, c, p, q] = np.mean(seen) if seen else 0, len(seen)
    return out, count


WIDE = arr(2, 24, 6, 7)
MOVES = arr(3, 4, 2, 3, low=-0.9, high=0.9)
FIXED = np.random.default_rng(1).uniform(-0.9, 0.9, (3, 4, 2, 3)).astype(np.float32)
CASES = [
    Case(
        "deformable_psroi_pool",
        [arr(2, 24, 6, 7), UPRIGHT, BATCH, MOVES],
        DEFORM,
        expect=deformed,
        grad=[0, 3],
        jax=False,
    ),
    Case(
        "deformable_psroi_pool",
        [arr(2, 24, 6, 7), UPRIGHT, BATCH],
        DEFORM,
        grad=[0],
        jax=False,
        id="still",
    ),
    Case(
        "deformable_psroi_pool_grad",
        [WIDE, UPRIGHT, BATCH, arr(3, 4, 2, 3), FIXED],
        DEFORM,
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_bad_inputs_are_refused():
    x = np.zeros((2, 24, 6, 7), np.float32)
    with pytest.raises(ShapeError, match="for each group"):
        family.deformable_psroi_pool(x[:, :20], UPRIGHT, BATCH, **DEFORM)
    with pytest.raises(ShapeError, match="one place a part"):
        family.deformable_psroi_pool(x, UPRIGHT, BATCH, FIXED, part=3, **DEFORM)
    with pytest.raises(ArgumentError, match="samples"):
        family.deformable_psroi_pool(x, UPRIGHT, BATCH, **(DEFORM | {"samples": 0}))


def test_moves_are_numbers_for_each_region():
    x, moves = np.ones((2, 24, 6, 7), np.float32), np.zeros((3, 4, 2, 3), np.float32)
    with pytest.raises(ShapeError, match="numbers of moves"):
        family.deformable_psroi_pool(x, UPRIGHT, BATCH, moves[:2], **DEFORM)
    with pytest.raises(ArgumentError, match="must be numbers"):
        family.deformable_psroi_pool(x, UPRIGHT, BATCH, moves * np.nan, **DEFORM)
