import math

import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ops.detection import roi_bins as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

ROIS = np.array([[1, 2, 9, 11], [3, 0, 8.6, 5.4], [-4, 3, 30, 7], [6, 6, 6.2, 6.1]], np.float32)
# Off whole pixels, where integrals have a second derivative: finite differences need it.
OFF = np.array([[1.3, 2.7, 9.1, 11.3], [3.1, 0.3, 8.7, 5.5], [-4.3, 3.3, 30.1, 7.1]], np.float32)
BATCH = np.array([0, 1, 1, 0])
HOW = {"size": (2, 3), "scale": 0.5}


def own_channels(x, rois, batch):
    out = np.zeros((len(rois), x.shape[1] // 6, 2, 3))
    for r, region in enumerate(rois.astype(float)):
        x1, y1, x2, y2 = (math.copysign(math.floor(abs(v) + 0.5), v) for v in region)
        x1, y1, x2, y2 = x1 * 0.5, y1 * 0.5, (x2 + 1) * 0.5, (y2 + 1) * 0.5
        h, w = max(y2 - y1, 0.1) / 2, max(x2 - x1, 0.1) / 3
        for c, p, q in np.ndindex(out.shape[1:]):
            rows = slice(max(math.floor(p * h + y1), 0), max(math.ceil((p + 1) * h + y1), 0))
            columns = slice(max(math.floor(q * w + x1), 0), max(math.ceil((q + 1) * w + x1), 0))
            seen = x[batch[r], (c * 2 + p) * 3 + q, rows, columns]
            out[r, c, p, q] = seen.mean() if seen.size else 0
    return out


def integrals(x, rois, batch, steps=200):
    """By the mean over a fine grid in each bin."""
    out = np.zeros((len(rois), x.shape[1], 2, 3))
    full = np.pad(x.astype(float), [(0, 0), (0, 0), (20, 20), (20, 20)])
    for r, (x1, y1, x2, y2) in enumerate(rois.astype(float) * 0.5):
        for p, q in np.ndindex(2, 3):
            y = y1 + (p + (np.arange(steps) + 0.5) / steps) * (y2 - y1) / 2 + 20
            z = x1 + (q + (np.arange(steps) + 0.5) / steps) * (x2 - x1) / 3 + 20
            top, left = np.floor(y).astype(int), np.floor(z).astype(int)
            rows = (
                full[batch[r], :, top] * (1 - y + top)[:, None, None]
                + full[batch[r], :, top + 1] * (y - top)[:, None, None]
            )
            values = rows[..., left] * (1 - z + left) + rows[..., left + 1] * (z - left)
            out[r, :, p, q] = values.mean((0, 2))
    return out


CASES = [
    Case(
        "psroi_pool",
        [arr(2, 12, 6, 7), ROIS, BATCH],
        HOW,
        expect=own_channels,
        grad=[0],
        grad2=True,
        jax=False,
    ),
    Case(
        "psroi_pool_grad",
        [arr(4, 2, 2, 3), ROIS, BATCH],
        HOW | {"shape": (2, 12, 6, 7)},
        grad=[0],
        jax=False,
    ),
    Case(
        "prroi_pool",
        [arr(2, 2, 6, 7), OFF, BATCH[:3]],
        HOW,
        expect=integrals,
        tol=2e-3,
        grad=[0, 1],
        jax=False,
        symbolic={0: {2: "H"}},
    ),
    Case(
        "prroi_pool_grad", [arr(4, 2, 2, 3), ROIS, BATCH], HOW | {"shape": (2, 2, 6, 7)}, jax=False
    ),
    Case("prroi_pool_rois_grad", [arr(2, 2, 6, 7), ROIS, BATCH, arr(4, 2, 2, 3)], HOW, jax=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_regions_of_no_size_give_zero():
    x = np.ones((1, 1, 4, 4), np.float32)
    flat = np.array([[2, 2, 2, 3]], np.float32)
    assert (family.prroi_pool(x, flat, np.array([0]), size=2) == 0).all()


def test_channels_must_be_those_of_the_bins():
    with pytest.raises(ShapeError, match="channels of its own"):
        family.psroi_pool(np.zeros((1, 7, 4, 4), np.float32), ROIS, BATCH, size=2)


def test_no_images_and_no_regions_give_nothing():
    none = np.zeros((0, 12, 6, 7), np.float32), ROIS[:0], BATCH[:0]
    assert family.psroi_pool(*none, **HOW).shape == (0, 2, 2, 3)
    with pytest.raises(ShapeError, match="has elements"):
        family.psroi_pool(np.zeros((2, 12, 0, 7), np.float32), ROIS, BATCH, **HOW)
