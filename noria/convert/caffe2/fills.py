"""Blobs made from arguments: given numbers, constants, random numbers, ranges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.convert.caffe2.common import numel
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import packed_size
from noria.convert.caffe2.tensors import filled, sizes_of
from noria.core.dims import product
from noria.core.dtypes import is_float, to_numpy
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.random import normal, permutation, randint, uniform

GIVEN = {
    "GivenTensorFill": "float32",
    "GivenTensorDoubleFill": "float64",
    "GivenTensorBoolFill": "bool",
    "GivenTensorInt16Fill": "int16",
    "GivenTensorIntFill": "int32",
    "GivenTensorInt64Fill": "int64",
}

MAX_CHOICES = 1 << 24  # of which different ones are chosen


def shape_of(op: Node, like: Any = None) -> tuple[Any, ...]:
    """The shape a fill operator asks for: its argument, or its input, or what its input holds."""
    if like is None:
        return sizes_of(op.ints("shape"), op.where())
    if op.attr("input_as_shape", False):
        sizes = sizes_of(op.const(like, "the shape").ravel(), op.where())
    else:
        sizes = tuple(like.shape)
    return (*sizes, *sizes_of(op.ints("extra_shape"), op.where()))


# ---- given -------------------------------------------------------------------------------------


@caffe2_op(*GIVEN)
def given_tensor_fill(op, like=None):
    values = op.attr("values", [])
    dtype = op.dtype("dtype", GIVEN[op.type]) if op.type == "GivenTensorFill" else GIVEN[op.type]
    shape = shape_of(op, like) if like is not None or op.has("shape") else (np.size(values),)
    return filled(values, shape, dtype, op.where())


@caffe2_op("GivenTensorByteStringToUInt8Fill")
def given_bytes(op, like=None):
    """The bytes of one string as uint8."""
    argument = op.args.get("values")
    data = b"" if argument is None else argument.s or b"".join(argument.strings)
    return filled(np.frombuffer(data, np.uint8), op.ints("shape", [len(data)]), "uint8", op.where())


@caffe2_op("ConstantFill")
def constant_fill(op, like=None):
    value = op.attr("value", None)
    value = 0 if value is None else value
    dtype = op.dtype("dtype", "int64" if op.has("value") and type(value) is int else "float32")
    if isinstance(value, str):
        raise ArgumentError("strings cannot be filled in", got=repr(value)[:40])
    number = bool(value) if dtype == "bool" else value
    if dtype.startswith("float"):
        number = float(number)
    elif dtype != "bool":
        number = int(number)
    return o.fill(shape=shape_of(op, like), value=number, dtype=dtype)


@caffe2_op("Float16ConstantFill")
def half_constant_fill(op):
    return o.fill(shape=shape_of(op), value=op.attr("value", 0.0), dtype="float16")


@caffe2_op("DiagonalFill")
def diagonal_fill(op, like=None, value=None):
    if like is None:
        shape = sizes_of(op.ints("shape"), op.where())
    elif op.attr("input_as_shape", False) or len(like.shape) == 1:
        shape = sizes_of(op.const(like, "the shape").ravel(), op.where())
    else:
        shape = tuple(like.shape)
    if len(shape) < 2 or (len(shape) > 2 and len(set(shape)) > 1):
        raise ShapeError("a matrix, or the same size along all axes, is needed", got=str(shape))
    given = op.attr("value", 0.0) if value is None else op.const(value, "the value").item()
    dtype = op.dtype("dtype", _number_dtype(op, value))
    if len(shape) == 2:
        return o.cast(o.mul(o.eye(n=shape[0], m=shape[1], dtype=dtype), given), dtype=dtype)
    out = np.zeros(shape, to_numpy(dtype))
    out[(np.arange(shape[0]),) * len(shape)] = given
    return out


def _number_dtype(op: Node, value: Any) -> str:
    if value is not None:
        return "float32" if is_float(value.dtype) else str(value.dtype)
    return "int64" if type(op.attr("value", None)) is int else "float32"


# ---- random ------------------------------------------------------------------------------------


@caffe2_op("UniformFill")
def uniform_fill(op, like=None, low=None, high=None):
    ends = [op.attr("min", 0.0), op.attr("max", 1.0)]
    for i, given in enumerate((low, high)):
        if given is not None:
            ends[i] = float(op.const(given, "the range").item())
    return uniform(shape=shape_of(op, like), low=ends[0], high=ends[1])


@caffe2_op("Float16UniformFill")
def half_uniform_fill(op):
    low, high = op.attr("min", 0.0), op.attr("max", 1.0)
    return o.cast(uniform(shape=shape_of(op), low=low, high=high), dtype="float16")


@caffe2_op("UniformIntFill")
def uniform_int_fill(op, like=None, low=None, high=None):
    ends = [op.attr("min", 0), op.attr("max", 1)]
    for i, given in enumerate((low, high)):
        if given is not None:
            ends[i] = int(op.const(given, "the range").item())
    return randint(shape=shape_of(op, like), low=ends[0], high=ends[1] + 1, dtype="int32")


@caffe2_op("UniqueUniformFill")
def unique_uniform_fill(op, like=None, avoid=None):
    """Different integers between min and max, none of those to avoid."""
    low, high = op.attr("min", 0), op.attr("max", 1)
    shape = shape_of(op, like)
    count = product(shape)
    if not 0 <= high - low < MAX_CHOICES:
        raise ArgumentError("bad range", expected=f"0 to {MAX_CHOICES}", got=f"{low} to {high}")
    left = np.arange(low, high + 1)
    if avoid is not None:
        left = np.setdiff1d(left, op.const(avoid, "what to avoid"))
    if not isinstance(count, int) or count > len(left):
        raise ArgumentError("there are fewer numbers than asked for", got=f"{count}, {len(left)}")
    order = o.slice(permutation(n=len(left)), axes=(0,), starts=(0,), stops=(count,))
    chosen = o.gather(left.astype(to_numpy(op.dtype("dtype", "int32"))), order)
    return o.reshape(chosen, shape=shape)


@caffe2_op("GaussianFill")
def gaussian_fill(op, like=None):
    return normal(shape=shape_of(op, like), mean=op.attr("mean", 0.0), std=op.attr("std", 1.0))


@caffe2_op("XavierFill")
def xavier_fill(op, like=None):
    """Uniform in +-sqrt(3 / fan-in).  (Glorot and Bengio, 2010)"""
    shape = shape_of(op, like)
    bound = math.sqrt(3 / max(_fan(shape, 0), 1))
    return uniform(shape=shape, low=-bound, high=bound)


@caffe2_op("MSRAFill")
def msra_fill(op, like=None):
    """Gaussian of variance 2 / fan-out.  (He et al., 2015)"""
    shape = shape_of(op, like)
    return normal(shape=shape, mean=0.0, std=math.sqrt(2 / max(_fan(shape, 1), 1)))


def _fan(shape: tuple[Any, ...], axis: int) -> int:
    """How many numbers there are for each along an axis."""
    sizes = [n for i, n in enumerate(shape) if i != min(axis, len(shape) - 1)]
    fan = product(sizes)
    if not isinstance(fan, int):
        raise ShapeError("random weights need a known shape", got=str(shape))
    return fan


# ---- counted -----------------------------------------------------------------------------------


@caffe2_op("Range")
def range_(op, *numbers):
    """[start], stop, [step]: start, start + step, ... before stop."""
    known = [op.const(n, "the range").item() for n in numbers]
    start, stop, step = (0, *known, 1) if len(known) == 1 else (*known, 1)[:3]
    if step == 0:
        raise ArgumentError("a range needs a step that is not 0")
    return o.arange(start=start, stop=stop, step=step, dtype=numbers[0].dtype)


@caffe2_op("RangeFill")
def range_fill(op, like=None):
    shape = shape_of(op, like)
    return o.reshape(o.arange(stop=product(shape), dtype="float32"), shape=shape)


@caffe2_op("Size")
def size(op, x):
    return o.dim_value(dim=numel(x))


@caffe2_op("Shape")
def shape(op, x):
    chosen = op.ints("axes", range(len(x.shape)))
    sizes = [o.dim_value(dim=x.shape[i]) for i in chosen]
    if not sizes:
        return np.zeros(0, np.int64)
    return o.concat(*[o.reshape(n, shape=(1,)) for n in sizes])


@caffe2_op("LengthsRangeFill")
def lengths_range_fill(op, lengths):
    """0, 1, ... for each row: [sum of lengths], int32."""
    zeros = o.fill(shape=lengths.shape, value=0, dtype="int64")
    return o.cast(o.ragged_range(zeros, lengths, size=packed_size(op, lengths)), dtype="int32")
