"""Arithmetic, comparisons and mathematical functions of ONNX."""

from __future__ import annotations

from functools import reduce
from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.ir.opdef import vocabulary as o

_BINARY = {
    "Add": o.add,
    "Sub": o.sub,
    "Mul": o.mul,
}


@onnx_op(*_BINARY, since=7)
def binary(node: Node, x: Any, y: Any) -> Any:
    return _BINARY[node.op_type](x, y)


@onnx_op("Max")
def maximum(node: Node, *xs: Any) -> Any:
    return reduce(o.maximum, xs)


@onnx_op("Relu")
def relu(node: Node, x: Any) -> Any:
    return o.relu(x)


@onnx_op("MatMul")
def matmul(node: Node, x: Any, y: Any) -> Any:
    return o.matmul(x, y)
