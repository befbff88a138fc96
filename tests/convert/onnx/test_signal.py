"""Signals in ONNX models; the suite of onnx judges the rest."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

helper = pytest.importorskip("onnx").helper


def run(build: Any, x: np.ndarray, opset: int = 20, axis: Any = None, **attrs: Any) -> Any:
    weights = {} if axis is None else {"axis": np.array(axis)}
    node = helper.make_node("DFT", ["x", "", *weights], ["y"], **attrs)
    model = build([node], {"x": (x.dtype, x.shape)}, ["y"], weights, opset=opset)
    program, state = load(model.SerializeToString())
    return Predictor(program, state)(x=x)


def test_half_a_spectrum_there_and_back(build: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 6, 1)).astype("f4")
    half = run(build, x, onesided=1)
    want = np.fft.rfft(x[..., 0])
    np.testing.assert_allclose(half[..., 0] + 1j * half[..., 1], want, atol=1e-5)
    np.testing.assert_allclose(run(build, half, onesided=1, inverse=1), x, atol=1e-5)


def test_the_axis_was_an_attribute_before_opset_20(build: Any) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 1)).astype("f4")
    old, new = run(build, x, opset=17, axis=None), run(build, x, axis=1)
    np.testing.assert_array_equal(old, new)


def test_the_axis_of_complex_numbers_is_refused(build: Any) -> None:
    with pytest.raises(FormatError, match="complex"):
        run(build, np.zeros((2, 3, 1), "f4"), axis=2)
