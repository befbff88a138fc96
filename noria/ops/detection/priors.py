"""Boxes laid over a feature map before anything is seen: priors of SSD, anchors of Faster R-CNN.

feature_size and image_size are (height, width), which may be symbolic. Results are [H, W, P, 4],
with P boxes at each position, rows and columns of the feature map first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dims import Size
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.program import Spec, as_shape


def _size(value: Any, what: str) -> tuple[Size, Size]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ArgumentError(f"{what} must be a height and a width", got=repr(value))
    height, width = as_shape(value)
    return height, width


def _positive(numbers: Sequence[float], what: str) -> None:
    if not all(n > 0 for n in numbers):
        raise ArgumentError(f"{what} must be positive", got=repr(tuple(numbers)))


def _expand_ratios(ratios: Sequence[float], flip: bool) -> list[float]:
    """1 and the other ratios, each once, with its inverse behind it if `flip`."""
    found = [1.0]
    for ratio in ratios:
        if all(abs(ratio - other) >= 1e-6 for other in found):
            found += [ratio, 1.0 / ratio] if flip else [ratio]
    return found


def _shapes(
    min_sizes: Sequence[float],
    max_sizes: Sequence[float],
    ratios: Sequence[float],
    squares_first: bool,
) -> list[tuple[float, float]]:
    """(width, height) of the priors at one position."""
    shapes: list[tuple[float, float]] = []
    for i, size in enumerate(min_sizes):
        turned = [(size * math.sqrt(r), size / math.sqrt(r)) for r in ratios]
        between = [(math.sqrt(size * max_sizes[i]),) * 2] if max_sizes else []
        if squares_first:
            shapes += [turned[0], *between, *turned[1:]]
        else:
            shapes += [*turned, *between]
    return shapes


def _around(x: np.ndarray, y: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Boxes [H, W, P, 4] around centres x [W, P] and y [H, P] of sizes [P, 2]."""
    rows, columns = y.shape[0], x.shape[0]
    half = shapes / 2
    out = np.empty((rows, columns, len(shapes), 4))
    out[..., 0] = (x - half[:, 0])[None]
    out[..., 1] = (y - half[:, 1])[:, None]
    out[..., 2] = (x + half[:, 0])[None]
    out[..., 3] = (y + half[:, 1])[:, None]
    return out


def _steps(steps: Sequence[float], feature: Any, image: Any) -> tuple[float, float]:
    """(down, right) from one position to the next, in pixels."""
    if steps[0] and steps[1]:
        return steps[0], steps[1]
    return image[0] / max(feature[0], 1), image[1] / max(feature[1], 1)


@op
def prior_boxes(
    *,
    feature_size,
    image_size,
    min_sizes,
    max_sizes=(),
    aspect_ratios=(1.0,),
    flip=False,
    clip=False,
    steps=(0.0, 0.0),
    offset=0.5,
    squares_first=False,
    dtype="float32",
):
    """Priors of SSD [H, W, P, 4], in fractions of the image.  (Liu et al., 2016)

    At each position, for each min size s: one box of area s^2 for each ratio (1 and those given,
    with their inverses if `flip`), and, if there are max sizes m, a square of side sqrt(s m).
    squares_first: that square is the second box instead of the last (Caffe's order).
    steps: pixels (down, right) between positions, 0 for image / feature; offset: where in its step
    a centre lies; clip: corners are kept in [0, 1].
    """
    height, width = _size(feature_size, "feature_size")
    _size(image_size, "image_size")
    _positive([*min_sizes, *max_sizes, *aspect_ratios], "sizes and ratios")
    if max_sizes and len(max_sizes) != len(min_sizes):
        raise ArgumentError(
            "max_sizes must be one for each min size", got=f"{min_sizes}, {max_sizes}"
        )
    per_size = len(_expand_ratios(aspect_ratios, flip)) + bool(max_sizes)
    return Spec((height, width, per_size * len(min_sizes), 4), dtype)


