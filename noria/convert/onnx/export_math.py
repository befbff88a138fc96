"""Elementwise ops, activations and products as ONNX."""

from __future__ import annotations

import math
from typing import Any

from noria.convert.onnx.export_graph import Graph, element_type, emitter
from noria.core.dtypes import is_float
from noria.ir.program import Operator, Value

# ---- ops that ONNX has under another name --------------------------------------------------------

SAME = {
    "abs": "Abs", "add": "Add", "ceil": "Ceil", "cos": "Cos", "equal": "Equal", "erf": "Erf",
    "exp": "Exp", "floor": "Floor", "hard_swish": "HardSwish", "log": "Log",
    "logical_and": "And", "logical_not": "Not",
    "logical_or": "Or", "logical_xor": "Xor", "maximum": "Max", "minimum": "Min", "mish": "Mish",
    "mul": "Mul", "neg": "Neg", "pow": "Pow", "reciprocal": "Reciprocal", "relu": "Relu",
    "round": "Round", "sigmoid": "Sigmoid", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt",
    "sub": "Sub", "tanh": "Tanh",
    "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "bitwise_and": "BitwiseAnd", "bitwise_not": "BitwiseNot", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "det": "Det",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "softsign": "Softsign",
}  # fmt: skip


def _plain(op_type: str) -> Any:
    def write(g: Graph, op: Operator, *inputs: str) -> str:
        return g.node(op_type, *inputs)

    return write


for _name, _op_type in SAME.items():
    emitter(_name)(_plain(_op_type))


@emitter("identity", "stop_gradient", "later")
def identity(g: Graph, op: Operator, x: str, *after: str) -> str:
    return x


@emitter("cast")
def cast(g: Graph, op: Operator, x: str) -> str:
    return g.node("Cast", x, to=element_type(op.attrs["dtype"]))


# ---- arithmetic ----------------------------------------------------------------------------------


@emitter("square")
def square(g: Graph, op: Operator, x: str) -> str:
    return g.node("Mul", x, x)


@emitter("rsqrt")
def rsqrt(g: Graph, op: Operator, x: str) -> str:
    return g.node("Reciprocal", g.node("Sqrt", x))


@emitter("div")
def div(g: Graph, op: Operator, x: str, y: str) -> str:
    if not is_float(op.operands[0].dtype):
        x, y = (g.node("Cast", v, to=element_type("float32")) for v in (x, y))
    return g.node("Div", x, y)


@emitter("remainder")
def remainder(g: Graph, op: Operator, x: str, y: str) -> str:
    value = op.operands[1]
    if is_float(value.dtype):
        return g.node("Sub", x, g.node("Mul", g.node("Floor", g.node("Div", x, y)), y))
    zero, divisor = _guarded(g, value, y)
    return g.node("Where", zero, g.like(0, value), g.node("Mod", x, divisor))


@emitter("fmod")
def fmod(g: Graph, op: Operator, x: str, y: str) -> str:
    value = op.operands[1]
    if is_float(value.dtype):
        return g.node("Mod", x, y, fmod=1)
    zero, divisor = _guarded(g, value, y)
    return g.node("Where", zero, g.like(0, value), g.node("Mod", x, divisor, fmod=1))


@emitter("floor_divide")
def floor_divide(g: Graph, op: Operator, x: str, y: str) -> str:
    value = op.operands[1]
    if is_float(value.dtype):
        return g.node("Floor", g.node("Div", x, y))
    zero, divisor = _guarded(g, value, y)
    whole = g.node("Sub", x, g.node("Mod", x, divisor))
    return g.node("Where", zero, g.like(0, value), g.node("Div", whole, divisor))


def _guarded(g: Graph, value: Value, y: str) -> tuple[str, str]:
    """(where an integer is zero, the integer with one there): dividing by zero gives zero."""
    zero = g.node("Equal", y, g.like(0, value))
    return zero, g.node("Where", zero, g.like(1, value), y)


