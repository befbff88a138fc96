"""Resized, sampled and folded images, written and run by onnxruntime."""

import numpy as np
import pytest

import noria
from noria import ops
from noria.convert.onnx.writer import to_model
from noria.core.errors import ProgramError

OPEN = {"x": ("N", 3, "H", "W")}


def image(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_images_of_open_sizes_are_scaled(mode, same_in_onnx):
    def fn(x):
        return {"y": ops.interpolate(x, scale_factor=(2, 1.5), mode=mode)}

    same_in_onnx(fn, OPEN, x=image(2, 3, 4, 6))


def test_images_are_resized_along_any_axes(same_in_onnx):
    def fn(x):
        return {
            "corners": ops.resize(x, sizes=(7, 5), coordinates="align_corners"),
            "part": ops.resize(
                x,
                sizes=(3, 4),
                axes=(2, 3),
                coordinates="tf_crop_and_resize",
                crop=(0.1, 0.3, 0.8, 1.2),
                beyond=2.0,
            ),
            "ends": ops.resize(x, sizes=(9, 3), mode="nearest", rounding="ceil"),
        }

    same_in_onnx(fn, x=image(1, 3, 4, 6))


def test_sizes_that_scales_do_not_give_are_refused():
    def fn(x):
        return {"y": ops.resize(x, sizes=(9, 9), scales=(2.0, 2.0))}

    program = noria.trace(fn, x=noria.spec(1, 3, 4, 4))
    with pytest.raises(ProgramError, match="resize"):
        to_model(program, {})


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_images_are_sampled(mode, opset, same_in_onnx):
    grid = np.random.default_rng(2).uniform(-1.4, 1.4, (2, 3, 4, 2)).astype(np.float32)

    def fn(x, grid):
        return {"y": ops.grid_sample(x, grid, mode=mode, padding_mode="border")}

    if mode == "bicubic":
        grid *= 0.6
    same_in_onnx(fn, x=image(2, 3, 5, 6), grid=grid, opset=opset)


def test_deformable_convolutions_sample_between_pixels(same_in_onnx):
    def fn(x, offset, weight):
        return {"y": ops.deform_conv2d(x, offset, weight, padding=1)}

    arrays = {"offset": image(1, 18, 5, 4), "weight": image(2, 4, 3, 3)}
    same_in_onnx(fn, x=image(1, 4, 5, 4), tol=1e-4, **arrays)


def test_windows_become_columns_and_come_back(same_in_onnx):
    def fn(x):
        columns = ops.unfold(x, kernel=(2, 3), stride=(1, 2), padding=1)
        back = ops.fold(columns, sizes=(5, 6), kernel=(2, 3), stride=(1, 2), padding=1)
        return {"columns": columns, "back": back}

    same_in_onnx(fn, {"x": ("N", 3, 5, 6)}, x=image(2, 3, 5, 6))


def test_means_of_dilated_windows_and_sums(same_in_onnx):
    def fn(x):
        return {
            "dilated": ops.avg_pool2d(x, kernel=2, dilation=2, padding=1),
            "sum": ops.avg_pool2d(x, kernel=2, divisor=1, padding=1),
            "cut": ops.avg_pool2d(x, kernel=3, divisor=2, stride=2, ceil_mode=True),
        }

    for opset in (18, 19):
        same_in_onnx(fn, OPEN, x=image(1, 3, 6, 8), opset=opset)
