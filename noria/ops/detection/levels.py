"""Regions collected from the levels of a pyramid, and shared out among them.

(Lin et al., Feature Pyramid Networks, 2017)  Sizes and packed lists are as in `nms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank
from noria.ops.detection.geometry import box_areas, numpy_only
from noria.ops.detection.suppression import best_first, new_symbol
from noria.ops.packed import checked_splits, row_count


@op
def best_rows(scores, *, limit, size):
    """Ids int64 [size] of the `limit` best (0: all) of scores [N], best first; ties in order."""
    need_float(scores)
    need_rank(scores, 1, what="scores")
    if not isinstance(limit, int) or limit < 0:
        raise ArgumentError("limit must be an integer, 0 or more", got=repr(limit))
    return Spec((new_symbol(size),), "int64")


@best_rows.compute
def _(xp, scores, limit, size):
    numpy_only(xp, "best_rows")
    return best_first(scores, np.arange(len(scores)), limit or -1)


def collect_proposals(
    rois: Sequence[Any],
    scores: Sequence[Any],
    splits: Sequence[Any] | None = None,
    *,
    limit: int,
    size: str,
) -> Any:
    """The best regions of all levels: [size, D], or with their row_splits [N + 1].

    rois: of each level [R, D]; scores: [R]; splits: row_splits of each level, then the best of all
    images come image by image. Without splits they come best first.
    """
    every = o.concat(*rois, axis=0) if len(rois) > 1 else rois[0]
    values = o.concat(*scores, axis=0) if len(scores) > 1 else scores[0]
    chosen = o.best_rows(values, limit=limit, size=size)
    if splits is None:
        return o.gather(every, chosen)
    parts = [o.sequence_ids(s, total=r.shape[0]) for r, s in zip(rois, splits, strict=True)]
    images = o.gather(o.concat(*parts, axis=0) if len(parts) > 1 else parts[0], chosen)
    order = o.argsort(images)
    count = splits[0].shape[0] - 1
    own = o.equal(o.unsqueeze(images, axis=(1,)), o.arange(stop=count))
    ends = o.cumsum(o.reduce_sum(o.cast(own, dtype="int64"), axis=0), axis=0)
    start = o.fill(shape=(1,), value=0, dtype="int64")
    return o.gather(every, o.gather(chosen, order)), o.concat(start, ends, axis=0)


@op(outputs=("restore",))
def distribute_proposals(
    rois,
    row_splits=None,
    *,
    sizes,
    low,
    high,
    level=4,
    scale=224.0,
    tiny=0.0,
    first=0,
    normalized=False,
):
    """Regions by the level of the pyramid they belong to, and where each went.

    rois: [R, D], the first of 4 coordinates at column `first`, of pixels if not normalized;
    row_splits: [N + 1].
    A region of area a belongs to level floor(level + log2(sqrt(a) / scale + tiny)), kept in
    [low, high]. sizes: names of new symbols, for how many there are on each of high - low + 1
    levels. Results: restore int64 [R], the place of each region among those of all levels, each
    level behind the one before; the regions of each level [size, D]; with row_splits those of each
    level, too.
    """
    need_float(rois)
    need_rank(rois, 2, what="rois")
    if not isinstance(sizes, Sequence) or len(sizes) != high - low + 1:
        raise ArgumentError("one size for each level", got=f"{sizes} for {low} to {high}")
    columns = rois.shape[1]
    if not isinstance(columns, int) or columns < first + 4:
        raise ShapeError("a region has 4 coordinates", got=str(rois))
    levels = [Spec((new_symbol(s, "sizes"), columns), rois.dtype) for s in sizes]
    out = [Spec((rois.shape[0],), "int64"), *levels]
    if row_splits is not None:
        out += [Spec((row_count(row_splits) + 1,), "int64")] * len(levels)
    return out


@distribute_proposals.compute
def _(xp, rois, row_splits, sizes, low, high, level, scale, tiny, first, normalized):
    numpy_only(xp, "distribute_proposals")
    side = np.sqrt(box_areas(rois[:, first : first + 4], normalized))
    with np.errstate(divide="ignore"):
        target = np.floor(np.log2(side / rois.dtype.type(scale) + rois.dtype.type(tiny)) + level)
    target = np.clip(np.nan_to_num(target, nan=low), low, high).astype(np.int64)
    order = np.argsort(target, kind="stable")
    restore = np.empty(len(order), np.int64)
    restore[order] = np.arange(len(order))
    levels = [rois[target == k] for k in range(low, high + 1)]
    if row_splits is None:
        return restore, *levels
    splits = checked_splits(np, row_splits, len(rois))
    before = [np.concatenate([[0], np.cumsum(target == k)])[splits] for k in range(low, high + 1)]
    return restore, *levels, *before
