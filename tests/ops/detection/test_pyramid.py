import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import pyramid as family
from noria.ops.detection.boxes import box_transform
from noria.testing.case import Case
from noria.testing.check import check_case

RNG = np.random.default_rng(4)
INFO = np.array([[60, 80, 2.0], [60, 80, 1.0]], np.float32)


def level(count):
    low = RNG.uniform(0, 50, (count, 2))
    anchors = np.concatenate([low, low + RNG.uniform(8, 30, (count, 2))], 1)
    deltas = RNG.normal(0, 0.2, (2, count, 4))
    return [a.astype(np.float32) for a in (deltas, RNG.random((2, count, 3)), anchors)]


LEVELS = [*level(12), *level(5)]


def iou(a, b):
    w = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(r[2] - r[0] + 1) * (r[3] - r[1] + 1) for r in (a, b)]
    return w * h / (sum(areas) - w * h)


def detected(info, *levels):
    rows, splits = [], [0]
    for n in range(2):
        found = []
        for i, (deltas, scores, anchors) in enumerate(zip(*[iter(levels)] * 3, strict=True)):
            own = [(scores[n, a, c], c, a) for a, c in np.ndindex(scores.shape[1:])]
            own = [f for f in own if f[0] > (0.4, 0)[i]]
            for score, c, a in sorted(own, key=lambda f: -f[0])[:10]:
                (box,) = box_transform(anchors[a : a + 1], deltas[n, a : a + 1]) / info[n, 2]
                right, bottom = info[n, 1] / info[n, 2] - 1, info[n, 0] / info[n, 2] - 1
                found.append((score, c, np.clip(box, 0, [right, bottom] * 2)))
        kept = []
        for score, c, box in sorted(found, key=lambda f: -f[0]):
            if all(c != k[1] or iou(box, k[2]) <= 0.3 for k in kept):
                kept.append((score, c, box))
        rows += [[c + 1, score, *box] for score, c, box in kept[:7]]
        splits.append(len(rows))
    return np.array(rows), np.array(splits)


HOW = {"size": "K", "score_threshold": 0.4, "top_k": 10, "keep": 7}
CASES = [Case("retinanet_detections", [INFO, *LEVELS], HOW, expect=detected, jax=False)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_bad_inputs_are_refused():
    with pytest.raises(ArgumentError, match="in turn"):
        family.retinanet_detections(INFO, *LEVELS[:2], **HOW)
    with pytest.raises(ShapeError, match="numbers of anchors"):
        family.retinanet_detections(INFO, *LEVELS[:2], LEVELS[5], **HOW)
