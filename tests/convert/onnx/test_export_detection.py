"""Detections of several images and classes."""

import numpy as np
import pytest

from noria import ops

RNG = np.random.default_rng(0)
LOW = RNG.uniform(0, 0.6, (2, 30, 2))
BOXES = np.concatenate([LOW, LOW + RNG.uniform(0.1, 0.4, (2, 30, 2))], 2).astype(np.float32)
SCORES = RNG.uniform(size=(2, 3, 30)).astype(np.float32)
SIZES = {"boxes": ("N", "M", 4), "scores": ("N", 3, "M")}


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"background": 0, "score_threshold": 0.3},
        {"top_k": 7},
        {"keep": 5},
        {"background": 2, "top_k": 9, "keep": 4, "iou_threshold": 0.5},
        {"top_k": 100, "keep": 1000},
        {"score_threshold": 2.0},
    ],
    ids=str,
)
def test_multiclass_suppression(how, same_in_onnx):
    def fn(boxes, scores):
        found, index, splits = ops.multiclass_nms(boxes, scores, size="K", **how)
        return {"found": found, "index": index, "splits": splits}

    same_in_onnx(fn, SIZES, boxes=BOXES, scores=SCORES)


def test_equal_scores(same_in_onnx):
    def fn(boxes, scores):
        return {"found": ops.multiclass_nms(boxes, scores, size="K", top_k=9, keep=6)[0]}

    same_in_onnx(fn, SIZES, boxes=BOXES, scores=np.round(SCORES * 4) / 4)
