import math

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import yolo as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

ANCHORS, MASK, CLASSES = (10, 13, 16, 30, 33, 23), (0, 2), 3
HOW = {"anchors": ANCHORS, "mask": MASK, "classes": CLASSES, "downsample": 8}
BOXES = np.array(
    [
        [[0.3, 0.3, 0.4, 0.5], [0.8, 0.6, 0.3, 0.2], [0.31, 0.32, 0.4, 0.5]],  # two in one cell
        [[0.9, 0.1, 0.2, 0.3], [0, 0, 0, 0], [0.5, 0.5, 0.9, 0.8]],
    ],
    np.float32,
)
LABELS = np.array([[0, 2, 1], [1, 0, 2]])
SCORES = np.array([[1, 0.5, 0.8], [0.7, 1, 1]], np.float32)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def entropy(x, target):
    p = sigmoid(x)
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def iou(a, b):
    low = [max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)]
    high = [min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) for i in (0, 1)]
    common = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def slow_loss(smooth=True, ignore=0.7):
    def apply(x, boxes, labels, scores=None):
        n, _, h, w = x.shape
        x = x.astype(float).reshape(n, len(MASK), 5 + CLASSES, h, w)
        boxes = boxes.astype(float)
        scores = np.ones(labels.shape) if scores is None else scores
        away = min(1 / CLASSES, 1 / 40) if smooth else 0
        loss, objectness = np.zeros(n), np.zeros((n, len(MASK), h, w))
        match = np.full(labels.shape, -1)
        for i in range(n):
            real = [b for b in range(boxes.shape[1]) if boxes[i, b, 2] > 1e-6]
            for a, k, m in np.ndindex(len(MASK), h, w):
                t = x[i, a, :, k, m]
                pw, ph = ANCHORS[2 * MASK[a] : 2 * MASK[a] + 2]
                box = [
                    (m + sigmoid(t[0])) / w,
                    (k + sigmoid(t[1])) / h,
                    math.exp(t[2]) * pw / (8 * w),
                    math.exp(t[3]) * ph / (8 * h),
                ]
                if max((iou(box, boxes[i, b]) for b in real), default=0) > ignore:
                    objectness[i, a, k, m] = -1
            for b in real:
                gx, gy, gw, gh = boxes[i, b]
                shapes = [
                    (0, 0, ANCHORS[2 * j] / (8 * w), ANCHORS[2 * j + 1] / (8 * h)) for j in range(3)
                ]
                best = max(range(3), key=lambda j: iou(shapes[j], (0, 0, gw, gh)))
                if best not in MASK:
                    continue
                a, m, k = MASK.index(best), int(gx * w), int(gy * h)
                match[i, b], objectness[i, a, k, m] = a, scores[i, b]
                t, scale = x[i, a, :, k, m], (2 - gw * gh) * scores[i, b]
                place = entropy(t[0], gx * w - m) + entropy(t[1], gy * h - k)
                place += abs(t[2] - math.log(gw * 8 * w / ANCHORS[2 * best]))
                place += abs(t[3] - math.log(gh * 8 * h / ANCHORS[2 * best + 1]))
                loss[i] += place * scale
                for c in range(CLASSES):
                    target = 1 - away if c == labels[i, b] else away
                    loss[i] += entropy(t[5 + c], target) * scores[i, b]
            for a, k, m in np.ndindex(len(MASK), h, w):
                t, obj = x[i, a, 4, k, m], objectness[i, a, k, m]
                loss[i] += entropy(t, 1) * obj if obj > 0 else entropy(t, 0) if obj == 0 else 0
        return loss, objectness, match

    return apply


