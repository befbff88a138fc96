"""Products of matrices and tensors."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.math import dtype_name
from noria.core.dtypes import is_float
from noria.ir.opdef import vocabulary as o
from noria.ops.common import shaped
from noria.ops.einsum import einsum


@onnx_op("MatMul")
def matmul(node: Node, x: Any, y: Any) -> Any:
    return o.matmul(x, y)


@onnx_op("Gemm")
def gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    """alpha * a @ b + beta * c."""
    left, right = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    alpha, beta = node.attr("alpha", 1.0), node.attr("beta", 1.0)
    if right and _is_layer(a, b, c, left) and alpha == beta == 1.0:
        return o.linear(a, b, c)
    product = _scaled(o.matmul(a, b, transpose_x=left, transpose_y=right), alpha)
    return product if c is None or beta == 0.0 else o.add(product, _scaled(c, beta))


def _is_layer(a: Any, b: Any, c: Any, left: bool) -> bool:
    """Whether it is rows times a weight [outputs, inputs], plus a vector."""
    if left or c is None or not is_float(dtype_name(a)):
        return False
    return tuple(shaped(c).shape) == tuple(shaped(b).shape[:1])


def _scaled(x: Any, factor: float) -> Any:
    if factor == 1.0:
        return x
    dtype = dtype_name(x)
    if is_float(dtype):
        return o.mul(x, factor)
    return o.cast(o.mul(o.cast(x, dtype="float64"), factor), dtype=dtype)


@onnx_op("Einsum")
def einsum_(node: Node, *xs: Any) -> Any:
    return einsum(node.need("equation"), *xs)


@onnx_op("Det")
def det(node: Node, x: Any) -> Any:
    return o.det(x)
