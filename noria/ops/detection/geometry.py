"""Areas and overlaps of boxes, rotated boxes and polygons, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.core.errors import EngineError
from noria.ir.program import Spec
from noria.ops.common import need_rank, require_equal

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]  # one shape, many shapes -> IoU of each


def numpy_only(xp: Any, name: str) -> None:
    """Raises EngineError under XLA, for ops whose result or work has a size only the data tell."""
    if xp is not np:
        raise EngineError(
            f"XLA cannot compile {name}: its work depends on the data",
            hint="run this Program by another engine",
        )


# ---- upright boxes -----------------------------------------------------------------------------


def need_columns(table: Spec, count: int, what: str) -> None:
    """Raises ShapeError unless this is a table [N, count]."""
    need_rank(table, 2, what=what)
    require_equal(table.shape[1], count, f"columns of {what}")


def box_sizes(boxes: np.ndarray, normalized: bool) -> tuple[np.ndarray, np.ndarray]:
    """(widths, heights) of boxes [..., 4]."""
    extra = 0 if normalized else 1
    return boxes[..., 2] - boxes[..., 0] + extra, boxes[..., 3] - boxes[..., 1] + extra


def box_areas(boxes: np.ndarray, normalized: bool) -> np.ndarray:
    """Areas of boxes [..., 4], 0 for those that end before they begin."""
    width, height = box_sizes(boxes, normalized)
    bad = (boxes[..., 2] < boxes[..., 0]) | (boxes[..., 3] < boxes[..., 1])
    return np.where(bad, boxes.dtype.type(0), width * height)


def common_area(a: np.ndarray, b: np.ndarray, normalized: bool) -> np.ndarray:
    """Area that boxes a and b [..., 4], which broadcast, have in common."""
    corner = np.maximum(a[..., :2], b[..., :2])
    sides = np.minimum(a[..., 2:], b[..., 2:]) - corner
    sides = np.maximum(sides + (0 if normalized else 1), 0)
    return sides[..., 0] * sides[..., 1]


def iou_matrix(a: np.ndarray, b: np.ndarray, normalized: bool) -> np.ndarray:
    """Intersection over union [N, M] of boxes [N, 4] and [M, 4]; 0 where nothing is common."""
    common = common_area(a[:, None], b[None], normalized)
    wa, ha = box_sizes(a, normalized)
    wb, hb = box_sizes(b, normalized)
    union = (wa * ha)[:, None] + (wb * hb)[None] - common
    return common / np.where(common == 0, common.dtype.type(1), union)


@dataclass(frozen=True)
class BoxOverlap:
    """IoU of one box [4] with many [M, 4], as suppression asks for it.

    touching: whether pixel boxes that end one pixel before the other begins have anything in
    common by the pixel that is added to each side (Detectron has it so, Fluid has not). If so,
    boxes without an area overlap nothing, else those that lie in one place give NaN.
    """

    normalized: bool
    touching: bool = True

    def __call__(self, one: np.ndarray, many: np.ndarray) -> np.ndarray:
        return self.of_columns(one, many.T, box_areas(many, self.normalized))

    def of_columns(self, one: np.ndarray, many: np.ndarray, areas: np.ndarray) -> np.ndarray:
        """The same of boxes given as columns [4, M], and their areas."""
        extra = 0 if self.normalized else 1
        x1, y1, x2, y2 = many
        wide = np.minimum(x2, one[2]) - np.maximum(x1, one[0]) + extra
        tall = np.minimum(y2, one[3]) - np.maximum(y1, one[1]) + extra
        common = np.maximum(wide, 0) * np.maximum(tall, 0)
        with np.errstate(invalid="ignore"):
            iou: np.ndarray = common / (areas + box_areas(one, self.normalized) - common)
        if self.touching:
            return np.where(common > 0, iou, common.dtype.type(0))
        apart = (x1 > one[2]) | (y1 > one[3]) | (x2 < one[0]) | (y2 < one[1])
        return np.where(apart, common.dtype.type(0), iou)


# ---- polygons ----------------------------------------------------------------------------------


def polygon_areas(polygons: np.ndarray) -> np.ndarray:
    """Signed areas of polygons [..., K, 2]: positive if the corners go counter-clockwise."""
    following = np.roll(polygons, -1, axis=-2)
    return 0.5 * np.sum(_cross(polygons, following), axis=-1)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _inside(a: np.ndarray, b: np.ndarray, shared: bool) -> np.ndarray:
    """Twice the area under those parts of the edges of a [..., K, 2] that lie inside b [..., L, 2].

    By Green's theorem that is a's part of the area in common. Edges that both have count if
    `shared`, so that they are not counted for a and for b.
    """
    start, along = a, np.roll(a, -1, axis=-2) - a
    corner, side = b, np.roll(b, -1, axis=-2) - b
    # Point p of a's edge is inside of b's side q + s d if cross(d, p - q) >= 0.
    distance = _cross(side[..., None, :, :], start[..., :, None, :] - corner[..., None, :, :])
    speed = _cross(side[..., None, :, :], along[..., :, None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -distance / speed
    low = np.max(np.where(speed > 0, crossing, 0.0), axis=-1, initial=0.0)
    high = np.min(np.where(speed < 0, crossing, 1.0), axis=-1, initial=1.0)
    same_way = np.sum(side[..., None, :, :] * along[..., :, None, :], axis=-1) > 0
    on_side = (distance == 0) & same_way & shared
    out = ((speed == 0) & ~(distance > 0) & ~on_side).any(-1)
    begin = start + np.minimum(low, 1.0)[..., None] * along
    end = start + np.maximum(high, 0.0)[..., None] * along
    return np.sum(np.where(out | (low >= high), 0.0, _cross(begin, end)), axis=-1)


def convex_common_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that convex polygons a [..., K, 2] and b [..., L, 2], which broadcast, share."""
    a, b = _counter_clockwise(a), _counter_clockwise(b)
    origin = a[..., :1, :]  # near the shapes, so that cross products do not cancel
    a, b = a - origin, b - origin
    return np.maximum(0.5 * (_inside(a, b, True) + _inside(b, a, False)), 0.0)


