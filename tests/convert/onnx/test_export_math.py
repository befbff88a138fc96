"""Arithmetic that keeps its digits and its rules at the edges."""

import numpy as np
import pytest

from noria import ops

SMALL = np.array([1e-7, -1e-7, 0, 1e-3, 2, 30], np.float32)


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_digits_near_zero_are_kept(name, same_in_onnx):
    got = same_in_onnx(lambda x: {"y": getattr(ops, name)(x)}, x=SMALL)
    np.testing.assert_allclose(got["y"], getattr(np, name)(SMALL), rtol=1e-6)


def test_integers_are_divided_as_in_python_and_zero_gives_zero(same_in_onnx):
    x, y = np.array([7, -7, 7, -7, 5]), np.array([2, 2, -2, -2, 0])

    def fn(x, y):
        return {"q": ops.floor_divide(x, y), "r": ops.remainder(x, y)}

    got = same_in_onnx(fn, x=x, y=y)
    assert got["q"].tolist() == [3, -4, -4, 3, 0] and got["r"].tolist() == [1, 1, -1, -1, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_fmod_has_the_sign_of_what_is_divided(dtype, same_in_onnx):
    x, y = np.array([7, -7, 7, -7], dtype), np.array([2, 2, -2, -2], dtype)
    got = same_in_onnx(lambda x, y: {"r": ops.fmod(x, y)}, x=x, y=y)
    assert got["r"].tolist() == [1, -1, 1, -1]
    zero = same_in_onnx(lambda x: {"r": ops.fmod(x, np.array([0, 3]))}, x=np.array([5, 5]))
    assert zero["r"].tolist() == [0, 2]


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_has_an_operator_since_20(opset, approximate, same_in_onnx):
    x = np.linspace(-4, 4, 17, dtype=np.float32)
    same_in_onnx(lambda x: {"y": ops.gelu(x, approximate=approximate)}, opset=opset, x=x)


def test_a_vector_times_a_transposed_batch_is_right(same_in_onnx):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3)).astype(np.float32)
    v = rng.normal(size=4).astype(np.float32)

    def fn(x, v):
        return {
            "a": ops.matmul(x, v, transpose_x=True),
            "b": ops.matmul(v[:3], x, transpose_y=True),
        }

    same_in_onnx(fn, {"x": ("N", 4, 3)}, x=x, v=v)
