import itertools
import math

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import roi as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

ROIS = np.array([[1, 2, 9, 13], [3, 0, 8.5, 5.5], [-4, 3, 30, 7], [6, 6, 6.2, 6.1]], np.float32)
BATCH = np.array([0, 1, 1, 0])


def corners(y, x, height, width):
    """(row, column, weight) of what a place lies between."""
    if not (-1 <= y <= height and -1 <= x <= width):
        return [(0, 0, 0.0)] * 4
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    low, right = min(top + 1, height - 1), min(left + 1, width - 1)
    ly, lx = y - top, x - left
    return [
        (top, left, (1 - ly) * (1 - lx)),
        (top, right, (1 - ly) * lx),
        (low, left, ly * (1 - lx)),
        (low, right, ly * lx),
    ]


def aligned(mode="avg", size=(2, 3), scale=0.5, samples=2, half=False):
    def apply(x, rois, batch):
        x = x.astype(float)
        out = np.zeros((len(rois), x.shape[1], *size))
        for r, (x1, y1, x2, y2) in enumerate(rois.astype(float) * scale - 0.5 * half):
            h, w = (y2 - y1, x2 - x1) if half else (max(y2 - y1, 1), max(x2 - x1, 1))
            down = samples or math.ceil(h / size[0])
            along = samples or math.ceil(w / size[1])
            for p, q in np.ndindex(*size):
                seen = []
                for i, j in itertools.product(range(down), range(along)):
                    y = y1 + (p + (i + 0.5) / down) * h / size[0]
                    z = x1 + (q + (j + 0.5) / along) * w / size[1]
                    parts = [x[batch[r], :, a, b] * k for a, b, k in corners(y, z, *x.shape[2:])]
                    seen.append(np.sum(parts, 0) if mode == "avg" else np.max(parts, 0))
                if seen:
                    out[r, :, p, q] = np.mean(seen, 0) if mode == "avg" else np.max(seen, 0)
        return out

    return apply


def whole(size=(2, 3), scale=0.5):
    def apply(x, rois, batch):
        out = np.zeros((len(rois), x.shape[1], *size))
        where = np.full(out.shape, -1)
        for r, region in enumerate(rois):
            x1, y1, x2, y2 = (
                math.floor(abs(v * scale) + 0.5) * (1 if v > 0 else -1) for v in region
            )
            h, w = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
            for c, p, q in np.ndindex(x.shape[1], *size):
                rows = range(
                    max(math.floor(p * h) + y1, 0), min(math.ceil((p + 1) * h) + y1, x.shape[2])
                )
                columns = range(
                    max(math.floor(q * w) + x1, 0), min(math.ceil((q + 1) * w) + x1, x.shape[3])
                )
                places = list(itertools.product(rows, columns))
                if places:
                    at = max(places, key=lambda a, c=c, r=r: x[(batch[r], c, *a)])
                    out[r, c, p, q] = x[(batch[r], c, *at)]
                    where[r, c, p, q] = at[0] * x.shape[3] + at[1]
        return out, where

    return apply


HOW = {"size": (2, 3), "scale": 0.5}
X = arr(2, 3, 6, 7, distinct=True)
OPEN = {0: {0: "N", 2: "H", 3: "W"}}
FIXED = np.random.default_rng(3).normal(size=(2, 3, 6, 7)).astype(np.float32)
LARGEST = family.roi_align(FIXED, ROIS, BATCH, samples=2, mode="max", **HOW)
PLACES = family.roi_pool(FIXED, ROIS, BATCH, **HOW)[1]


def to_places(grad, argmax, batch):
    total = np.zeros((2, 3, 42))
    for r, c, p, q in np.ndindex(grad.shape):
        if argmax[r, c, p, q] >= 0:
            total[batch[r], c, argmax[r, c, p, q]] += grad[r, c, p, q]
    return total.reshape(2, 3, 6, 7)


CASES = [
    Case(
        "roi_align",
        [X, ROIS, BATCH],
        HOW | {"samples": 2},
        expect=aligned(),
        grad=[0],
        jax=False,
        grad2=True,
    ),
    Case(
        "roi_align",
        [X, ROIS, BATCH],
        HOW,
        expect=aligned(samples=0),
        symbolic=OPEN,
        grad=[0],
        jax=False,
    ),
    Case(
        "roi_align",
        [X, ROIS, BATCH],
        HOW | {"samples": 2, "aligned": True},
        expect=aligned(half=True),
        grad=[0],
        jax=False,
        id="aligned",
    ),
    Case(
        "roi_align",
        [X, ROIS, BATCH],
        HOW | {"samples": 2, "mode": "max"},
        expect=aligned("max"),
        grad=[0],
        jax=False,
        id="max",
    ),
    Case(
        "roi_align", [X, np.zeros((0, 4), np.float32), np.zeros(0, int)], HOW, grad=False, jax=False
    ),
    Case(
        "roi_align_grad",
        [arr(4, 3, 2, 3), ROIS, BATCH],
        HOW | {"shape": (2, 3, 6, 7), "samples": 2},
        grad=[0],
        jax=False,
    ),
    Case(
        "roi_align_max_grad",
        [FIXED, ROIS, BATCH, LARGEST, arr(4, 3, 2, 3)],
        HOW | {"samples": 2},
        jax=False,
    ),
    Case("roi_pool", [X, ROIS, BATCH], HOW, expect=whole(), symbolic=OPEN, grad=[0], jax=False),
    Case(
        "roi_pool_grad",
        [arr(4, 3, 2, 3), PLACES, BATCH],
        {"shape": (2, 3, 6, 7)},
        expect=to_places,
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_bad_inputs_are_refused():
    x = np.zeros((2, 1, 4, 4), np.float32)
    with pytest.raises(ArgumentError, match="not there"):
        family.roi_align(x, ROIS, np.array([0, 1, 2, 0]), size=2)
    with pytest.raises(ArgumentError, match="finite"):
        family.roi_pool(x, ROIS * np.nan, BATCH, size=2)
    with pytest.raises(ArgumentError, match="unknown mode"):
        family.roi_align(x, ROIS, BATCH, size=2, mode="sum")
    with pytest.raises(ShapeError, match="4 numbers"):
        family.roi_align(x, ROIS[:, :3], BATCH, size=2)
    with pytest.raises(ArgumentError, match="too large"):
        family.roi_align(x, ROIS * np.float32(1e9), BATCH, size=2)