def _counter_clockwise(polygons: np.ndarray) -> np.ndarray:
    turned = polygon_areas(polygons) < 0
    return np.where(turned[..., None, None], polygons[..., ::-1, :], polygons)


def _is_convex(polygons: np.ndarray) -> bool:
    sides = np.roll(polygons, -1, axis=-2) - polygons
    turns = _cross(sides, np.roll(sides, -1, axis=-2))
    return bool(((turns >= 0).all(-1) | (turns <= 0).all(-1)).all())


def _fan(polygons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(triangles [..., K - 2, 3, 2], signs): added up with their signs, they are the polygon."""
    first = np.broadcast_to(polygons[..., :1, :], polygons[..., 1:-1, :].shape)
    triangles = np.stack([first, polygons[..., 1:-1, :], polygons[..., 2:, :]], axis=-2)
    return triangles, np.sign(polygon_areas(triangles))


def polygon_common_area(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Area that a polygon [K, 2] shares with each of many [M, K, 2], none crossing itself."""
    if _is_convex(one) and _is_convex(many):
        return convex_common_area(one, many)
    left, left_sign = _fan(one)
    right, right_sign = _fan(many)
    areas = convex_common_area(left[None, :, None], right[:, None, :])
    return np.abs(np.einsum("i,mj,mij->m", left_sign, right_sign, areas))


def polygon_overlap(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """IoU of one polygon [2 K], x and y in turn, with each of many [M, 2 K]."""
    a = one.astype(np.float64).reshape(-1, 2)
    b = many.astype(np.float64).reshape(len(many), len(a), 2)
    near = (b.min(1) < a.max(0)).all(1) & (b.max(1) > a.min(0)).all(1)
    common = np.zeros(len(b))
    common[near] = polygon_common_area(a, b[near])
    return _iou(np.abs(polygon_areas(a)), np.abs(polygon_areas(b)), common)


def _iou(one: np.ndarray, many: np.ndarray, common: np.ndarray) -> np.ndarray:
    """IoU from areas; 0 for what has no area."""
    empty = (one <= 0) | (many <= 0) | (common <= 0)
    return np.where(empty, 0.0, common / np.where(empty, 1.0, one + many - common))


# ---- rotated boxes -----------------------------------------------------------------------------


def rotated_corners(boxes: np.ndarray) -> np.ndarray:
    """Corners [..., 4, 2] of boxes [..., 5]: centre, sizes, degrees; y points down."""
    angle = np.deg2rad(boxes[..., 4].astype(np.float64))
    cos, sin = np.cos(angle)[..., None], np.sin(angle)[..., None]
    dx = 0.5 * boxes[..., 2:3] * np.array([-1.0, 1.0, 1.0, -1.0])
    dy = 0.5 * boxes[..., 3:4] * np.array([-1.0, -1.0, 1.0, 1.0])
    x = boxes[..., 0:1] + cos * dx + sin * dy
    y = boxes[..., 1:2] - sin * dx + cos * dy
    return np.stack([x, y], axis=-1)


def rotated_overlap(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """IoU of one rotated box [5] with each of many [M, 5]."""
    reach = (np.hypot(*one[2:4]) + np.hypot(many[:, 2], many[:, 3])) / 2
    near = np.hypot(*(many[:, :2] - one[:2]).T) <= reach
    common = np.zeros(len(many))
    common[near] = convex_common_area(rotated_corners(one), rotated_corners(many[near]))
    return _iou(one[2] * one[3], many[:, 2] * many[:, 3], common)
