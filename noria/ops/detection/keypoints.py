"""Where the keypoints of a region are, by a heat map of each."""

from __future__ import annotations

from typing import Any

from noria.core.errors import ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_equal


@op
def heatmap_keypoints(heatmaps, boxes, *, softmax=False):
    """Keypoints [R, 4, K]: x, y, score and probability of the peak of each heat map.

    (He et al., Mask R-CNN, 2017)  heatmaps: [R, K, S, S], at least 2 wide, over boxes [R, 4 or
    more] of pixels. The peak is moved and its height corrected by a quadratic through its
    neighbours, by at most 1.5 places; softmax: whether the probability is computed, else it is 0.
    """
    need_float(heatmaps, boxes)
    need_rank(heatmaps, 4, what="heatmaps")
    need_rank(boxes, 2, what="boxes")
    require_equal(heatmaps.shape[0], boxes.shape[0], "numbers of regions")
    require_equal(heatmaps.shape[2], heatmaps.shape[3], "sides of heat maps")
    if heatmaps.shape[2] in (0, 1) or boxes.shape[1] in (0, 1, 2, 3):
        raise ShapeError("heat maps of 2 x 2 and boxes of 4", got=f"{heatmaps} and {boxes}")
    return Spec((heatmaps.shape[0], 4, heatmaps.shape[1]), heatmaps.dtype)


@heatmap_keypoints.compute
def _(xp, heatmaps, boxes, softmax):
    regions, points, size, _ = heatmaps.shape
    flat = heatmaps.reshape(regions, points, size * size)
    peak = xp.argmax(flat, axis=2)
    row, column = peak // size, peak % size
    r, k = xp.arange(regions)[:, None], xp.arange(points)[None]

    def near(dy: int, dx: int) -> Any:  # mirrored at the edge
        y, x = row + dy, column + dx
        y = xp.where(y < 0, row + 1, xp.where(y >= size, row - 1, y))
        x = xp.where(x < 0, column + 1, xp.where(x >= size, column - 1, x))
        return heatmaps[r, k, y, x]

    f = {(dy, dx): near(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    bx, by = (f[0, -1] - f[0, 1]) / 2, (f[-1, 0] - f[1, 0]) / 2
    xx = f[0, -1] - 2 * f[0, 0] + f[0, 1]
    yy = f[-1, 0] - 2 * f[0, 0] + f[1, 0]
    xy = (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / 4
    det = xx * yy - xy * xy
    flat_top = xp.abs(det) < 1e-4
    safe = xp.where(flat_top, 1, det)
    dx = xp.where(flat_top, 0, (yy * bx - xy * by) / safe)
    dy = xp.where(flat_top, 0, (xx * by - xy * bx) / safe)
    largest = xp.maximum(xp.abs(dx), xp.abs(dy))
    shrink = xp.where(largest > 1.5, 1.5 / xp.where(largest > 1.5, largest, 1), 1)
    dx, dy = dx * shrink, dy * shrink
    rise = -(bx * dx + by * dy) + (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy) / 2
    wide = xp.maximum(boxes[:, 2] - boxes[:, 0], 1)[:, None]
    tall = xp.maximum(boxes[:, 3] - boxes[:, 1], 1)[:, None]
    x = boxes[:, 0:1] + (0.5 + column + dx) * wide / size
    y = boxes[:, 1:2] + (0.5 + row + dy) * tall / size
    top = xp.max(flat, axis=2)
    if softmax:
        chance = 1 / xp.sum(xp.exp(flat - top[..., None]), axis=2)
    else:
        chance = xp.zeros_like(top)
    return xp.stack([x, y, f[0, 0] + rise, chance], axis=1).astype(heatmaps.dtype)
