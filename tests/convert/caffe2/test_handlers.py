"""What a handler sees of an operator."""

from typing import Any

import numpy as np
import pytest

from noria.convert.caffe2.frame import Frame, Shared
from noria.convert.caffe2.handlers import Node
from noria.convert.caffe2.reader import net_of_one_operator
from noria.core.errors import ArgumentError
from noria.ir.emit import Builder
from noria.ir.program import Program


def node(**args: Any) -> Node:
    with Builder(Program()):
        return Node(net_of_one_operator("Op", args, 0, 1).op[0], Frame(Shared(), {}))


def test_arguments_take_the_kind_of_their_default() -> None:
    op = node(a=1, b=2.0, c="x", d=[1, 2])
    assert op.attr("a", 0.0) == 1.0 and op.attr("a", False) is True
    assert op.attr("b", 1) == 2 and op.attr("c", "") == "x" and op.ints("d") == [1, 2]
    assert op.ints("a") == [1] and op.attr("none", 3) == 3


def test_an_argument_of_another_kind_is_refused() -> None:
    with pytest.raises(ArgumentError, match="another kind"):
        node(axis="last").attr("axis", 1)
    with pytest.raises(ArgumentError, match="holds integers"):
        node(axes=[0.5]).ints("axes")
    with pytest.raises(ArgumentError, match="missing"):
        node().attr("axis")


def test_the_order_of_axes_is_one_of_two() -> None:
    assert node(order="NHWC").last and not node().last
    with pytest.raises(ArgumentError, match="unknown order"):
        _ = node(order="CHW").last


def test_arrays_are_known() -> None:
    assert node().const(np.arange(3), "x").tolist() == [0, 1, 2]
