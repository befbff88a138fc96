"""Values from attributes and shapes, random numbers, and casts."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.casting import cast_numbers
from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.math import dtype_name
from noria.convert.onnx.shape import sizes_of
from noria.convert.onnx.tensors import dtype_of
from noria.convert.onnx.types import program_dtype
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ops import random as random_ops
from noria.ops.common import shaped

# ---- constants ---------------------------------------------------------------------------------


@onnx_op("Constant")
def constant(node: Node) -> Any:
    kinds = {"value_float": np.float32, "value_int": np.int64, "value_string": object}
    kinds |= {"value_floats": np.float32, "value_ints": np.int64, "value_strings": object}
    for name, value in node.attrs.items():
        if name in kinds:
            return np.array(value, kinds[name])
        if name in ("value", "sparse_value"):
            return value
    raise FormatError("a constant without a value", where=str(node))


@onnx_op("ConstantOfShape")
def constant_of_shape(node: Node, shape: Any) -> Any:
    value = node.attr("value", np.zeros(1, np.float32))
    sizes = node.sizes(shape, "the shape")
    dtype = program_dtype(value.dtype)
    if dtype is None:
        return np.full([int(d) for d in sizes], scalar(value), value.dtype)
    return filled(sizes, scalar(value), dtype)


SMALL = 1024


def filled(sizes: Any, number: Any, dtype: str) -> Any:
    """One number everywhere: an array if it is small and its shape known."""
    if all(isinstance(d, int) for d in sizes) and np.prod(sizes, dtype=float) <= SMALL:
        return np.full(sizes, number, shaped(o.cast(number, dtype=dtype)).dtype)
    return o.fill(shape=tuple(sizes), value=number, dtype=dtype)


@onnx_op("Range")
def range_(node: Node, start: Any, limit: Any, step: Any) -> Any:
    dtype = dtype_name(start)
    numbers = [_end(node, v, w) for v, w in ((start, "the start"), (limit, "the limit"))]
    by = scalar(node.const(step, "the step"))
    return o.arange(start=numbers[0], stop=numbers[1], step=by, dtype=dtype)


def _end(node: Node, value: Any, what: str) -> Any:
    if dtype_name(value).startswith("int"):
        (size,) = node.sizes(value, what)
        return size
    return scalar(node.const(value, what))


@onnx_op("EyeLike")
def eye_like(node: Node, x: Any) -> Any:
    rows, columns = sizes_of(x)
    kind = node.attr("dtype")
    dtype = dtype_name(x) if kind is None else _program_dtype(kind, node)
    return o.eye(n=rows, m=columns, k=node.attr("k", 0), dtype=dtype)


def _program_dtype(number: int, node: Node) -> str:
    dtype = program_dtype(dtype_of(number, str(node)))
    if dtype is None:
        raise FormatError("a Program has no such dtype", where=str(node), got=str(number))
    return dtype


# ---- casts -------------------------------------------------------------------------------------


@onnx_op("Cast")
def cast(node: Node, x: Any) -> Any:
    to = node.need("to")
    if isinstance(to, str):  # before opset 6 by name
        raise FormatError("a cast by the name of a dtype, as before opset 6", where=str(node))
    return _cast(node, x, dtype_of(to, str(node)))


@onnx_op("CastLike")
def cast_like(node: Node, x: Any, target: Any) -> Any:
    dtype = target.dtype
    return _cast(node, x, shaped(o.cast(0, dtype=dtype)).dtype if isinstance(dtype, str) else dtype)


def _cast(node: Node, x: Any, dtype: np.dtype[Any]) -> Any:
    name = program_dtype(dtype)
    if name is not None and (isinstance(x, Value) or program_dtype(x.dtype) is not None):
        return x if dtype_name(x) == name else o.cast(x, dtype=name)
    saturate, mode = bool(node.attr("saturate", 1)), node.attr("round_mode", "up")
    return cast_numbers(node.const(x, "the input"), dtype, saturate, mode)


@onnx_op("BitCast")
def bit_cast(node: Node, x: Any) -> Any:
    dtype = dtype_of(node.need("to"), str(node))
    name = program_dtype(dtype)
    if name is not None and program_dtype(shaped(x).dtype) is not None:
        x = o.cast(x, dtype="uint8") if dtype_name(x) == "bool" else x
        if name == "bool":
            return o.not_equal(o.bitcast(x, dtype="uint8"), 0)
        return o.bitcast(x, dtype=name)
    array = node.const(x, "the input")
    if array.dtype.itemsize != dtype.itemsize or object in (array.dtype, dtype):
        raise FormatError("bits are cast to a dtype of as many", got=f"{array.dtype} to {dtype}")
    return np.ascontiguousarray(array).view(dtype)


# ---- random numbers ----------------------------------------------------------------------------


@onnx_op("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
def random_numbers(node: Node, x: Any = None) -> Any:
    shape = node.need("shape") if x is None else sizes_of(x)
    kind = node.attr("dtype")
    dtype = dtype_name(x) if kind is None and x is not None else _program_dtype(kind or 1, node)
    wide = "float32" if dtype in ("bfloat16", "float16") else dtype
    if "Normal" in node.op_type:
        how = {"mean": node.attr("mean", 0.0), "std": node.attr("scale", 1.0)}
        drawn = draw("normal", shape=shape, dtype=wide, **how)
    else:
        how = {"low": node.attr("low", 0.0), "high": node.attr("high", 1.0)}
        drawn = draw("uniform", shape=shape, dtype=wide, **how)
    return drawn if wide == dtype else o.cast(drawn, dtype=dtype)


@onnx_op("Bernoulli")
def bernoulli(node: Node, p: Any) -> Any:
    kind = node.attr("dtype")
    dtype = dtype_name(p) if kind is None else _program_dtype(kind, node)
    drawn = draw("uniform", shape=sizes_of(p), dtype="float32")
    return o.cast(o.less(drawn, o.cast(p, dtype="float32")), dtype=dtype)


@onnx_op("Multinomial")
def multinomial(node: Node, x: Any) -> Any:
    """Classes drawn from unnormalised log probabilities: the largest of each plus Gumbel noise."""
    rows, classes = sizes_of(x)
    count = node.attr("sample_size", 1)
    u = draw("uniform", shape=(rows, count, classes), dtype="float32", low=1e-37, high=1.0)
    noise = o.neg(o.log(o.neg(o.log(u))))
    picked = o.argmax(o.add(o.unsqueeze(o.cast(x, dtype="float32"), axis=1), noise), axis=2)
    return o.cast(picked, dtype=_program_dtype(node.attr("dtype", 6), node))


def draw(name: str, **how: Any) -> Any:
    """Random numbers of the Program being built: "uniform", "normal" or "bernoulli"."""
    return getattr(random_ops, name)(**how)
