"""Positions."""

import numpy as np

from noria import ops


def test_one_hot_of_an_id_outside_is_all_zero(same_in_onnx):
    ids = np.array([[0, -1, 2], [3, 1, 7]])
    got = same_in_onnx(lambda i: {"y": ops.one_hot(i, depth=3, axis=1)}, {"i": ("N", 3)}, i=ids)
    assert got["y"][0, :, 1].sum() == 0


def test_what_nonzero_finds_has_a_size_that_is_used_further_on(same_in_onnx):
    def fn(x):
        found = ops.nonzero(x, size="K")
        return {"places": found, "ones": ops.fill(shape=(found.shape[0], 2), value=1.0)}

    same_in_onnx(fn, {"x": ("N",)}, x=np.array([0.0, 2.0, 0.0, 1.0], np.float32))
    same_in_onnx(fn, {"x": ("N",)}, x=np.zeros(3, np.float32))


def test_small_integers_are_positions_too(same_in_onnx):
    table = np.arange(6, dtype=np.float32).reshape(3, 2)

    def fn(t, i):
        return {"y": ops.embedding(t, i), "z": ops.gather(t, i, axis=0)}

    same_in_onnx(fn, {"i": ("N",)}, t=table, i=np.array([2, 0], np.uint8))
