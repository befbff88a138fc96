import time
from itertools import pairwise

import numpy as np
import pytest

import noria
from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import nms as family
from noria.ops.detection.geometry import BoxOverlap
from noria.testing.case import Case
from noria.testing.check import check_case


def some_boxes(count, seed=0, size=40.0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, size, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 25, (count, 2))], 1).astype(np.float32)


def some_scores(*shape, seed=0):
    return np.random.default_rng(seed + 100).random(shape).astype(np.float32)


def iou(a, b, extra):
    w = max(min(a[2], b[2]) - max(a[0], b[0]) + extra, 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]) + extra, 0)
    area = [(r[2] - r[0] + extra) * (r[3] - r[1] + extra) for r in (a, b)]
    return w * h / (sum(area) - w * h)


def slow_nms(boxes, scores, threshold, least=-np.inf, limit=-1, extra=0):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        free = all(iou(boxes[i], boxes[k], extra) <= threshold for k in kept)
        if scores[i] > least and len(kept) != limit and free:
            kept.append(i)
    return kept


def alone(**how):
    def apply(boxes, scores):
        return np.array(slow_nms(boxes.astype(float), scores, **how))

    return apply


def of_classes(boxes, scores, limit, threshold, least):
    out = []
    for n, c in np.ndindex(scores.shape[:2]):
        kept = slow_nms(boxes[n].astype(float), scores[n, c], threshold[0], least[0], limit[0])
        out += [(n, c, k) for k in kept]
    return np.array(out)


def detections(keep, background=0, least=0.2, threshold=0.3):
    def apply(boxes, scores):
        rows, ids, splits = [], [], [0]
        for n, (shapes, lines) in enumerate(zip(boxes, scores, strict=True)):
            found = []
            for c in range(len(lines)):
                if c != background:
                    kept = slow_nms(shapes.astype(float), lines[c], threshold, least)
                    found += [(c, lines[c][k], k) for k in kept]
            chosen = sorted(found, key=lambda d: -d[1])[:keep]
            for c, score, k in [d for d in found if d in chosen]:
                rows.append([c, score, *shapes[k]])
                ids.append(n * len(shapes) + k)
            splits.append(len(rows))
        return np.array(rows), np.array(ids), np.array(splits)

    return apply


def packed(boxes, scores, splits):
    rows, ids = [], []
    for a, b in pairwise(splits):
        for c in range(1, scores.shape[1]):
            for k in sorted(slow_nms(boxes[a:b, c].astype(float), scores[a:b, c], 0.3, 0.2)):
                rows.append([c, scores[a + k, c], *boxes[a + k, c]])
                ids.append((a + k) * scores.shape[1] + c)
    counts = [sum(a * 3 <= i < b * 3 for i in ids) for a, b in pairwise(splits)]
    return np.array(rows), np.array(ids), np.cumsum([0, *counts])