@prior_boxes.compute
def _(
    xp,
    feature_size,
    image_size,
    min_sizes,
    max_sizes,
    aspect_ratios,
    flip,
    clip,
    steps,
    offset,
    squares_first,
    dtype,
):
    ratios = _expand_ratios(aspect_ratios, flip)
    shapes = np.array(_shapes(min_sizes, max_sizes, ratios, squares_first)).reshape(-1, 2)
    down, right = _steps(steps, feature_size, image_size)
    x = (np.arange(feature_size[1]) + offset) * right
    y = (np.arange(feature_size[0]) + offset) * down
    boxes = _around(x[:, None], y[:, None], shapes) / np.tile(image_size[::-1], 2)
    return xp.asarray((np.clip(boxes, 0, 1) if clip else boxes).astype(to_numpy(dtype)))


@op
def density_prior_boxes(
    *,
    feature_size,
    image_size,
    fixed_sizes,
    fixed_ratios,
    densities,
    clip=False,
    steps=(0.0, 0.0),
    offset=0.5,
    dtype="float32",
):
    """Priors laid more densely than positions [H, W, P, 4].  (Zhang et al., FaceBoxes, 2017)

    For each fixed size s with its density d and for each ratio r: d x d boxes of width s sqrt(r)
    and height s / sqrt(r), their centres spread over one step. In fractions of the image; x1 and y1
    are never below 0, x2 and y2 never above 1, and with `clip` neither the other way round.
    """
    height, width = _size(feature_size, "feature_size")
    _size(image_size, "image_size")
    _positive([*fixed_sizes, *fixed_ratios, *densities], "sizes, ratios and densities")
    if len(densities) != len(fixed_sizes):
        raise ArgumentError("one density for each size", got=f"{fixed_sizes}, {densities}")
    count = len(fixed_ratios) * sum(d * d for d in densities)
    return Spec((height, width, count, 4), dtype)


@density_prior_boxes.compute
def _(
    xp,
    feature_size,
    image_size,
    fixed_sizes,
    fixed_ratios,
    densities,
    clip,
    steps,
    offset,
    dtype,
):
    down, right = _steps(steps, feature_size, image_size)
    step = int((down + right) * 0.5)  # whole pixels: this is how the boxes are spread
    shapes, moves = [], []
    for size, density in zip(fixed_sizes, densities, strict=True):
        shift = step // density
        along = np.arange(density) * shift + shift / 2 - step / 2
        for ratio in fixed_ratios:
            shapes += [(size * math.sqrt(ratio), size / math.sqrt(ratio))] * density**2
            moves += [(x, y) for y in along for x in along]
    move = np.array(moves).reshape(-1, 2)
    x = ((np.arange(feature_size[1]) + offset) * right)[:, None] + move[:, 0]
    y = ((np.arange(feature_size[0]) + offset) * down)[:, None] + move[:, 1]
    boxes = _around(x, y, np.array(shapes).reshape(-1, 2)) / np.tile(image_size[::-1], 2)
    boxes[..., :2] = np.maximum(boxes[..., :2], 0)
    boxes[..., 2:] = np.minimum(boxes[..., 2:], 1)
    return xp.asarray((np.clip(boxes, 0, 1) if clip else boxes).astype(to_numpy(dtype)))


@op
def anchor_boxes(*, feature_size, sizes, aspect_ratios, stride, offset=0.5, dtype="float32"):
    """Anchors of Faster R-CNN [H, W, P, 4], in pixels of the image.  (Ren et al., 2015)

    At each position, for each ratio (height / width), for each size: a box of about that size
    squared. stride: pixels (right, down) between positions; offset: where in its step a centre is.
    """
    height, width = _size(feature_size, "feature_size")
    _positive([*sizes, *aspect_ratios, *stride], "sizes, ratios and stride")
    if len(stride) != 2:
        raise ArgumentError("stride must be (right, down)", got=repr(stride))
    return Spec((height, width, len(sizes) * len(aspect_ratios), 4), dtype)


@anchor_boxes.compute
def _(xp, feature_size, sizes, aspect_ratios, stride, offset, dtype):
    right, down = stride
    shapes = []
    for ratio in aspect_ratios:
        base = math.floor(math.sqrt(right * down / ratio) + 0.5)  # of a square step, whole pixels
        tall = math.floor(base * ratio + 0.5)
        shapes += [(size / right * base - 1, size / down * tall - 1) for size in sizes]
    x = np.arange(feature_size[1]) * right + offset * (right - 1)
    y = np.arange(feature_size[0]) * down + offset * (down - 1)
    boxes = _around(x[:, None], y[:, None], np.array(shapes).reshape(-1, 2))
    return xp.asarray(boxes.astype(to_numpy(dtype)))
