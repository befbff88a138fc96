"""Blobs while a net is converted."""

import numpy as np
import pytest

from noria.convert.caffe2.frame import Frame, Shared
from noria.convert.handlers import NeedsConstant
from noria.convert.messages import schema
from noria.core.errors import ArgumentError, FormatError, MissingError, ProgramError
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program


def test_what_depends_on_no_input_is_known() -> None:
    with Builder(Program()) as builder:
        x = builder.input("x", (2,))
        frame = Frame(Shared([x]), {})
        sizes = o.concat(o.reshape(o.dim_value(dim=7), shape=(1,)), builder.constant([3]))
        assert frame.const(o.mul(sizes, 2), "a shape").tolist() == [14, 6]
        with pytest.raises(NeedsConstant) as error:
            frame.const(o.add(x, 1.0), "a shape")
        assert error.value.inputs == ("x",)


def test_what_is_too_large_is_not_computed() -> None:
    with Builder(Program()):
        frame = Frame(Shared(), {})
        huge = o.fill(shape=(1 << 40,), value=0)
        with pytest.raises(NeedsConstant):
            frame.const(o.reduce_sum(huge), "a shape")


def test_errors_name_the_operator_and_the_blob() -> None:
    net = schema("caffe2").NetDef()
    net.op.add(type="Tanh", input=["nowhere"], output=["y"])
    with Builder(Program()), pytest.raises(MissingError, match="nowhere") as error:
        Frame(Shared(), {"nowhen": None}).run(net)
    assert "Tanh giving 'y'" in str(error.value)


def test_too_many_inputs_and_outputs_are_refused() -> None:
    for inputs, outputs in ((["x", "x"], ["y"]), (["x"], ["y", "z"])):
        net = schema("caffe2").NetDef()
        net.op.add(type="Sqr", input=inputs, output=outputs)
        with Builder(Program()) as builder, pytest.raises(ArgumentError, match=r"inputs|outputs"):
            Frame(Shared(), {"x": builder.constant(np.ones(2))}).run(net)


def test_nets_within_nets_have_a_bound() -> None:
    argument = schema("caffe2").Argument(name="n")
    argument.n.name = "inner"
    with Builder(Program()), pytest.raises(FormatError, match="nested deeper"):
        Frame(Shared(), {}, depth=8).nested_net(argument, "here")


def test_inputs_no_operator_takes_are_told_with_their_specs() -> None:
    net = schema("caffe2").NetDef()
    net.op.add(type="IntegralImageGradient", input=["x", "x"], output=["y"])
    with Builder(Program()) as builder, pytest.raises(ProgramError, match="do not fit") as error:
        Frame(Shared(), {"x": builder.constant(np.ones(3))}).run(net)
    assert "float64[3], float64[3]" in str(error.value)
