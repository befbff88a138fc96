"""Quantised operators of ONNX: scales per tensor, axis or block, and products of integers."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.tensors import dtype_of
from noria.convert.onnx.types import program_dtype
from noria.core.errors import DTypeError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import shaped
from noria.ops.quantize import dequantize, dynamic_quantize, matmul_integer, quantize


def _told(node: Node, name: str) -> str | None:
    """The dtype that an attribute names by number, None for 0."""
    if not node.attr(name, 0):
        return None
    kind = program_dtype(dtype_of(node.attr(name), str(node)))
    if kind is None:
        raise DTypeError("Programs do not know this dtype", where=str(node), got=node.attr(name))
    return kind


@onnx_op("QuantizeLinear")
def quantize_linear(node: Node, x: Any, scale: Any, zero_point: Any = None) -> Any:
    dtype = _told(node, "output_dtype") or "uint8"
    how = {"axis": node.attr("axis", 1), "block": node.attr("block_size", 0)}
    x = o.cast(x, dtype="float32") if str(shaped(x).dtype).startswith("int") else x
    return quantize(x, scale, zero_point, dtype=dtype, **how)


@onnx_op("DequantizeLinear")
def dequantize_linear(node: Node, x: Any, scale: Any, zero_point: Any = None) -> Any:
    how = {"axis": node.attr("axis", 1), "block": node.attr("block_size", 0)}
    return dequantize(x, scale, zero_point, dtype=_told(node, "output_dtype"), **how)


@onnx_op("DynamicQuantizeLinear")
def dynamic_quantize_linear(node: Node, x: Any) -> Any:
    return dynamic_quantize(x)


@onnx_op("MatMulInteger")
def integer_product(node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    return matmul_integer(a, b, a_zero, b_zero)


@onnx_op("QLinearMatMul")
def quantized_product(
    node: Node,
    a: Any,
    a_scale: Any,
    a_zero: Any,
    b: Any,
    b_scale: Any,
    b_zero: Any,
    scale: Any,
    zero: Any,
) -> Any:
    whole = matmul_integer(a, b, a_zero, b_zero)
    factor = _single(o.mul(_rows(a_scale), b_scale))
    real = o.mul(o.cast(whole, dtype="float32"), factor)
    return quantize(real, _single(scale), zero, axis=-1)


def _single(x: Any) -> Any:
    return o.cast(x, dtype="float32")


def _rows(scale: Any) -> Any:
    """A scale for each row of the left matrix, behind which columns follow."""
    shape = shaped(scale).shape
    return o.unsqueeze(scale, axis=1) if len(shape) == 1 and shape != (1,) else scale
