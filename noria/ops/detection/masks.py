"""What a mask branch is trained for: polygons of objects, drawn into regions that found them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.detection.geometry import iou_matrix, need_columns, numpy_only
from noria.ops.detection.suppression import joined, new_symbol, splits_of
from noria.ops.packed import checked_splits, row_count

FINE = 5  # steps a pixel is divided into while an outline is followed
FARTHEST = 1e6  # pixels from the region: what is farther off is no outline


def _outline(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(columns, rows) of the fine steps along a closed polygon [K, 2]."""
    fine = np.trunc(FINE * corners.astype(np.float64) + 0.5).astype(np.int64)
    columns, rows = [], []
    for (xs, ys), (xe, ye) in zip(fine, np.roll(fine, -1, axis=0), strict=True):
        wide, tall = abs(xe - xs), abs(ye - ys)
        flat = wide >= tall
        turned = xs > xe if flat else ys > ye
        (xa, ya), (xb, yb) = ((xe, ye), (xs, ys)) if turned else ((xs, ys), (xe, ye))
        along = np.arange(max(wide, tall) + 1)
        along = along[::-1] if turned else along
        if flat:
            slope = (yb - ya) / wide if wide else 0.0
            columns.append(along + xa)
            rows.append(np.trunc(ya + slope * along + 0.5).astype(np.int64))
        else:
            slope = (xb - xa) / tall
            rows.append(along + ya)
            columns.append(np.trunc(xa + slope * along + 0.5).astype(np.int64))
    return np.concatenate(columns), np.concatenate(rows)


