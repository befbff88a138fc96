"""Operators through their decompositions; names that stay."""

import numpy as np
import pytest

import noria
from noria import ops
from noria.convert.onnx.export_graph import emitter
from noria.convert.onnx.writer import to_model
from noria.core.errors import ProgramError


def test_an_op_without_an_emitter_is_written_through_its_rule(same_in_onnx):
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 4, 3)
    same_in_onnx(lambda x: {"y": ops.group_norm(x, groups=2)}, {"x": ("N", 4, 3)}, x=x)


def test_values_keep_their_names():
    def fn(x):
        return {"y": ops.tanh(ops.relu(x)), "z": ops.relu(x)}

    model = to_model(noria.trace(fn, x=noria.spec("N")), {})
    outputs = [name for node in model.graph.node for name in node.output]
    assert outputs == ["relu", "y", "z"]
    assert [v.name for v in model.graph.output] == ["y", "z"]


def test_what_nothing_needs_is_left_out():
    x = noria.spec("N", 4)
    program = noria.trace(lambda x: {"y": ops.layer_norm(x)[0]}, x=x)
    model = to_model(program, {})
    assert "InvStdDev" not in str(model) and model.graph.node[-1].output[0] == "y"


def test_an_output_that_is_an_input_or_shown_twice_has_a_name_of_its_own(through_onnx):
    def fn(x):
        y = ops.relu(x)
        return {"a": y, "b": y, "c": x}

    x = np.array([-1, 2], np.float32)
    got = through_onnx(noria.trace(fn, x=noria.spec("N")), {"x": x})
    np.testing.assert_array_equal(got["a"], [0, 2])
    np.testing.assert_array_equal(got["b"], [0, 2])
    np.testing.assert_array_equal(got["c"], x)


def test_an_op_without_inputs_is_a_constant_where_all_sizes_are_known(same_in_onnx):
    def fn(x):
        how = {"image_size": (16, 16), "min_sizes": (4.0,)}
        return {"y": ops.prior_boxes(feature_size=(2, 3), **how), "x": x}

    same_in_onnx(fn, {"x": ("N",)}, x=np.zeros(2, np.float32))


def test_an_attribute_that_the_emitter_overlooks_is_an_error_and_no_other_model(monkeypatch):
    monkeypatch.setitem(emitter._versions, ("", "elu"), [(1, lambda g, op, x: g.node("Elu", x))])
    program = noria.trace(lambda x: {"y": ops.elu(x)}, x=noria.spec("N"))
    assert to_model(program, {}).graph.node[0].op_type == "Elu"
    program = noria.trace(lambda x: {"y": ops.elu(x, alpha=2.0)}, x=noria.spec("N"))
    with pytest.raises(ProgramError, match="cannot be written as ONNX: elu"):
        to_model(program, {})
