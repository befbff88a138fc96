"""Sequences of ONNX exist while a model is converted."""

from typing import Any

import numpy as np
import pytest

from noria.convert.onnx import load
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
X = np.arange(6, dtype="f4").reshape(3, 2)


def test_parts_are_put_together_again_in_another_order(run: Any) -> None:
    nodes = [
        node("SplitToSequence", ["x"], ["parts"], axis=0),
        node("SequenceAt", ["parts", "first"], ["one"]),
        node("SequenceErase", ["parts", "first"], ["rest"]),
        node("SequenceInsert", ["rest", "one"], ["turned"]),
        node("ConcatFromSequence", ["turned"], ["y"], axis=0),
        node("SequenceLength", ["turned"], ["n"]),
    ]
    y, n = run(nodes, {"x": X}, ["y", "n"], {"first": np.array(0)}, {"x": [3, "M"]})
    assert np.array_equal(y, X[[1, 2, 0]])
    assert n == 3


def test_a_sequence_among_the_outputs_is_several_outputs(build: Any) -> None:
    nodes = [node("SplitToSequence", ["x"], ["y"], axis=0, keepdims=0)]
    program, _ = load(build(nodes, {"x": ("f4", [3, 2])}, ["y"]).SerializeToString())
    assert {n: str(v) for n, v in program.outputs.items()} == {
        f"y[{i}]": "float32[2]" for i in range(3)
    }


@pytest.mark.parametrize("position", [3, -4])
def test_a_position_outside_is_an_error(build: Any, position: int) -> None:
    nodes = [node("SplitToSequence", ["x"], ["s"]), node("SequenceAt", ["s", "p"], ["y"])]
    model = build(nodes, {"x": ("f4", [3, 2])}, ["y"], {"p": np.array(position)})
    with pytest.raises(FormatError, match="outside a sequence"):
        load(model.SerializeToString())