def _drawn(corners: np.ndarray, size: int) -> np.ndarray:
    """bool [size, size]: what a polygon [K, 2], in pixels, covers (the masks of COCO, 2014)."""
    x, y = _outline(corners)
    moved = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = np.where(x[moved] < x[moved - 1], x[moved], x[moved] - 1)
    row = np.minimum(y[moved], y[moved - 1])
    middle = (column - FINE // 2) % FINE == 0  # only middles of pixels are crossed
    column, row = (column[middle] - FINE // 2) // FINE, row[middle]
    inside = (column >= 0) & (column <= size - 1)
    row = np.ceil(np.clip((row[inside] + 0.5) / FINE - 0.5, 0, size)).astype(np.int64)
    # Down the columns, one behind the other, each crossing turns inside into outside.
    crossings = np.bincount(column[inside] * size + row, minlength=size * size + 1)
    return (np.cumsum(crossings)[: size * size] % 2 == 1).reshape(size, size).T


def _in_region(polygons: list[np.ndarray], region: np.ndarray, size: int) -> np.ndarray:
    """bool [size, size]: what any of the polygons covers of a region, which is stretched."""
    sides = np.maximum(region[2:] - region[:2], 1)
    found = np.zeros((size, size), bool)
    for corners in polygons:
        places = (corners - region[:2]) * size / sides
        if not (np.abs(places) < FARTHEST).all():
            raise ArgumentError("a polygon lies too far from a region, or is not finite")
        found |= _drawn(places, size)
    return found


@op(outputs=("rois", "index", "masks", "row_splits"))
def mask_targets(
    image_info,
    classes,
    crowd,
    object_splits,
    points,
    polygon_splits,
    point_splits,
    rois,
    labels,
    roi_splits,
    *,
    size,
    class_count,
    resolution,
):
    """Masks for Mask R-CNN (He et al., 2017): (rois [size, 4], index int64 [size], masks int32
    [size, class_count * resolution^2], row_splits [N + 1]).

    image_info: (height, width, scale) [N, 3]; classes and crowd, integers [G], of the objects of
    all images, packed by object_splits [N + 1]; points [S, 2] of their polygons, in pixels of the
    original: object g has the polygons polygon_splits[g] up to polygon_splits[g + 1], polygon p the
    points point_splits[p] up to the next; rois [R, 4] and labels [R], as `sample_proposals` gives
    them, packed by roi_splits [N + 1].
    Each region with a label gets the mask of the object whose outline it overlaps most: 1 and 0 for
    its own class, -1, which does not count, for others. An image without such a region gets its
    first one, with -1 only. index: the number of the region in its image. size: name of a new
    symbol.
    """
    need_float(image_info, points, rois)
    need_integer(classes, crowd, labels)
    need_columns(image_info, 3, "image_info")
    need_columns(points, 2, "points")
    need_columns(rois, 4, "rois")
    for value, what in ((classes, "classes"), (crowd, "crowd"), (labels, "labels")):
        need_rank(value, 1, what=what)
    require_equal(classes.shape[0], crowd.shape[0], "numbers of objects")
    require_equal(row_count(polygon_splits), classes.shape[0], "numbers of objects")
    require_equal(rois.shape[0], labels.shape[0], "numbers of regions")
    images = row_count(object_splits)
    require_equal(images, image_info.shape[0], "numbers of images")
    require_equal(images, row_count(roi_splits), "numbers of images")
    row_count(point_splits)
    found, width = new_symbol(size), class_count * resolution**2
    return (
        Spec((found, 4), rois.dtype),
        Spec((found,), "int64"),
        Spec((found, width), "int32"),
        Spec((images + 1,), "int64"),
    )


def _around(polygons: list[np.ndarray]) -> np.ndarray:
    """The box around polygons."""
    every = np.concatenate(polygons)
    return np.concatenate([every.min(0), every.max(0)])


def _masks_of(rois: Any, objects: list[Any], resolution: int) -> np.ndarray:
    """bool [R, resolution, resolution] of regions, by the object each overlaps most."""
    if not objects:
        return np.zeros((len(rois), resolution, resolution), bool)
    boxes = np.stack([_around(polygons) for polygons in objects]).astype(rois.dtype)
    best = iou_matrix(rois, boxes, False).argmax(1)
    drawn = [
        _in_region(objects[k], region, resolution) for k, region in zip(best, rois, strict=True)
    ]
    return np.stack(drawn)


@mask_targets.compute
def _(
    xp,
    image_info,
    classes,
    crowd,
    object_splits,
    points,
    polygon_splits,
    point_splits,
    rois,
    labels,
    roi_splits,
    size,
    class_count,
    resolution,
):
    numpy_only(xp, "mask_targets")
    point_splits = checked_splits(np, point_splits, len(points))
    polygon_splits = checked_splits(np, polygon_splits, len(point_splits) - 1)
    object_splits = checked_splits(np, object_splits, len(classes))
    roi_splits = checked_splits(np, roi_splits, len(rois))
    if (labels >= class_count).any():
        raise ArgumentError("a label is no class", expected=f"below {class_count}")
    corners = np.split(points, point_splits[1:-1])
    every = [[c for c in corners[a:b] if len(c)] for a, b in pairwise(polygon_splits)]
    width = resolution**2
    parts: list[list[np.ndarray]] = [[], [], []]
    counts = []
    for n, (a, b) in enumerate(pairwise(roi_splits)):
        own = range(object_splits[n], object_splits[n + 1])
        objects = [every[g] for g in own if classes[g] > 0 and crowd[g] == 0 and every[g]]
        found = np.flatnonzero(labels[a:b] > 0)
        chosen = found if len(found) else np.arange(min(b - a, 1))
        regions = rois[a:b][chosen]
        masks = np.full((len(chosen), class_count, width), -1, np.int32)
        if len(found):
            drawn = _masks_of(regions / image_info[n, 2], objects, resolution)
            masks[np.arange(len(found)), labels[a:b][found]] = drawn.reshape(len(found), width)
        for part, new in zip(
            parts, (regions, chosen, masks.reshape(len(chosen), class_count * width)), strict=True
        ):
            part.append(new)
        counts.append(len(chosen))
    return (
        joined(parts[0], (4,), rois.dtype),
        joined(parts[1], (), np.int64),
        joined(parts[2], (class_count * width,), np.int32),
        splits_of(counts),
    )
