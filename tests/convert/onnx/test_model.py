"""Models that make no sense are refused before anything is converted."""

from typing import Any

import pytest

from noria.convert.handlers import UnsupportedOperators
from noria.convert.onnx.handlers import onnx_op
from noria.convert.onnx.model import NEWEST, Model
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")
X = {"x": ("f4", ["N", 3])}


def read(model: Any) -> Model:
    return Model.read(model.SerializeToString())


def test_opsets_are_known_by_domain(build: Any) -> None:
    assert read(build([("Relu", ["x"], ["y"])], X, ["y"], opset=17)).opsets == {"": 17}


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([("Relu", ["z"], ["y"])], "no node, input or initialiser"),
        ([("Relu", ["a"], ["y"]), ("Relu", ["x"], ["a"])], "cyclic or not sorted"),
        ([("Add", ["x", "y"], ["y"])], "cyclic or not sorted"),
        ([("Relu", ["x"], ["y"]), ("Relu", ["x"], ["y"])], "made twice"),
        ([("Relu", ["x"], ["a"])], "output 'y' is not defined"),
    ],
)
def test_names_are_defined_once_and_before_they_are_used(
    build: Any, nodes: list[Any], told: str
) -> None:
    with pytest.raises(FormatError, match=told):
        read(build(nodes, X, ["y"]))


@pytest.mark.parametrize("data", [b"", b"\x00" * 50, b"not a model", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model_is_an_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        Model.read(data)


def varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def test_graphs_nested_ten_thousand_deep_are_an_error() -> None:
    parts, size = [], 0  # from the innermost: attribute.g, node.attribute, graph.node, model.graph
    for tag in b"\x32\x2a\x0a" * 10_000 + b"\x3a":
        parts.append(bytes([tag]) + varint(size))
        size += len(parts[-1])
    with pytest.raises(FormatError, match="not a ModelProto"):
        Model.read(b"".join(reversed(parts)))


def test_a_domain_that_is_not_imported_is_an_error(build: Any) -> None:
    model = build([("Relu", ["x"], ["y"])], X, ["y"], opsets=[onnx.helper.make_opsetid("lab", 1)])
    with pytest.raises(FormatError, match=r"no opset of the domain 'ai\.onnx'"):
        read(model).require(onnx_op)


def test_all_unknown_operators_are_told_also_those_of_nested_graphs(build: Any) -> None:
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Reluu", ["x"], ["b"])],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("b", 1, None)],
    )
    node = onnx.helper.make_node("Iff", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model = build([("Matmul", ["x", "x"], ["a"]), node], X, ["y"])
    with pytest.raises(UnsupportedOperators) as caught:
        read(model).require(onnx_op)
    assert caught.value.operators == ["Iff", "Matmul", "Reluu"]
    assert "nearest: MatMul" in str(caught.value)


def test_operators_newer_than_known_are_refused(build: Any) -> None:
    with pytest.raises(FormatError, match="newer"):
        read(build([("Relu", ["x"], ["y"])], X, ["y"], opset=NEWEST + 1))