@emitter("expm1")
def expm1(g: Graph, op: Operator, x: str) -> str:
    """tanh(x / 2) * (exp(x) + 1): no digits are lost near zero."""
    half = g.node("Tanh", g.node("Mul", x, g.like(0.5, op.operands[0])))
    return g.node("Mul", half, g.node("Add", g.node("Exp", x), g.like(1, op.operands[0])))


@emitter("log1p")
def log1p(g: Graph, op: Operator, x: str) -> str:
    """log(u) * x / (u - 1) with u = 1 + x, whose rounding cancels.  (Kahan)"""
    one = g.like(1, op.operands[0])
    u = g.node("Add", x, one)
    log, rest = g.node("Log", u), g.node("Sub", u, one)
    exact = g.node("Mul", log, g.node("Div", x, rest))
    plain = g.node(
        "Or", _infinite(g, u, op.operands[0]), g.node("Equal", u, g.like(0, op.operands[0]))
    )
    return g.node("Where", g.node("Equal", u, one), x, g.node("Where", plain, log, exact))


@emitter("clip")
def clip(g: Graph, op: Operator, x: str) -> str:
    ends = (op.attrs["low"], op.attrs["high"])
    return g.node("Clip", x, *(None if e is None else g.like(e, op.operands[0]) for e in ends))


@emitter("where")
def where(g: Graph, op: Operator, cond: str, x: str, y: str) -> str:
    if op.outputs[0].dtype != "bool":
        return g.node("Where", cond, x, y)
    chosen = g.node("And", cond, x)  # runtimes choose among numbers only
    return g.node("Or", chosen, g.node("And", g.node("Not", cond), y))


# ---- comparisons ---------------------------------------------------------------------------------

ORDERS = {
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less",
    "less_equal": "LessOrEqual",
}  # fmt: skip


def _order(op_type: str) -> Any:
    def write(g: Graph, op: Operator, *inputs: str) -> str:
        return g.node(op_type, *(as_number(g, v, op.operands[0]) for v in inputs))

    return write


for _name, _op_type in ORDERS.items():
    emitter(_name)(_order(_op_type))


def as_number(g: Graph, x: str, value: Value) -> str:
    """Booleans as integers, which have an order."""
    return g.node("Cast", x, to=element_type("int32")) if value.dtype == "bool" else x


@emitter("not_equal")
def not_equal(g: Graph, op: Operator, x: str, y: str) -> str:
    return g.node("Not", g.node("Equal", x, y))


@emitter("isinf")
def isinf(g: Graph, op: Operator, x: str) -> str:
    value = op.operands[0]
    if not is_float(value.dtype):
        return g.node("Not", g.node("Equal", x, x))
    return _infinite(g, x, value)


def _infinite(g: Graph, x: str, value: Value) -> str:
    if value.dtype in ("float16", "bfloat16"):
        x = g.node("Cast", x, to=element_type("float32"))
    return g.node("IsInf", x)


@emitter("isnan")
def isnan(g: Graph, op: Operator, x: str) -> str:
    return g.node("Not", g.node("Equal", x, x))  # only a NaN is not equal to itself


@emitter("isfinite")
def isfinite(g: Graph, op: Operator, x: str) -> str:
    same = g.node("Equal", x, x)
    if not is_float(op.operands[0].dtype):
        return same
    return g.node("And", same, g.node("Not", _infinite(g, x, op.operands[0])))


# ---- activations ---------------------------------------------------------------------------------


@emitter("silu")
def silu(g: Graph, op: Operator, x: str) -> str:
    return g.node("Mul", x, g.node("Sigmoid", x))


@emitter("elu")
def elu(g: Graph, op: Operator, x: str) -> str:
    return g.node("Elu", x, alpha=float(op.attrs["alpha"]))


@emitter("leaky_relu")
def leaky_relu(g: Graph, op: Operator, x: str) -> str:
    return g.node("LeakyRelu", x, alpha=float(op.attrs["negative_slope"]))


