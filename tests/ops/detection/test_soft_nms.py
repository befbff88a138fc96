from itertools import pairwise

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import soft_nms as family
from noria.ops.detection.geometry import BoxOverlap
from noria.ops.detection.suppression import decayed, soft
from noria.testing.case import Case
from noria.testing.check import check_case

RNG = np.random.default_rng(5)
LOW = RNG.uniform(0, 40, (2, 15, 2))
BOXES = np.concatenate([LOW, LOW + RNG.uniform(5, 25, LOW.shape)], -1).astype(np.float32)
SCORES = RNG.random((2, 3, 15)).astype(np.float32)


def matrix(boxes, scores):
    rows, ids, splits = [], [], [0]
    for n in range(2):
        found = []
        for c in (1, 2):
            chosen = [i for i in np.argsort(-scores[n, c]) if scores[n, c, i] > 0.1][:8]
            new = decayed(boxes[n][chosen], scores[n, c][chosen], BoxOverlap(True, False), None)
            found += [(s, c, i) for s, i in zip(new, chosen, strict=True) if s > 0.2]
        for s, c, i in sorted(found, key=lambda f: -f[0])[:5]:
            rows.append([c, s, *boxes[n, i]])
            ids.append(n * 15 + i)
        splits.append(len(rows))
    return np.array(rows), np.array(ids), np.array(splits)


def limited(method):
    def apply(scores, boxes, splits):
        overlap, out = BoxOverlap(False), [[], [], [], [0], [], []]
        shapes = boxes.reshape(len(boxes), 3, 4)
        for a, b in pairwise(splits):
            found = []
            for c in (1, 2):
                line, own = scores[a:b, c], shapes[a:b, c]
                chosen = np.flatnonzero(line > 0.1)
                how = {"threshold": 0.3, "method": method, "sigma": 0.5, "score_threshold": 0.2}
                kept, new = soft(own, line, chosen, overlap, **how)
                found += [(c, new[k], k, own[k]) for k in kept]
            best = sorted(found, key=lambda f: -f[1])[:4]
            for c in (1, 2):
                for f in [f for f in best if f[0] == c]:
                    for column, part in zip((0, 1, 2, 4), (f[1], f[3], c, f[2]), strict=True):
                        out[column].append(part)
            out[3].append(len(out[0]))
            out[5].append([0, *(sum(f[0] == c for f in best) for c in (1, 2))])
        return tuple(np.array(part) for part in out)

    return apply


FLAT = [
    SCORES.transpose(0, 2, 1).reshape(30, 3),
    np.repeat(BOXES.reshape(30, 1, 4), 3, 1).reshape(30, 12)
    + RNG.uniform(0, 3, (30, 12)).astype(np.float32),
    np.array([0, 12, 30]),
]
SOFT = {"size": "K", "limit": 4, "score_threshold": 0.1, "soft_threshold": 0.2}
CASES = [
    Case(
        "matrix_nms",
        [BOXES, SCORES],
        {"size": "K", "score_threshold": 0.1, "post_threshold": 0.2, "top_k": 8, "keep": 5},
        expect=matrix,
        jax=False,
    ),
    Case("locality_aware_nms", [BOXES, SCORES], {"size": "K"}, jax=False),
    *(
        Case("limited_nms", FLAT, SOFT | {"method": m}, expect=limited(m), jax=False)
        for m in ("linear", "gaussian")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_neighbours_merge_by_their_scores():
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 8], [30, 30, 40, 40]]], np.float32)
    scores = np.array([[[0.6, 0.2, 0.5]]], np.float32)
    found, splits = family.locality_aware_nms(boxes, scores, size="K", iou_threshold=0.5)
    np.testing.assert_allclose(
        found, [[0, 0.8, 0, 0, 10, 9.5], [0, 0.5, 30, 30, 40, 40]], rtol=1e-5
    )
    assert splits.tolist() == [0, 2]


def test_a_limit_over_all_classes_keeps_the_best():
    scores = np.array([[0.1, 0.9, 0.3], [0.1, 0.2, 0.8]], np.float32)
    boxes = np.tile(np.array([[0, 0, 5, 5], [20, 20, 25, 25]], np.float32), (1, 3))
    got = family.limited_nms(scores, boxes, size="K", limit=2)
    assert got[0].tolist() == pytest.approx([0.9, 0.8])
    assert got[2].tolist() == [1, 2] and got[4].tolist() == [0, 1]
    assert got[3].tolist() == [0, 2] and got[5].tolist() == [[0, 1, 1]]
    last = family.limited_nms(
        scores, boxes[:, :4], size="K", shared_boxes=True, background_first=False
    )
    assert last[2].tolist() == [1, 1, 2, 2]
    assert last[0].tolist() == pytest.approx([0.1, 0.1, 0.9, 0.2])


def test_nothing_gives_nothing():
    none = np.zeros((0, 3), np.float32), np.zeros((0, 12), np.float32)
    got = family.limited_nms(*none, size="K")
    assert got[1].shape == (0, 4) and got[5].tolist() == [[0, 0, 0]]


def test_bad_inputs_are_refused():
    with pytest.raises(ArgumentError, match="unknown method"):
        family.limited_nms(*FLAT, size="K", method="softest")
    with pytest.raises(ShapeError, match="coordinates"):
        family.limited_nms(FLAT[0], FLAT[1][:, :7], size="K")
    with pytest.raises(ShapeError, match="coordinates"):
        family.matrix_nms(BOXES[..., :3], SCORES, size="K")
