"""Networks of a layer or a few, written to files, and what OpenCV makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noria
from noria.convert import caffe
from noria.convert.messages import schema


def taken(program: Any, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without those of which only the shape counts."""
    used = {v for o in program.operators for v in o.operands} | set(program.outputs.values())
    return {n: a for n, a in feeds.items() if program.inputs[n] in used}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """write(layers as text, {layer: [arrays]}, inputs={name: shape}) -> (prototxt, caffemodel)."""

    def make(
        layers: str, weights: dict[str, Any] | None = None, inputs: dict[str, Any] | None = None
    ) -> tuple[str, str]:
        text = 'name: "net"\n'
        for name, shape in (inputs or {}).items():
            dims = " ".join(f"dim: {n}" for n in shape)
            text += f'layer {{ name: "{name}" type: "Input" top: "{name}" '
            text += f"input_param {{ shape {{ {dims} }} }} }}\n"
        (tmp_path / "net.prototxt").write_text(text + layers)
        message = schema("caffe").NetParameter(name="net")
        message.layer.add(name="nothing", type="Input")
        for name, arrays in (weights or {}).items():
            layer = message.layer.add(name=name)
            for array in arrays:
                blob = layer.blobs.add(data=[np.asarray(array, "<f4").tobytes()])
                blob.shape.dim.extend(np.shape(array))
        (tmp_path / "net.caffemodel").write_bytes(message.SerializeToString())
        return str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel")

    return make


@pytest.fixture
def run(write: Any) -> Callable[..., dict[str, np.ndarray]]:
    """run(layers, weights, feeds) -> outputs by name."""

    def compute(
        layers: str, weights: dict[str, Any] | None = None, **feeds: np.ndarray
    ) -> dict[str, np.ndarray]:
        files = write(layers, weights, {n: a.shape for n, a in feeds.items()})
        program, state = caffe.load(*files, batch=None)
        return noria.Predictor(program, state).run(taken(program, feeds))

    return compute


@pytest.fixture
def same_in_opencv(write: Any) -> Callable[..., dict[str, np.ndarray]]:
    """same_in_opencv(layers, weights, feeds): all outputs within 1e-4 of OpenCV's."""
    cv2 = pytest.importorskip("cv2")

    def check(
        layers: str, weights: dict[str, Any] | None = None, tol: float = 1e-4, **feeds: np.ndarray
    ) -> dict[str, np.ndarray]:
        files = write(layers, weights, {n: a.shape for n, a in feeds.items()})
        program, state = caffe.load(*files, batch=None)
        got = noria.Predictor(program, state).run(taken(program, feeds))
        net = cv2.dnn.readNetFromCaffe(*files)
        for name, array in feeds.items():
            net.setInput(array, name)
        for name, array in got.items():
            want = net.forward(name) if len(got) > 1 else net.forward()
            assert array.shape == want.shape
            np.testing.assert_allclose(array, want, rtol=tol, atol=tol)
        return got

    return check
