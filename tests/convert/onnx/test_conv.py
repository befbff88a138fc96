"""Convolutions and poolings of ONNX with an open batch, beside onnxruntime."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import ShapeError

onnx = pytest.importorskip("onnx")

WEIGHT = {"w": (4, 2, 3, 3)}
CASES = [
    ("Conv", (2, 4, 7, 6), WEIGHT, {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", (2, 2, 7, 6), WEIGHT, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", (1, 3, 9), {"w": (2, 3, 3), "b": (2,)}, {"dilations": [2]}),
    ("ConvTranspose", (2, 4, 3, 4), WEIGHT, {"strides": [2, 3], "output_padding": [1, 2]}),
    ("ConvTranspose", (2, 4, 3, 4), WEIGHT, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("ConvTranspose", (2, 4, 3, 4), WEIGHT, {"auto_pad": "SAME_LOWER", "strides": [4, 5]}),
    ("ConvTranspose", (2, 4, 3, 4), WEIGHT, {"output_shape": [6, 9], "strides": [2, 2]}),
    ("AveragePool", (2, 3, 7, 6), {}, {"kernel_shape": [3, 2], "ceil_mode": 1, "strides": [2, 2]}),
    ("MaxPool", (2, 3, 7, 6), {}, {"kernel_shape": [3, 2], "dilations": [2, 1]}),
    ("LpPool", (2, 3, 7, 6), {}, {"kernel_shape": [2, 2], "p": 3}),
    ("GlobalAveragePool", (2, 3, 4, 5), {}, {}),
    ("GlobalLpPool", (2, 3, 4, 5), {}, {"p": 2}),
]


@pytest.mark.parametrize(("kind", "shape", "weights", "attrs"), CASES, ids=str)
def test_an_operator_with_an_open_batch_computes_what_onnxruntime_computes(
    build: Any, in_onnxruntime: Any, kind: str, shape: Any, weights: Any, attrs: Any
) -> None:
    rng = np.random.default_rng(0)
    given = {n: rng.normal(size=s).astype("f4") for n, s in weights.items()}
    node = onnx.helper.make_node(kind, ["x", *given], ["y"], **attrs)
    data = build(
        [node], {"x": ("f4", ["N", *shape[1:]])}, ["y"], given, ir_version=10
    ).SerializeToString()
    program, state = load(data)
    x = rng.normal(size=shape).astype("f4")
    want = in_onnxruntime(data, {"x": x})["y"]
    np.testing.assert_allclose(Predictor(program, state)(x=x), want, atol=1e-5)


def test_padding_of_the_output_may_reach_beyond_the_stride(build: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((2, 4, 3, 4), (4, 2, 3, 3), (2,)))
    how = {"output_padding": [1, 1], "dilations": [2, 2]}
    node = onnx.helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **how)
    data = build([node], {"x": ("f4", ["N", 4, 3, 4])}, ["y"], {"w": w, "b": b})
    tensors = map(torch.asarray, (x, w, b))
    want = torch.nn.functional.conv_transpose2d(*tensors, output_padding=1, dilation=2)
    got = Predictor(*load(data.SerializeToString()))(x=x)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
def test_indices_count_the_whole_tensor_in_either_order(
    build: Any, in_onnxruntime: Any, order: int
) -> None:
    how = {"kernel_shape": [2, 2], "strides": [2, 1], "storage_order": order}
    node = onnx.helper.make_node("MaxPool", ["x"], ["y", "ids"], **how)
    model = build([node], {"x": ("f4", ["N", 3, 4, 5])}, ["y", "ids"], ir_version=10)
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    data = model.SerializeToString()
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("f4")
    program, state = load(data)
    got = Predictor(program, state)(x=x)
    want = in_onnxruntime(data, {"x": x})
    assert {n: a.tolist() for n, a in got.items()} == {n: a.tolist() for n, a in want.items()}


def test_four_spatial_axes_are_refused(build: Any) -> None:
    node = onnx.helper.make_node("GlobalMaxPool", ["x"], ["y"])
    load(build([node], {"x": ("f4", [1, 2, 3, 3, 3, 3])}, ["y"]).SerializeToString())
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1, 1, 1])
    data = build([node], {"x": ("f4", [1, 2, 3, 3, 3, 3])}, ["y"]).SerializeToString()
    with pytest.raises(ShapeError, match="spatial axes"):
        load(data)
