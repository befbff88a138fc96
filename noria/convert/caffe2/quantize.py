"""Rows of 8 bits with their scale inside them; tensors of 8 bits (Int8...).

A tensor of 8 bits is a uint8 value; its scale and zero point are told by the operator that made it.
Int8 operators compute on the numbers meant, in float32, and round once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.segments import by_lengths
from noria.convert.caffe2.tensors import filled
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o

# ---- fused rows --------------------------------------------------------------------------------


def _bytes(x: Any, dtype: str) -> Any:
    """[N, 1] floats as [N, width] bytes."""
    return o.bitcast(o.squeeze(o.cast(x, dtype=dtype), axis=1), dtype="uint8")


def _scale_dtype(op: Node) -> str:
    return "float16" if "HalfScaleBias" in op.type else "float32"


@caffe2_op("FloatToFused8BitRowwiseQuantized", "HalfFloatToFused8BitRowwiseQuantized")
@caffe2_op("FloatToFused8BitRowwiseQuantizedHalfScaleBias")
@caffe2_op("HalfFloatToFused8BitRowwiseQuantizedHalfScaleBias")
def to_fused_8bit(op, x):
    """[N, D] -> uint8 [N, D + 8]: levels, then the bytes of scale and smallest number; [N, D + 4]
    where these are halves."""
    levels, scale, low = _levels(o.cast(x, dtype="float32"), 255)
    dtype = _scale_dtype(op)
    return o.concat(levels, _bytes(scale, dtype), _bytes(low, dtype), axis=1)


def _levels(x: Any, top: int) -> tuple[Any, Any, Any]:
    """(uint8 levels 0 to top of each row, scale [N, 1], smallest [N, 1])"""
    if len(x.shape) != 2:
        raise ShapeError("a matrix is needed", got=str(x))
    low = o.reduce_min(x, axis=1, keepdims=True)
    span = o.sub(o.reduce_max(x, axis=1, keepdims=True), low)
    inverse = o.div(float(top), o.add(span, 1e-8))
    levels = o.floor(o.add(o.mul(o.sub(x, low), inverse), 0.5))
    return o.cast(o.minimum(levels, float(top)), dtype="uint8"), o.div(span, float(top)), low


def _fused_parts(x: Any, dtype: str = "float32") -> tuple[Any, Any, Any]:
    """(levels float32 [N, D], scale [N, 1], smallest [N, 1]); the last two are kept in `dtype`."""
    width, each = x.shape[1], to_numpy(dtype).itemsize
    cuts = (0, width - 2 * each, width - each, width)
    parts = [o.slice(x, axes=(1,), starts=(a,), stops=(b,)) for a, b in pairwise(cuts)]
    scale, low = (
        o.cast(o.unsqueeze(o.bitcast(v, dtype=dtype), axis=1), dtype="float32") for v in parts[1:]
    )
    return o.cast(parts[0], dtype="float32"), scale, low


def _unfused(x: Any, dtype: str = "float32") -> Any:
    levels, scale, low = _fused_parts(x, dtype)
    return o.add(o.mul(levels, scale), low)


@caffe2_op("Fused8BitRowwiseQuantizedToFloat", "Fused8BitRowwiseQuantizedHalfScaleBiasToFloat")
def from_fused_8bit(op, x):
    return _unfused(x, _scale_dtype(op))


@caffe2_op("Fused8BitRowwiseQuantizedToHalfFloat")
@caffe2_op("Fused8BitRowwiseQuantizedHalfScaleBiasToHalfFloat")
def from_fused_8bit_to_half(op, x):
    return o.cast(_unfused(x, _scale_dtype(op)), dtype="float16")


@caffe2_op("GatherFused8BitRowwise")
def gather_fused_8bit(op, x, indices):
    return _unfused(o.gather(x, o.cast(indices, dtype="int64")))


@caffe2_op("SparseLengthsSumFused8BitRowwise", "SparseLengthsMeanFused8BitRowwise")
def sparse_lengths_fused_8bit(op, x, indices, lengths):
    rows = _unfused(o.gather(x, o.cast(indices, dtype="int64")))
    return by_lengths(op, "Mean" if "Mean" in op.type else "Sum", rows, lengths)


@caffe2_op("SparseLengthsWeightedSumFused8BitRowwise", "SparseLengthsWeightedMeanFused8BitRowwise")
def sparse_lengths_weighted_fused_8bit(op, x, weights, indices, lengths):
    rows = _unfused(o.gather(x, o.cast(indices, dtype="int64")))
    return by_lengths(
        op, "WeightedMean" if "Mean" in op.type else "WeightedSum", rows, lengths, weights
    )


# ---- fused rows of 4 and 2 bits ----------------------------------------------------------------


def _bits(op: Node) -> int:
    return next(n for n in (4, 2) if f"{n}Bit" in op.type)


@caffe2_op(*[f"{kind}ToFused{n}BitRowwiseQuantized" for kind in ("Float", "Half") for n in (4, 2)])
def to_fused_narrow(op, x):
    """[N, D] -> uint8: levels packed, the first in the lowest bits, then float16 scale and bias."""
    bits = _bits(op)
    top, each = float((1 << bits) - 1), 8 // bits
    x = o.cast(x, dtype="float32")
    low = o.cast(o.cast(o.reduce_min(x, axis=1, keepdims=True), dtype="float16"), dtype="float32")
    span = o.sub(o.reduce_max(x, axis=1, keepdims=True), low)
    scale = o.cast(o.cast(o.div(span, top), dtype="float16"), dtype="float32")
    scale = o.where(o.logical_or(o.equal(scale, 0.0), o.isinf(o.div(1.0, scale))), 1.0, scale)
    levels = o.clip(o.round(o.mul(o.sub(x, low), o.div(1.0, scale))), low=0.0, high=top)
    missing = -x.shape[1] % each
    levels = o.pad(levels, pads=((0, 0), (0, missing))) if missing else levels
    grouped = o.reshape(levels, shape=(x.shape[0], (x.shape[1] + missing) // each, each))
    weights = np.array([float(1 << (bits * k)) for k in range(each)], np.float32)
    packed = o.cast(o.reduce_sum(o.mul(grouped, weights), axis=2), dtype="uint8")
    return o.concat(packed, _bytes(scale, "float16"), _bytes(low, "float16"), axis=1)


def _unfused_narrow(op: Node, x: Any) -> Any:
    bits = _bits(op)
    each, width = 8 // bits, x.shape[1]
    cuts = (0, width - 4, width - 2, width)
    packed, scale, low = (o.slice(x, axes=(1,), starts=(a,), stops=(b,)) for a, b in pairwise(cuts))
    scale, low = (
        o.cast(o.unsqueeze(o.bitcast(v, dtype="float16"), axis=1), dtype="float32")
        for v in (scale, low)
    )
    shifts = np.array([1 << (bits * k) for k in range(each)], np.int64)
    wide = o.unsqueeze(o.cast(packed, dtype="int64"), axis=2)
    levels = o.remainder(o.floor_divide(wide, shifts), 1 << bits)
    levels = o.reshape(levels, shape=(x.shape[0], (width - 4) * each))
    return o.add(o.mul(o.cast(levels, dtype="float32"), scale), low)


@caffe2_op(*[f"Fused{n}BitRowwiseQuantizedTo{kind}" for kind in ("Float", "Half") for n in (4, 2)])
def from_fused_narrow(op, x):
    dtype = "float16" if op.type.endswith("Half") else "float32"
    return o.cast(_unfused_narrow(op, x), dtype=dtype)


@caffe2_op(*[f"SparseLengths{k}Fused{n}BitRowwise" for k in ("Sum", "Mean") for n in (4, 2)])
def sparse_lengths_fused_narrow(op, x, indices, lengths):
    rows = _unfused_narrow(op, o.gather(x, o.cast(indices, dtype="int64")))
    return by_lengths(op, "Mean" if "Mean" in op.type else "Sum", rows, lengths)


@caffe2_op(
    *[f"SparseLengthsWeighted{k}Fused{n}BitRowwise" for k in ("Sum", "Mean") for n in (4, 2)]
)
def sparse_lengths_weighted_fused_narrow(op, x, weights, indices, lengths):
    rows = _unfused_narrow(op, o.gather(x, o.cast(indices, dtype="int64")))
    kind = "WeightedMean" if "Mean" in op.type else "WeightedSum"
    return by_lengths(op, kind, rows, lengths, weights)


# ---- tensors of 8 bits -------------------------------------------------------------------------


def _meant(op: Node, x: Any) -> Any:
    """The numbers a uint8 value stands for; others are themselves."""
    known = op.frame.shared.scales.get(x)
    if known is None:
        return x
    scale, zero = known
    return o.mul(o.sub(o.cast(x, dtype="float32"), float(zero)), scale)


def _stored(op: Node, x: Any, like: Any = None) -> Any:
    """Numbers as uint8, by the scale and zero point the operator tells, or those of `like`."""
    shared = op.frame.shared
    if op.has("Y_scale"):
        scale, zero = op.attr("Y_scale", 1.0), op.attr("Y_zero_point", 0)
    elif like is not None and like in shared.scales:
        scale, zero = shared.scales[like]
    else:
        raise ArgumentError("the argument 'Y_scale' is missing", where=op.where())
    if not scale > 0:
        raise ArgumentError("a scale is positive", where=op.where(), got=str(scale))
    levels = o.clip(o.add(o.round(o.div(x, scale)), float(zero)), low=0.0, high=255.0)
    out = o.cast(levels, dtype="uint8")
    shared.scales[out] = (scale, zero)
    return out


@caffe2_op("Int8Quantize")
def int8_quantize(op, x, *others):
    return _stored(op, x)


@caffe2_op("Int8Dequantize")
def int8_dequantize(op, x, *others):
    return _meant(op, x)


@caffe2_op("Int8GivenTensorFill", "Int8GivenIntTensorFill")
def int8_given_tensor_fill(op):
    """Bytes of a string, or int32 numbers, with a scale and a zero point."""
    scale, zero = op.attr("Y_scale", 1.0), op.attr("Y_zero_point", 0)
    if op.type == "Int8GivenTensorFill":
        argument = op.args.get("values")
        data: Any = np.frombuffer(b"" if argument is None else argument.s, np.uint8)
        array = filled(data, op.ints("shape"), "uint8", op.where())
    else:
        array = filled(op.ints("values"), op.ints("shape"), "int32", op.where())
    value = op.frame.constant(array)
    op.frame.shared.scales[value] = (scale, zero)
    return value


# operators that do on numbers what the plain one does
PLAIN = {
    "Int8Add": "Add",
    "Int8AddRelu": "Add",
    "Int8AveragePool": "AveragePool",
    "Int8AveragePoolRelu": "AveragePool",
    "Int8Conv": "Conv",
    "Int8ConvRelu": "Conv",
    "Int8ConvTranspose": "ConvTranspose",
    "Int8FC": "FC",
    "Int8LeakyRelu": "LeakyRelu",
    "Int8Relu": "Relu",
    "Int8Sigmoid": "Sigmoid",
    "Int8Softmax": "Softmax",
    "Int8Sum": "Sum",
    "Int8SumRelu": "Sum",
}
# operators that only move the bytes of their first input
MOVED = {
    "Int8ChannelShuffle": "ChannelShuffle",
    "Int8Concat": "Concat",
    "Int8Flatten": "Flatten",
    "Int8MaxPool": "MaxPool",
    "Int8MaxPoolRelu": "MaxPool",
    "Int8Reshape": "Reshape",
    "Int8ResizeNearest": "ResizeNearest",
    "Int8Slice": "Slice",
    "Int8Transpose": "Transpose",
}


def _define(name: str, plain: str, moved: bool) -> None:
    @caffe2_op(name)
    def handler(op, x, *others):
        op.type = plain
        inner = caffe2_op.find(plain)
        assert inner is not None
        result = inner(op, _meant(op, x), *(_meant(op, v) for v in others))
        first, *rest = result if isinstance(result, tuple) else (result,)
        first = o.relu(first) if name.endswith("Relu") and name != "Int8LeakyRelu" else first
        return (_stored(op, first, x if moved else None), *rest)


for _name, _plain in (*PLAIN.items(), *MOVED.items()):
    _define(_name, _plain, _name in MOVED)
