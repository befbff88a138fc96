import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ops.detection import keypoints as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

BOXES = np.array([[0, 0, 30, 30], [0, 0, 220, 230]], np.float32)


def peaks(heatmaps, boxes):
    out = np.zeros((len(boxes), 4, heatmaps.shape[1]))
    size = heatmaps.shape[2]
    for r, k in np.ndindex(heatmaps.shape[:2]):
        h = heatmaps[r, k].astype(float)
        y, x = np.unravel_index(h.argmax(), h.shape)
        f = np.pad(h, 1, mode="reflect")[y : y + 3, x : x + 3]
        slope = np.array([f[1, 2] - f[1, 0], f[2, 1] - f[0, 1]]) / 2
        cross = (f[2, 2] - f[2, 0] - f[0, 2] + f[0, 0]) / 4
        curve = np.array(
            [[f[1, 0] - 2 * f[1, 1] + f[1, 2], cross], [cross, f[0, 1] - 2 * f[1, 1] + f[2, 1]]]
        )
        move = np.zeros(2)
        if abs(np.linalg.det(curve)) >= 1e-4:
            move = np.linalg.solve(curve, -slope)
            move *= min(1, 1.5 / abs(move).max())
        height = f[1, 1] + slope @ move + move @ curve @ move / 2
        side = np.maximum(boxes[r, 2:] - boxes[r, :2], 1)
        place = boxes[r, :2] + (0.5 + np.array([x, y]) + move) * side / size
        out[r, :, k] = [*place, height, np.exp(h.max()) / np.exp(h).sum()]
    return out


CASES = [
    Case("heatmap_keypoints", [arr(2, 3, 5, 5), BOXES], {"softmax": True}, expect=peaks, tol=1e-4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_maps_of_one_place_are_refused():
    with pytest.raises(ShapeError, match="2 x 2"):
        family.heatmap_keypoints(np.zeros((2, 1, 1, 1), np.float32), BOXES)
