"""Quantised operators of ONNX: scales per tensor, axis or block, and products of integers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from noria.convert.onnx.casting import cast_numbers
from noria.convert.onnx.conv import conv
from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.math import dtype_name
from noria.convert.onnx.tensors import dtype_of
from noria.convert.onnx.types import program_dtype
from noria.core.dims import known_ge, product
from noria.core.errors import DTypeError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import shaped
from noria.ops.quantize import dequantize, dynamic_quantize, matmul_integer, quantize

WHOLE = tuple(
    np.dtype(k) for k in (ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2)
)


def _told(node: Node, name: str) -> np.dtype[Any] | None:
    """The dtype that an attribute names by number, None for 0."""
    return dtype_of(node.attr(name), str(node)) if node.attr(name, 0) else None


@onnx_op("QuantizeLinear")
def quantize_linear(node: Node, x: Any, scale: Any, zero_point: Any = None) -> Any:
    how = {"axis": node.attr("axis", 1), "block": node.attr("block_size", 0)}
    told = _told(node, "output_dtype") if zero_point is None else shaped(zero_point).dtype
    dtype = "uint8" if told is None else _known(told)
    if dtype is None:
        return _few_bits(node, x, scale, zero_point, told, how)
    x = o.cast(x, dtype="float32") if str(shaped(x).dtype).startswith("int") else x
    return quantize(x, scale, zero_point, dtype=dtype, **how)


def _known(dtype: Any) -> str | None:
    return dtype if isinstance(dtype, str) else program_dtype(dtype)


def _few_bits(
    node: Node, x: Any, scale: Any, zero_point: Any, dtype: Any, how: dict[str, Any]
) -> np.ndarray:
    """To a dtype that Programs do not know: at once, of what is known."""
    x, scale = node.const(x, "x").astype(np.float32), node.const(scale, "the scale")
    zero = None if zero_point is None else _wide(zero_point)
    shift = 0 if zero is None else dequantize(np.ones_like(x), zero.astype(np.float32), **how)
    real = x / dequantize(np.ones_like(x), scale.astype(np.float32), **how)
    if dtype not in WHOLE:
        return cast_numbers(real + shift, dtype, bool(node.attr("saturate", 1)))
    limits = ml_dtypes.iinfo(dtype)
    return np.clip(np.rint(real) + shift, int(limits.min), int(limits.max)).astype(dtype)


def _wide(x: Any) -> Any:
    """Few bits in a dtype that Programs know and that holds them all."""
    if not isinstance(x, np.ndarray) or program_dtype(x.dtype) is not None:
        return x
    return x.astype(np.int32 if x.dtype in WHOLE else np.float32)


@onnx_op("DequantizeLinear")
def dequantize_linear(node: Node, x: Any, scale: Any, zero_point: Any = None) -> Any:
    how = {"axis": node.attr("axis", 1), "block": node.attr("block_size", 0)}
    told = _told(node, "output_dtype")
    dtype = None if told is None else program_dtype(told)
    if told is not None and dtype is None:
        raise DTypeError("Programs do not know this dtype", where=str(node), got=str(told))
    return dequantize(_wide(x), scale, _wide(zero_point), dtype=dtype, **how)


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


# ---- convolutions ------------------------------------------------------------------------------


@onnx_op("ConvInteger")
def integer_convolution(
    node: Node, x: Any, weight: Any, x_zero: Any = None, weight_zero: Any = None
) -> Any:
    return o.cast(_whole_convolution(node, x, weight, x_zero, weight_zero), dtype="int32")


@onnx_op("QLinearConv")
def quantized_convolution(
    node: Node,
    x: Any,
    x_scale: Any,
    x_zero: Any,
    weight: Any,
    weight_scale: Any,
    weight_zero: Any,
    scale: Any,
    zero: Any,
    bias: Any = None,
) -> Any:
    whole = _whole_convolution(node, x, weight, x_zero, weight_zero)
    rank = len(shaped(x).shape)
    if bias is not None:
        whole = o.add(whole, o.cast(_by_channel(bias, rank, 1), dtype=dtype_name(whole)))
    factor = o.mul(_single(x_scale), _single(_by_channel(weight_scale, rank, 1)))
    real = o.mul(o.cast(whole, dtype="float32"), factor)
    return quantize(real, _single(scale), zero)


def _whole_convolution(node: Node, x: Any, weight: Any, x_zero: Any, weight_zero: Any) -> Any:
    """The convolution of integers without their zero points, in floats that hold it exactly."""
    terms = product(shaped(weight).shape[1:])  # each of at most 2^16
    dtype = "float32" if known_ge(1 << 8, terms) else "float64"
    rank = len(shaped(x).shape)
    left, right = o.cast(x, dtype=dtype), o.cast(weight, dtype=dtype)
    if x_zero is not None:
        left = o.sub(left, o.cast(o.reshape(x_zero, shape=()), dtype=dtype))
    if weight_zero is not None:
        right = o.sub(right, o.cast(_by_channel(weight_zero, rank, 0), dtype=dtype))
    return conv(node, left, right)


def _by_channel(vector: Any, rank: int, axis: int) -> Any:
    """One number, or one for each channel, in a shape that broadcasts."""
    shape = shaped(vector).shape
    if not shape or tuple(shape) == (1,):
        return o.reshape(vector, shape=()) if shape else vector
    return o.reshape(vector, shape=tuple(shape[0] if i == axis else 1 for i in range(rank)))