ONNX = [
    np.stack([some_boxes(20), some_boxes(20, 1)]),
    some_scores(2, 3, 20),
    np.array([4]),
    np.array([0.4], np.float32),
    np.array([0.3], np.float32),
]
MANY = [np.stack([some_boxes(25), some_boxes(25, 1)]), some_scores(2, 3, 25)]
HOW = {"size": "K", "score_threshold": 0.2, "background": 0}
CASES = [
    Case(
        "nms",
        [some_boxes(40), some_scores(40)],
        {"size": "K"},
        expect=alone(threshold=0.5),
        jax=False,
    ),
    Case(
        "nms",
        [some_boxes(40), some_scores(40)],
        {
            "size": "K",
            "iou_threshold": 0.2,
            "score_threshold": 0.3,
            "limit": 5,
            "normalized": False,
        },
        expect=alone(threshold=0.2, least=0.3, limit=5, extra=1),
        symbolic={0: {0: "N"}, 1: {0: "N"}},
        jax=False,
    ),
    Case(
        "nms",
        [some_boxes(0), some_scores(0)],
        {"size": "K"},
        expect=lambda b, s: np.zeros(0),
        jax=False,
    ),
    Case("non_max_suppression", ONNX, {"size": "K"}, expect=of_classes, jax=False),
    Case(
        "multiclass_nms",
        MANY,
        HOW,
        expect=detections(1000),
        symbolic={0: {0: "B"}, 1: {0: "B"}},
        jax=False,
    ),
    Case("multiclass_nms", MANY, HOW | {"keep": 6}, expect=detections(6), jax=False, id="keep"),
    Case(
        "multiclass_nms",
        [some_boxes(24).reshape(8, 3, 4), some_scores(8, 3), np.array([0, 5, 5, 8])],
        HOW,
        expect=packed,
        jax=False,
        id="packed",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_centers_are_the_same_boxes():
    boxes, *rest = ONNX
    sizes = boxes[..., 2:] - boxes[..., :2]
    centers = np.concatenate([boxes[..., :2] + sizes / 2, sizes], -1)
    turned = boxes[..., [2, 1, 0, 3]]  # corners in another order
    want = family.non_max_suppression(boxes, *rest, size="K")
    assert np.array_equal(family.non_max_suppression(centers, *rest, size="K", centers=True), want)
    assert np.array_equal(family.non_max_suppression(turned, *rest, size="K"), want)


def test_absent_limits_keep_nothing_as_onnx_has_it():
    assert family.non_max_suppression(*ONNX[:2], size="K").shape == (0, 3)
    with pytest.raises(ArgumentError, match="iou_threshold"):
        family.non_max_suppression(*ONNX[:3], np.array([2.0], np.float32), size="K")


def test_turned_boxes_and_polygons_are_suppressed_by_their_own_overlap():
    boxes = np.array([[5, 5, 4, 2, 0], [5, 5, 4, 2, 3], [5, 5, 4, 2, 90]], np.float32)
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert family.nms(boxes, scores, size="K").tolist() == [1, 2]
    square = np.array([0, 0, 4, 0, 4, 4, 0, 4], np.float32)
    shapes = np.stack([square, square + 0.2, square + 3])[None]
    found, index, splits = family.multiclass_nms(
        shapes, scores[None, None], size="K", iou_threshold=0.5
    )
    assert found.shape == (2, 10) and index.tolist() == [1, 2] and splits.tolist() == [0, 2]


def test_what_is_left_can_be_used_in_the_program():
    def step(boxes, scores):
        kept = noria.ops.nms(boxes, scores, size="K")
        return {"boxes": noria.ops.gather(boxes, kept)}

    program = noria.trace(step, boxes=noria.spec("N", 4), scores=noria.spec("N"))
    boxes, scores = some_boxes(40), some_scores(40)
    got = noria.Executor(program).run({"boxes": boxes, "scores": scores})["boxes"]
    assert np.array_equal(got, boxes[slow_nms(boxes.astype(float), scores, 0.5)])


def test_bad_inputs_are_refused():
    boxes, scores = some_boxes(3), some_scores(3)
    with pytest.raises(ArgumentError, match="size"):
        family.nms(boxes, scores, size=3)
    with pytest.raises(ShapeError, match="coordinates"):
        family.nms(boxes[:, :3], scores, size="K")
    with pytest.raises(ShapeError, match="numbers of boxes"):
        family.nms(boxes, scores[:2], size="K")
    with pytest.raises(ArgumentError, match="row_splits"):
        family.multiclass_nms(boxes[:, None], scores[:, None], np.array([0, 9]), size="K")


def test_thousands_of_boxes_take_a_moment():
    boxes, scores = some_boxes(6000, size=800.0), some_scores(6000)
    began = time.perf_counter()
    kept = family.nms(boxes, scores, size="K")
    assert time.perf_counter() - began < 5  # about 0.3 s alone on a core
    worst = [
        BoxOverlap(True)(boxes[k], boxes[kept[:i]]).max(initial=0) for i, k in enumerate(kept[:200])
    ]
    assert max(worst) <= 0.5


@pytest.mark.parametrize("place", [2, 3, 4])
def test_a_limit_or_threshold_is_one_number(place):
    inputs = [some_boxes(4)[None], some_scores(1, 2, 4), np.array([1]), *np.float32([[0.5], [0]])]
    inputs[place] = inputs[place][:0]
    with pytest.raises(ShapeError, match="limit or threshold"):
        family.non_max_suppression(*inputs, size="K")
