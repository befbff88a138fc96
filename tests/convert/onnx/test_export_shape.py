"""Shapes that are open."""

import numpy as np
import pytest

from noria import ops
from noria.core.dims import dim_max, symbol

N, T = symbol("N"), symbol("T")
X = np.arange(12, dtype=np.float32).reshape(2, 6)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_reshape_of_an_empty_batch_and_others(rows, same_in_onnx):
    def fn(x):
        return {"y": ops.reshape(x, shape=(N * 2, T // 2))}

    same_in_onnx(fn, {"x": (N, T)}, x=X[:rows])


def test_slices_with_open_and_negative_ends(same_in_onnx):
    def fn(x):
        return {
            "a": x[:, 1 : dim_max(T - 1, 0)],
            "b": ops.slice(x, axes=(1,), starts=(None,), stops=(None,), steps=(-2,)),
            "c": ops.slice(x, axes=(1,), starts=(dim_max(T - 2, 0),), stops=(None,)),
            "d": ops.slice(x, axes=(1, 0), starts=(-3, 0), stops=(-1, 1)),
        }

    same_in_onnx(fn, {"x": (N, T)}, x=X)


@pytest.mark.parametrize("shift, axis", [(2, 1), (-1, 0), ((1, 9), (0, 1)), (5, None)])
def test_roll(shift, axis, same_in_onnx):
    same_in_onnx(lambda x: {"y": ops.roll(x, shift=shift, axis=axis)}, {"x": (N, T)}, x=X)


def test_what_is_made_of_sizes(same_in_onnx):
    def fn(x):
        return {
            "range": ops.arange(start=1, stop=2 * T, step=3, dtype="float32"),
            "eye": ops.eye(n=N, m=T, k=1),
            "fill": ops.fill(shape=(N, T), value=2.0),
            "wide": ops.broadcast_to(x[0], shape=(N + 1, T)),
            "tile": ops.tile(x, repeats=(N, 2)),
            "pad": ops.pad(x, pads=((1, 0), (0, N)), value=-1.0),
        }

    same_in_onnx(fn, {"x": (N, T)}, x=X)
