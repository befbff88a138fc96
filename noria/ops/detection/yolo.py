"""One-stage detection on a grid.  (Redmon & Farhadi, YOLOv3, 2018)

x: [N, A (5 + C), H, W]: for each of A anchors of each cell x, y, width, height, objectness, and C
classes, all before the sigmoid or exponential. anchors: (width, height) in turn, in pixels of an
image that is `downsample` times as large as the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal, require_same_shape
from noria.ops.detection.geometry import numpy_only
from noria.ops.numeric import add_at, cast_like, spec_of


def _anchor_count(x: Any, anchors: Sequence[int], classes: int) -> int:
    if len(anchors) % 2 or not anchors:
        raise ArgumentError("anchors are widths and heights in turn", got=repr(tuple(anchors)))
    count = len(anchors) // 2
    if x.shape[1] != count * (5 + classes):
        raise ShapeError(
            f"{count} anchors and {classes} classes need {count * (5 + classes)} channels",
            got=str(spec_of(x)),
        )
    return count


def yolo_box(
    x: Any,
    image_size: Any,
    *,
    anchors: Sequence[int],
    classes: int,
    downsample: int,
    threshold: float = 0.01,
    clip: bool = True,
    scale: float = 1.0,
    iou_factor: float | None = None,
) -> tuple[Any, Any]:
    """(boxes [N, A H W, 4] in pixels of the image, scores [N, A H W, C]) of a grid x.

    image_size: (height, width) of each image, [N, 2]. What is an object with less than `threshold`
    probability is all 0. clip: boxes are kept in the image; scale: of how far a centre may leave
    the middle of its cell. iou_factor f: x begins with A more channels, of the IoU each box expects
    to have; its share in the probability of an object is f: p^(1 - f) IoU^f (PP-YOLO, 2020).
    """
    need_rank(spec_of(x), 4)
    need_rank(spec_of(image_size), 2, what="image_size")
    expected = None
    if iou_factor is not None:
        own = len(anchors) // 2
        expected = o.slice(x, axes=(1,), starts=(0,), stops=(own,))
        x = o.slice(x, axes=(1,), starts=(own,), stops=(None,))
    count = _anchor_count(x, anchors, classes)
    n, _, rows, columns = x.shape
    grid = o.reshape(x, shape=(n, count, 5 + classes, rows, columns))

    def part(first: int, last: int) -> Any:
        return o.slice(grid, axes=(2,), starts=(first,), stops=(last,))

    def shaped(value: Any, *shape: Any) -> Any:
        return o.reshape(cast_like(value, x), shape=shape)

    size = cast_like(image_size, x)
    height = shaped(o.slice(size, axes=(1,), starts=(0,), stops=(1,)), n, 1, 1, 1, 1)
    width = shaped(o.slice(size, axes=(1,), starts=(1,), stops=(2,)), n, 1, 1, 1, 1)
    wide = shaped(np.asarray(anchors[0::2], np.float32), 1, count, 1, 1, 1)
    tall = shaped(np.asarray(anchors[1::2], np.float32), 1, count, 1, 1, 1)
    shift = -0.5 * (scale - 1.0)

    def along(cells: Any, full: Any, value: Any, anchor: Any, ratio: Any, axis: int) -> Any:
        """(low, high) edges of boxes along an axis."""
        place = shaped(o.arange(stop=cells), *(cells if i == axis else 1 for i in range(5)))
        total = shaped(o.dim_value(dim=cells), 1)
        inside = o.add(o.mul(o.sigmoid(value), scale), shift)
        center = o.div(o.mul(o.add(place, inside), full), total)
        length = o.div(o.mul(o.mul(o.exp(ratio), anchor), full), o.mul(total, float(downsample)))
        half = o.mul(length, 0.5)
        low, high = o.sub(center, half), o.add(center, half)
        return (o.maximum(low, 0.0), o.minimum(high, o.sub(full, 1.0))) if clip else (low, high)

    left, right = along(columns, width, part(0, 1), wide, part(2, 3), 4)
    top, bottom = along(rows, height, part(1, 2), tall, part(3, 4), 3)
    objectness = o.sigmoid(part(4, 5))
    if expected is not None and iou_factor is not None:
        overlap = o.pow(o.sigmoid(o.unsqueeze(expected, axis=(2,))), iou_factor)
        objectness = o.mul(o.pow(objectness, 1.0 - iou_factor), overlap)
    seen = cast_like(o.greater_equal(objectness, threshold), x)
    boxes = o.mul(o.concat(left, top, right, bottom, axis=2), seen)
    scores = o.mul(o.mul(o.sigmoid(part(5, 5 + classes)), objectness), seen)

    def listed(value: Any, last: int) -> Any:
        moved = o.transpose(value, perm=(0, 1, 3, 4, 2))
        return o.reshape(moved, shape=(n, count * rows * columns, last))

    return listed(boxes, 4), listed(scores, classes)


# ---- loss --------------------------------------------------------------------------------------


@op(outputs=("loss", "objectness", "match"))
def yolov3_loss(
    x,
    boxes,
    labels,
    scores=None,
    *,
    anchors,
    mask,
    classes,
    downsample,
    ignore=0.7,
    smooth=True,
    scale=1.0,
):
    """(loss [N], objectness [N, A, H, W], match int32 [N, B]) of grids x and the objects there are.

    boxes: [N, B, 4], centre, width and height in fractions of the image; one without size is no
    object; labels: integers [N, B]; scores: [N, B], what objects weigh (1, or of mixup). anchors
    are those of all grids, mask tells which A of them are of this one.
    An object belongs to the cell of its centre and the anchor of its shape, whose place, shape and
    class are trained; match is that anchor in the mask, -1 for another grid's. objectness is 1 (the
    score) there, and 0 elsewhere but -1, do not care, where a predicted box overlaps an object by
    more than `ignore`. smooth: labels are min(1 / C, 1 / 40) away from 0 and 1.
    """
    need_float(x, boxes, scores)
    need_integer(labels)
    need_rank(x, 4)
    need_rank(boxes, 3, what="boxes")
    if boxes.shape[2] != 4:
        raise ShapeError("boxes have 4 coordinates", got=str(boxes))
    require_equal(x.shape[0], boxes.shape[0], "numbers of images")
    objects = Spec(boxes.shape[:2], "int32")
    require_same_shape(objects, labels, "labels")
    if scores is not None:
        require_same_shape(objects, scores, "scores")
    if not all(0 <= m < len(anchors) // 2 for m in mask) or len(set(mask)) != len(mask):
        raise ArgumentError("mask names anchors, each once", got=f"{mask} of {len(anchors) // 2}")
    count = _anchor_count(x, [a for m in mask for a in anchors[2 * m : 2 * m + 2]], classes)
    grid = Spec((x.shape[0], count, *x.shape[2:]), x.dtype)
    return Spec((x.shape[0],), x.dtype), grid, objects


def _iou_of_centers(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes [..., 4] given by centre and size, which broadcast."""
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    side = np.maximum(high - low, 0)
    common = side[..., 0] * side[..., 1]
    return common / (a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - common)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _entropy(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cross entropy of sigmoid(x) and targets."""
    return np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))


def _predicted(grid: np.ndarray, anchors: np.ndarray, image: np.ndarray, scale: float) -> Any:
    """Boxes [N, A, H, W, 4] in fractions of the image that a grid [N, A, 5 + C, H, W] means."""
    rows, columns = grid.shape[3:]
    inside = _sigmoid(grid[:, :, :2]) * scale - 0.5 * (scale - 1)
    x = (np.arange(columns) + inside[:, :, 0]) / columns
    y = (np.arange(rows)[:, None] + inside[:, :, 1]) / rows
    sizes = np.exp(grid[:, :, 2:4]) * anchors[None, :, :, None, None]
    return np.stack([x, y, sizes[:, :, 0] / image[0], sizes[:, :, 1] / image[1]], -1)


class _Objects:
    """Objects that this grid is to find: where they are in it, and what is to be predicted.

    at: (image, anchor, row, column); target: place and shape [K, 4]; weight [K]; label [K]
    """

    def __init__(self, grid: Any, boxes: Any, labels: Any, scores: Any, how: Any) -> None:
        rows, columns = grid.shape[3:]
        anchors = np.array(how["anchors"], grid.dtype).reshape(-1, 2)
        self.image = np.array([columns, rows]) * how["downsample"]
        self.valid = (boxes[..., 2] >= 1e-6) & (boxes[..., 3] >= 1e-6)
        shapes = np.concatenate([np.zeros_like(boxes[..., :2]), boxes[..., 2:]], -1)
        priors = np.concatenate([np.zeros_like(anchors), anchors / self.image], -1)
        best = np.argmax(_iou_of_centers(priors.astype(boxes.dtype), shapes[..., None, :]), -1)
        place = np.full(len(anchors), -1)
        place[list(how["mask"])] = np.arange(len(how["mask"]))
        self.match = np.where(self.valid, place[best], -1).astype(np.int32)
        image, index = np.nonzero(self.match >= 0)
        found = boxes[image, index]
        cell = np.floor(found[:, :2] * [columns, rows]).astype(np.int64)
        self.label = labels[image, index].astype(np.int64)
        self._check(cell, (columns, rows), how["classes"])
        self.at = image, self.match[image, index], cell[:, 1], cell[:, 0]
        prior = anchors[best[image, index]]
        place_in_cell = found[:, :2] * [columns, rows] - cell
        growth = np.log(found[:, 2:] * self.image / prior)
        self.target = np.concatenate([place_in_cell, growth], 1).astype(grid.dtype)
        self.score = np.ones(len(image), grid.dtype) if scores is None else scores[image, index]
        self.weight = (2 - found[:, 2] * found[:, 3]) * self.score

    def _check(self, cell: np.ndarray, size: tuple[int, int], classes: int) -> None:
        if ((cell < 0) | (cell >= size)).any():
            raise ArgumentError("the centre of an object lies outside the image")
        if ((self.label < 0) | (self.label >= classes)).any():
            raise ArgumentError("a label is no class", expected=f"0 <= label < {classes}")

    def classes(self, count: int, smooth: bool, dtype: Any) -> np.ndarray:
        """Targets of classes [K, C]."""
        away = min(1 / count, 1 / 40) if smooth else 0.0
        hot = np.arange(count) == self.label[:, None]
        return np.where(hot, 1 - away, away).astype(dtype)


def _grid(x: Any, how: Any) -> np.ndarray:
    count = len(how["mask"])
    return x.reshape(x.shape[0], count, 5 + how["classes"], *x.shape[2:])


def _entries(grid: np.ndarray, objects: _Objects) -> np.ndarray:
    """What is predicted for each object: [K, 5 + C]."""
    image, anchor, row, column = objects.at
    return grid[image, anchor, :, row, column]


@yolov3_loss.compute
def _(xp, x, boxes, labels, scores, **how):
    numpy_only(xp, "yolov3_loss")
    grid = _grid(x, how)
    objects = _Objects(grid, boxes, labels, scores, how)
    own = np.array(how["anchors"], x.dtype).reshape(-1, 2)[list(how["mask"])]
    predicted = _predicted(grid, own, objects.image, how["scale"])
    best = np.zeros(predicted.shape[:-1], x.dtype)
    for b in range(boxes.shape[1]):  # one object of every image at a time
        iou = _iou_of_centers(predicted, boxes[:, b, None, None, None])
        best = np.maximum(best, np.where(objects.valid[:, b, None, None, None], iou, 0))
    objectness = np.where(best > how["ignore"], -1, 0).astype(x.dtype)
    objectness[objects.at] = objects.score
    entries = _entries(grid, objects)
    places = _entropy(entries[:, :2], objects.target[:, :2]).sum(1)
    shapes = np.abs(entries[:, 2:4] - objects.target[:, 2:]).sum(1)
    hot = objects.classes(how["classes"], how["smooth"], x.dtype)
    kinds = _entropy(entries[:, 5:], hot).sum(1) * objects.score
    loss = _objectness_loss(grid[:, :, 4], objectness).sum((1, 2, 3))
    np.add.at(loss, objects.at[0], (places + shapes) * objects.weight + kinds)
    return loss.astype(x.dtype), objectness, objects.match


def _objectness_loss(logits: np.ndarray, objectness: np.ndarray) -> np.ndarray:
    positive, negative = objectness > 1e-5, np.abs(objectness) <= 1e-5
    found = _entropy(logits, np.ones((), logits.dtype)) * objectness
    return np.where(
        positive, found, np.where(negative, _entropy(logits, np.zeros((), logits.dtype)), 0)
    )


@yolov3_loss.grad
def _(x, boxes, labels, scores, objectness, g_loss, anchors, mask, classes, downsample, smooth):
    how = {"anchors": anchors, "mask": mask, "classes": classes, "downsample": downsample}
    in_x = o.yolov3_loss_grad(x, boxes, labels, objectness, g_loss, scores, smooth=smooth, **how)
    return {"x": in_x}


@op
def yolov3_loss_grad(
    x,
    boxes,
    labels,
    objectness,
    grad,
    scores=None,
    *,
    anchors,
    mask,
    classes,
    downsample,
    smooth=True,
):
    """Gradient of `yolov3_loss` in x, from the objectness it gave and the gradient [N] of the loss.

    Where several objects share a cell and an anchor, their gradients add up as their losses do.
    """
    need_float(x, boxes, objectness, grad, scores)
    require_equal(x.shape[0], grad.shape[0], "numbers of images")
    return x


@yolov3_loss_grad.compute
def _(xp, x, boxes, labels, objectness, grad, scores, **how):
    numpy_only(xp, "yolov3_loss_grad")
    grid = _grid(x, how)
    objects = _Objects(grid, boxes, labels, scores, how)
    total = np.zeros_like(grid)
    logits = _sigmoid(grid[:, :, 4])
    positive, negative = objectness > 1e-5, np.abs(objectness) <= 1e-5
    total[:, :, 4] = np.where(positive, (logits - 1) * objectness, np.where(negative, logits, 0))
    entries, change = _entries(grid, objects), np.zeros_like(_entries(grid, objects))
    change[:, :2] = _sigmoid(entries[:, :2]) - objects.target[:, :2]
    change[:, 2:4] = np.where(entries[:, 2:4] > objects.target[:, 2:], 1, -1)
    change[:, :4] *= objects.weight[:, None]
    hot = objects.classes(how["classes"], how["smooth"], x.dtype)
    change[:, 5:] = (_sigmoid(entries[:, 5:]) - hot) * objects.score[:, None]
    image, anchor, row, column = objects.at
    add_at(np, total, (image, anchor, slice(None), row, column), change, unique=False)
    return (total * grad[:, None, None, None, None]).reshape(x.shape).astype(x.dtype)
