"""noria behind onnx's interface of back ends."""

from typing import Any

import numpy as np
import pytest

from noria.convert.onnx.backend import Backend
from noria.core.errors import ArgumentError, MissingError

onnx = pytest.importorskip("onnx")
A = np.array([[1, -2]], "f4")


def test_a_model_is_prepared_once_and_run_at_any_batch(build: Any) -> None:
    model = build([("Add", ["x", "y"], ["z"])], {n: ("f4", ["N", 2]) for n in "xy"}, ["z"])
    prepared = Backend.prepare(model)
    for n in (1, 3):
        (z,) = prepared.run([np.repeat(A, n, 0), np.repeat(A, n, 0)])
        assert z.tolist() == [[2, -4]] * n
    assert prepared.run({"x": A, "y": A})[0].tolist() == [[2, -4]]
    with pytest.raises(MissingError):
        prepared.run([A])
    with pytest.raises(MissingError, match="more inputs"):
        prepared.run([A, A, A])


def test_inputs_that_decide_the_graph_are_learned_from_calls(build: Any) -> None:
    model = build([("Relu", ["x"], ["y"])], {"x": ("f4", None)}, ["y"])
    prepared = Backend.prepare(model)
    assert prepared.run([A])[0].tolist() == [[1, 0]]
    assert prepared.run([A[0]])[0].tolist() == [1, 0]
    assert len(prepared._ready) == 2
    prepared.run([A])
    assert len(prepared._ready) == 2


def test_a_node_alone() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    assert Backend.run_node(node, [A])[0].tolist() == [[1, 0]]


def test_only_the_cpu() -> None:
    assert Backend.supports_device("CPU:0")
    assert not Backend.supports_device("CUDA")
    with pytest.raises(ArgumentError, match="CPU"):
        Backend.prepare(b"", "CUDA")


def test_whether_a_model_can_be_converted(build: Any) -> None:
    specs = {"x": ("f4", [2])}
    assert Backend.is_compatible(build([("Relu", ["x"], ["y"])], specs, ["y"]))
    assert not Backend.is_compatible(build([("Reluu", ["x"], ["y"])], specs, ["y"]))
