"""Windows of every kind, and normalisation along other axes."""

import numpy as np
import pytest

from noria import ops


def image(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("size", [4, 5, 6, 7, 8])
@pytest.mark.parametrize(
    "kernel, stride, padding", [(3, 2, 1), (2, 3, 0), (3, 3, (0, 1)), (2, 2, 1)]
)
def test_ceil_mode_adds_the_same_windows_at_every_size(
    kernel, stride, padding, size, included, same_in_onnx
):
    how = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": True}

    def fn(x):
        return {
            "max": ops.max_pool2d(x, **how),
            "mean": ops.avg_pool2d(x, **how, count_include_pad=included),
        }

    same_in_onnx(fn, {"x": ("N", 2, "H", "W")}, x=image(1, 2, size, size + 1))


@pytest.mark.parametrize("padding", [0, (1, 2), (0, 1, 2, 3), "same", "same_lower", "valid"])
def test_padding_of_convolutions(padding, same_in_onnx):
    def fn(x, w):
        return {"y": ops.conv2d(x, w, stride=2, padding=padding)}

    same_in_onnx(fn, {"x": ("N", 2, "H", "W")}, x=image(2, 2, 7, 8), w=image(3, 2, 3, 3))


def test_adaptive_pooling_of_open_sizes(same_in_onnx):
    def fn(x):
        return {
            "mean": ops.adaptive_avg_pool2d(x, size=(3, 2)),
            "max": ops.adaptive_max_pool2d(x, size=3),
        }

    for size in (3, 5, 7):
        same_in_onnx(fn, {"x": ("N", 2, "H", "W")}, x=image(1, 2, size, size + 1))


def test_batch_norm_along_the_last_axis(same_in_onnx):
    vectors = {k: np.abs(image(3)) + 0.5 for k in "abcd"}

    def fn(x, a, b, c, d):
        return {"y": ops.batch_norm(x, a, b, c, d, axis=-1)}

    same_in_onnx(fn, {"x": ("N", 4, 3)}, x=image(2, 4, 3), **vectors)


@pytest.mark.parametrize("how", [{}, {"ignore_index": -1}, {"label_smoothing": 0.1}])
def test_cross_entropy(how, same_in_onnx):
    labels = np.array([0, -1 if "ignore_index" in how else 1, 2])

    def fn(x, y):
        return {"loss": ops.softmax_cross_entropy(x, y, **how)[0]}

    same_in_onnx(fn, {"x": ("N", 4), "y": ("N",)}, x=image(3, 4), y=labels)
