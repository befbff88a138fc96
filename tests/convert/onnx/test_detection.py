"""Detection in ONNX; the suite of onnx judges suppression and RoiAlign, nothing else MaxRoiPool."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

ROIS = np.array([[0, 0, 0, 8, 8], [1, 2, 3, 9, 7], [0, 5, 5, 5, 5]], "f4")
X = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("f4")


def test_regions_are_pooled_as_onnxruntime_does_it(build: Any, in_onnxruntime: Any) -> None:
    onnx = pytest.importorskip("onnx")
    how = {"pooled_shape": [2, 3], "spatial_scale": 0.5}
    node = onnx.helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], **how)
    specs = {"x": ("f4", ["N", 3, 8, 8]), "rois": ("f4", ["R", 5])}
    model = build([node], specs, ["y"], ir_version=9)
    feeds = {"x": X, "rois": ROIS}
    program, state = load(model.SerializeToString())
    got = Predictor(program, state).run(feeds)["y"]
    wanted = in_onnxruntime(model.SerializeToString(), feeds)["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("opset", [10, 16])
def test_each_opset_has_its_own_idea_of_a_pixel(
    build: Any, in_onnxruntime: Any, opset: int, samples: int
) -> None:
    onnx = pytest.importorskip("onnx")
    how = {"output_height": 2, "output_width": 3, "spatial_scale": 0.5, "sampling_ratio": samples}
    node = onnx.helper.make_node("RoiAlign", ["x", "rois", "ids"], ["y"], **how)
    specs = {"x": ("f4", ["N", 3, 8, 8]), "rois": ("f4", ["R", 4]), "ids": ("i8", ["R"])}
    model = build([node], specs, ["y"], opset=opset, ir_version=9)
    feeds = {"x": X, "rois": ROIS[:2, 1:], "ids": np.array([0, 1])}
    program, state = load(model.SerializeToString())
    got = Predictor(program, state).run(feeds)["y"]
    wanted = in_onnxruntime(model.SerializeToString(), feeds)["y"]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_an_unknown_idea_of_a_pixel_is_refused(build: Any) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node(
        "RoiAlign", ["x", "rois", "ids"], ["y"], coordinate_transformation_mode="third_pixel"
    )
    specs = {"x": ("f4", [1, 1, 8, 8]), "rois": ("f4", [1, 4]), "ids": ("i8", [1])}
    with pytest.raises(FormatError, match="coordinate_transformation_mode"):
        load(build([node], specs, ["y"]).SerializeToString())


def test_suppression_keeps_a_size_only_the_data_tell(build: Any) -> None:
    specs = {"boxes": ("f4", ["N", "M", 4]), "scores": ("f4", ["N", "C", "M"])}
    node = ("NonMaxSuppression", ["boxes", "scores", "limit", "", "least"], ["y"])
    weights = {"limit": np.array([2]), "least": np.array([0.3], "f4")}
    program, state = load(build([node], specs, ["y"], weights).SerializeToString())
    boxes = np.array([[[0, 0, 1, 1], [5, 5, 6, 6], [0, 0, 1, 1]]], "f4")
    scores = np.array([[[0.5, 0.4, 0.9]], [[0.1, 0.2, 0.1]]], "f4").transpose(1, 0, 2)
    got = Predictor(program, state).run({"boxes": boxes, "scores": scores})["y"]
    assert got.tolist() == [[0, 0, 2], [0, 0, 1]]
