"""Arithmetic of ONNX; the suite of onnx judges the rest."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load


@pytest.mark.parametrize(
    ("name", "expected"), [("Add", [[3.0, 0.0]]), ("Mul", [[2.0, -4.0]]), ("Max", [[2.0, 2.0]])]
)
def test_two_inputs_are_combined(build: Any, name: str, expected: list[Any]) -> None:
    specs = {"x": ("f4", ["N", 2]), "y": ("f4", [2])}
    program, state = load(build([(name, ["x", "y"], ["z"])], specs, ["z"]).SerializeToString())
    feeds = {"x": np.array([[1, -2]], "f4"), "y": np.array([2, 2], "f4")}
    assert Predictor(program, state)(**feeds).tolist() == expected