@emitter("prelu")
def prelu(g: Graph, op: Operator, x: str, weight: str) -> str:
    further = op.operands[0].ndim - 2
    if further > 0 and op.operands[1].shape[0] != 1:
        weight = g.node("Unsqueeze", weight, g.ints(*range(1, 1 + further)))
    return g.node("PRelu", x, weight)


@emitter("hard_sigmoid")
def hard_sigmoid(g: Graph, op: Operator, x: str) -> str:
    return g.node("HardSigmoid", x, alpha=float(op.attrs["slope"]), beta=float(op.attrs["offset"]))


@emitter("softplus")
def softplus(g: Graph, op: Operator, x: str) -> str:
    value, beta, threshold = op.operands[0], op.attrs["beta"], op.attrs["threshold"]
    scaled = x if beta == 1 else g.node("Mul", x, g.like(beta, value))
    out = g.node("Softplus", scaled)
    out = out if beta == 1 else g.node("Div", out, g.like(beta, value))
    if threshold >= 20 and value.dtype != "float64":
        return out  # beyond it both are the same number
    return g.node("Where", g.node("Greater", scaled, g.like(threshold, value)), x, out)


@emitter("gelu", since=20)
def gelu_20(g: Graph, op: Operator, x: str) -> str:
    return g.node("Gelu", x, approximate=op.attrs["approximate"])


@emitter("gelu")
def gelu(g: Graph, op: Operator, x: str) -> str:
    value = op.operands[0]
    half = g.node("Mul", x, g.like(0.5, value))
    if op.attrs["approximate"] == "tanh":
        cube = g.node("Mul", g.node("Mul", g.node("Mul", x, x), x), g.like(0.044715, value))
        inner = g.node("Mul", g.node("Add", x, cube), g.like(math.sqrt(2 / math.pi), value))
        bent = g.node("Tanh", inner)
    else:
        bent = g.node("Erf", g.node("Mul", x, g.like(math.sqrt(0.5), value)))
    return g.node("Mul", half, g.node("Add", bent, g.like(1, value)))


@emitter("softmax")
def softmax(g: Graph, op: Operator, x: str) -> str:
    return g.node("Softmax", x, axis=op.attrs["axis"])


@emitter("log_softmax")
def log_softmax(g: Graph, op: Operator, x: str) -> str:
    return g.node("LogSoftmax", x, axis=op.attrs["axis"])


# ---- products ------------------------------------------------------------------------------------


@emitter("matmul")
def matmul(g: Graph, op: Operator, x: str, y: str) -> str:
    a, b = op.operands
    out = op.outputs[0].dtype
    if out != a.dtype:
        x, y = (g.node("Cast", v, to=element_type(out)) for v in (x, y))
    # A vector beside a transposed matrix is written as a matrix: onnxruntime 1.31 joins the
    # Transpose and the MatMul to one operator that takes no vectors.
    lone = b.ndim == 1 and op.attrs["transpose_x"], a.ndim == 1 and op.attrs["transpose_y"]
    x = g.node("Unsqueeze", x, g.ints(0)) if lone[1] else x
    y = g.node("Unsqueeze", y, g.ints(1)) if lone[0] else y
    x = _swapped(g, x, a.ndim) if op.attrs["transpose_x"] else x
    y = _swapped(g, y, b.ndim) if op.attrs["transpose_y"] else y
    product = g.node("MatMul", x, y)
    return g.node("Squeeze", product, g.ints(-1 if lone[0] else -2)) if any(lone) else product


def _swapped(g: Graph, x: str, ndim: int) -> str:
    """The last two axes exchanged."""
    return g.node("Transpose", x, perm=(*range(ndim - 2), ndim - 1, ndim - 2))


@emitter("linear")
def linear(g: Graph, op: Operator, x: str, weight: str, bias: str | None = None) -> Any:
    if len({v.dtype for v in (*op.operands, op.outputs[0])}) > 1:
        return None
    if op.operands[0].ndim == 2:
        return g.node("Gemm", x, weight, bias, transB=1)
    out = g.node("MatMul", x, _swapped(g, weight, 2))
    return out if bias is None else g.node("Add", out, bias)
