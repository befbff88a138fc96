"""Scopes and attributes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from noria.convert.messages import schema
from noria.convert.onnx.graph import Names, attributes
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")
FRAME = SimpleNamespace(model=SimpleNamespace(folder=Path(".")))


def proto(**attrs: Any) -> Any:
    made = onnx.helper.make_node("Toy", [], [], **attrs)
    return schema("onnx").NodeProto.FromString(made.SerializeToString())


def test_an_inner_scope_sees_the_outer_one() -> None:
    outer = Names({"": 18})
    outer.values["x"] = 1
    assert Names({}, outer)["x"] == 1
    with pytest.raises(FormatError, match="'y' is not defined"):
        Names({}, outer)["y"]


def test_attributes_are_plain_data() -> None:
    tensor = onnx.numpy_helper.from_array(np.arange(2))
    attrs, graphs = attributes(
        proto(f=0.1, i=2, s="您", t=tensor, fs=[1.0, 2.0], ns=[1], ss=["a", "b"]), Names({}), FRAME
    )
    assert attrs["f"] == float(np.float32(0.1))
    assert (attrs["i"], attrs["s"], attrs["t"].tolist()) == (2, "您", [0, 1])
    assert (attrs["fs"], attrs["ns"], attrs["ss"]) == ((1.0, 2.0), (1,), ("a", "b"))
    assert not graphs


def test_an_attribute_of_a_function_is_that_of_the_call() -> None:
    node = proto(axis=1, left=2)
    node.attribute[0].ref_attr_name = "outer"
    node.attribute[1].ref_attr_name = "absent"
    given = proto(outer=7).attribute[0]
    assert attributes(node, Names({}, attrs={"outer": given}), FRAME)[0] == {"axis": 7}
