"""Reductions at their edges."""

import numpy as np

from noria import ops


def test_all_and_any_of_nothing(same_in_onnx):
    def fn(x):
        return {"all": ops.reduce_all(x, axis=1), "any": ops.reduce_any(x, axis=1)}

    got = same_in_onnx(fn, {"x": ("N", "T")}, x=np.zeros((2, 0), bool))
    assert got["all"].all() and not got["any"].any()


def test_a_reduction_over_no_axis_changes_nothing(same_in_onnx):
    x = np.arange(3, dtype=np.float32)
    same_in_onnx(lambda x: {"y": ops.reduce_sum(x, axis=())}, {"x": ("N",)}, x=x)


def test_the_first_of_equals_wins(same_in_onnx):
    x = np.array([[1, 3, 3], [2, 2, 2]], np.float32)

    def fn(x):
        return {
            "best": ops.argmax(x, axis=1),
            "order": ops.argsort(x),
            "down": ops.argsort(x, descending=True),
            "top": ops.topk(x, k=2)[1],
        }

    same_in_onnx(fn, {"x": ("N", 3)}, x=x)
