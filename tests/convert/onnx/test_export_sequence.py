"""Packed rows, empty ones among them."""

import numpy as np
import pytest

from noria import ops

SPLITS = [[0, 3, 3, 7], [0, 0, 2], [0, 0], [0]]


@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_ops_over_rows(splits, same_in_onnx):
    x = np.random.default_rng(0).normal(size=(splits[-1], 2)).astype(np.float32)

    def fn(x, s):
        total = x.shape[0]
        last = ops.sequence_end(x, s)
        return {
            "ids": ops.sequence_ids(s, total=total),
            "sum": ops.sequence_sum(x, s),
            "max": ops.sequence_max(x, s, empty=-1.0),
            "last": last,
            "first": ops.sequence_end(x, s, first=True),
            "expand": ops.sequence_expand(last, s, total=total),
            "place": ops.sequence_place(last, s, total=total),
            "shift": ops.sequence_shift(x, s, last),
            "unshift": ops.sequence_shift(x, s, reverse=True),
            "softmax": ops.sequence_softmax(x, s),
        }

    same_in_onnx(fn, {"x": ("T", 2), "s": ("B+1",)}, x=x, s=np.array(splits))


@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_the_best_path_of_tags(splits, same_in_onnx):
    def fn(e, t, s):
        path, score = ops.crf_decode(e, t, s)
        return {"path": path, "score": score}

    rng = np.random.default_rng(0)
    e = rng.normal(size=(splits[-1], 3)).astype(np.float32)
    t = rng.normal(size=(5, 3)).astype(np.float32)
    same_in_onnx(fn, {"e": ("T", 3), "s": ("B+1",)}, e=e, t=t, s=np.array(splits))
