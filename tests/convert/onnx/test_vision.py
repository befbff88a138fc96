"""Resizing and sampling of ONNX where sizes are open, and of integers."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")

CASES = [
    ({"mode": "linear"}, {"scales": [1, 1, 2, 1.5]}),
    ({"mode": "cubic", "coordinate_transformation_mode": "align_corners"}, {"sizes": [2, 3, 5, 9]}),
    ({"mode": "nearest", "nearest_mode": "floor"}, {"scales": [1, 1, 0.5, 2]}),
]


@pytest.mark.parametrize(("attrs", "target"), CASES, ids=str)
def test_open_images_are_resized_as_onnxruntime_does(
    build: Any, in_onnxruntime: Any, attrs: Any, target: Any
) -> None:
    ((name, numbers),) = target.items()
    kind = "f4" if name == "scales" else "i8"
    slots = ["x", "", name] if name == "scales" else ["x", "", "", name]
    node = onnx.helper.make_node("Resize", slots, ["y"], **attrs)
    shape = ["N", 3, "H", 6] if name == "scales" else [2, 3, 4, 6]
    data = build(
        [node], {"x": ("f4", shape)}, ["y"], {name: np.array(numbers, kind)}, ir_version=10
    )
    data = data.SerializeToString()
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("f4")
    want = in_onnxruntime(data, {"x": x})["y"]
    np.testing.assert_allclose(Predictor(*load(data))(x=x), want, atol=1e-5)


def test_integers_are_interpolated_and_rounded(build: Any) -> None:
    node = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear")
    data = build([node], {"x": ("u1", [1, 3])}, ["y"], {"scales": np.array([1, 2], "f4")})
    x = np.array([[0, 255, 10]], np.uint8)
    got = Predictor(*load(data.SerializeToString()))(x=x)
    assert got.dtype == np.uint8
    assert got.tolist() == [[0, 64, 191, 194, 71, 10]]


def test_an_old_convention_is_said_in_other_words(build: Any) -> None:
    how = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    node = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", **how)
    scales = {"scales": np.array([1, 0.5], "f4")}
    data = build([node], {"x": ("f4", [1, 4])}, ["y"], scales, opset=11).SerializeToString()
    assert Predictor(*load(data))(x=np.arange(4, dtype="f4")[None]).tolist() == [[1, 3]]
    node = onnx.helper.make_node(
        "Resize", ["x", "", "scales"], ["y"], **how | {"nearest_mode": "ceil"}
    )
    data = build([node], {"x": ("f4", [1, 4])}, ["y"], scales, opset=11).SerializeToString()
    with pytest.raises(FormatError, match="ceil"):
        load(data)


def test_sampling_follows_an_affine_map(build: Any, in_onnxruntime: Any) -> None:
    nodes = [
        ("AffineGrid", ["theta", "size"], ["grid"]),
        ("GridSample", ["x", "grid"], ["y"]),
    ]
    size = {"size": np.array([2, 3, 5, 4])}
    specs = {"theta": ("f4", [2, 2, 3]), "x": ("f4", [2, 3, 6, 7])}
    data = build(nodes, specs, ["y"], size, opset=20, ir_version=10).SerializeToString()
    rng = np.random.default_rng(0)
    feeds = {"theta": rng.normal(size=(2, 2, 3)), "x": rng.normal(size=(2, 3, 6, 7))}
    feeds = {n: a.astype("f4") for n, a in feeds.items()}
    want = in_onnxruntime(data, feeds)["y"]
    np.testing.assert_allclose(Predictor(*load(data))(**feeds), want, atol=1e-5)