X = arr(2, 16, 4, 5)
FIXED = np.random.default_rng(0).normal(size=(2, 16, 4, 5)).astype(np.float32)
OBJECTNESS = slow_loss()(FIXED, BOXES, LABELS, SCORES)[1].astype(np.float32)
CASES = [
    Case("yolov3_loss", [X, BOXES, LABELS], HOW, expect=slow_loss(), grad=[0], jax=False),
    Case(
        "yolov3_loss",
        [X, BOXES, LABELS, SCORES],
        HOW | {"smooth": False, "ignore": 0.3},
        expect=slow_loss(False, 0.3),
        grad=[0],
        symbolic={0: {2: "H", 3: "W"}},
        jax=False,
        id="scores",
    ),
    Case("yolov3_loss_grad", [FIXED, BOXES, LABELS, OBJECTNESS, arr(2), SCORES], HOW, jax=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def decoded(clip, scale):
    def apply(x, size):
        n, _, h, w = x.shape
        x = x.astype(float).reshape(n, 2, 5 + CLASSES, h, w)
        boxes, scores = [], []
        for i, a, k, m in np.ndindex(n, 2, h, w):
            t, (height, width) = x[i, a, :, k, m], size[i]
            shift = -0.5 * (scale - 1)
            cx = (m + sigmoid(t[0]) * scale + shift) * width / w
            cy = (k + sigmoid(t[1]) * scale + shift) * height / h
            bw = math.exp(t[2]) * ANCHORS[2 * a] * width / (8 * w)
            bh = math.exp(t[3]) * ANCHORS[2 * a + 1] * height / (8 * h)
            box = [cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2]
            if clip:
                box = [
                    max(box[0], 0),
                    max(box[1], 0),
                    min(box[2], width - 1),
                    min(box[3], height - 1),
                ]
            seen = sigmoid(t[4]) >= 0.4
            boxes.append(np.array(box) * seen)
            scores.append([sigmoid(t[4]) * sigmoid(c) * seen for c in t[5:]])
        return np.reshape(boxes, (n, -1, 4)), np.reshape(scores, (n, -1, CLASSES))

    return apply


@pytest.mark.parametrize(("clip", "scale"), [(True, 1.0), (False, 1.2)])
def test_a_grid_is_decoded_into_boxes_and_scores(clip, scale):
    case = Case(
        "yolo_box",
        [X, np.array([[40, 60], [32, 32]], np.int32)],
        expect=decoded(clip, scale),
        symbolic={0: {0: "N", 2: "H", 3: "W"}, 1: {0: "N"}},
        tol=1e-5,
    )
    how = {"anchors": ANCHORS[:4], "classes": CLASSES, "downsample": 8, "threshold": 0.4}
    check_case(case, lambda x, size: family.yolo_box(x, size, clip=clip, scale=scale, **how))


def test_the_expected_overlap_has_its_share_in_an_object():
    how = {"anchors": ANCHORS[:4], "classes": CLASSES, "downsample": 8, "threshold": 0.0}
    size = np.array([[40, 60], [32, 32]], np.int32)
    overlap = np.random.default_rng(1).normal(size=(2, 2, 4, 5)).astype(np.float32)
    wide = np.concatenate([overlap, FIXED], axis=1)
    boxes, scores = family.yolo_box(wide, size, iou_factor=0.4, **how)
    plain, before = family.yolo_box(FIXED, size, **how)
    np.testing.assert_array_equal(boxes, plain)
    p = 1 / (1 + np.exp(-FIXED.reshape(2, 2, 8, 4, 5)[:, :, 4].astype(float)))
    share = (p**-0.4 * (1 / (1 + np.exp(-overlap))) ** 0.4).reshape(2, -1, 1)
    np.testing.assert_allclose(scores, before * share, rtol=1e-4)


def test_bad_inputs_are_refused():
    with pytest.raises(ShapeError, match="channels"):
        family.yolov3_loss(FIXED[:, :15], BOXES, LABELS, **HOW)
    with pytest.raises(ArgumentError, match="label is no class"):
        family.yolov3_loss(FIXED, BOXES, LABELS + 2, **HOW)
    with pytest.raises(ArgumentError, match="outside"):
        family.yolov3_loss(FIXED, BOXES + np.float32(0.5), LABELS, **HOW)
    with pytest.raises(ArgumentError, match="mask"):
        family.yolov3_loss(FIXED, BOXES, LABELS, **(HOW | {"mask": (0, 3)}))
