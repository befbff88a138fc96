"""Scalar mathematics of generated kernels: one name for every type, chosen by the argument.

float32 takes the branch-free polynomials of `math_float32`; float64 calls the C library, because
there accuracy is wanted rather than speed. Where NumPy has the name the meaning is NumPy's:
`maximum` and `minimum` hand NaN on, `fmax` and `fmin` ignore it, `rint` rounds to even, `sign(NaN)`
is NaN. The functions below write LLVM instructions; `NAMESPACE` has them as kernels call them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba.core import types

from noria.kernels.numba import expr, math_float32
from noria.kernels.numba.expr import F32, Value, absolute, call, external, select
from noria.kernels.numba.intrinsics import Emit, define


def _per_width(name: str) -> Callable[..., Value]:
    """The function of that name in `math_float32` for float32, of the C library for float64."""
    narrow = getattr(math_float32, name)
    return lambda *args: (narrow if args[0].type == F32 else _library(name))(*args)


def _library(name: str) -> Callable[..., Value]:
    """The C library's function, one call for each element: exact, and slow in a loop."""
    return lambda *args: external(name + "f" if args[0].type == F32 else name, *args)


def _native(name: str) -> Callable[..., Value]:
    """An LLVM intrinsic that is one instruction, or few, on the CPUs noria runs on."""
    return lambda *args: call(name, *args)


exp, exp2, expm1, log, log1p = map(_per_width, ("exp", "exp2", "expm1", "log", "log1p"))
tanh, erf, sin, cos, pow = map(_per_width, ("tanh", "erf", "sin", "cos", "pow"))
sqrt = _native("llvm.sqrt")


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)), relatively exact down to the denormals."""
    e = exp(-absolute(x))
    y = 1.0 / (e + 1.0)
    return select(x < 0.0, e * y, y)


def gate(x: Value) -> Value:
    """The sigmoid as recurrent layers take it: never below 1e-38."""
    return math_float32.gate(x) if x.type == F32 else sigmoid(x)


def silu(x: Value) -> Value:
    return x * sigmoid(x)


def softplus(x: Value) -> Value:
    """log(1 + exp(x)) without overflow."""
    return select(x < 0.0, x.like(0.0), x) + log1p(exp(-absolute(x)))


def gelu(x: Value) -> Value:
    """x Phi(x), Phi the normal distribution (Hendrycks and Gimpel, 2016)."""
    if x.type == F32:
        return math_float32.gelu(x)
    return x * 0.5 * (erf(x * math.sqrt(0.5)) + 1.0)


def gelu_tanh(x: Value) -> Value:
    """The tanh form of GELU: (1 + tanh u) / 2 is sigmoid(2u)."""
    u = expr.fma(x * x * x, 0.044715, x) * (2.0 * math.sqrt(2.0 / math.pi))
    return x * sigmoid(u)


def rsqrt(x: Value) -> Value:
    return 1.0 / sqrt(x)


def reciprocal(x: Value) -> Value:
    return 1.0 / x


def log2(x: Value) -> Value:
    return log(x) * math.log2(math.e) if x.type == F32 else external("log2", x)


def log10(x: Value) -> Value:
    return log(x) * math.log10(math.e) if x.type == F32 else external("log10", x)


def tan(x: Value) -> Value:
    return sin(x) / cos(x) if x.type == F32 else external("tan", x)


def sign(x: Value) -> Value:
    return select(x > 0.0, 1.0, select(x < 0.0, -1.0, x))


def isnan(x: Value) -> Value:
    return x.is_nan()


def isinf(x: Value) -> Value:
    return absolute(x).equals(math.inf)


def isfinite(x: Value) -> Value:
    return absolute(x) < math.inf


_UNARY: dict[str, Callable[..., Value]] = {
    "exp": exp,
    "exp2": exp2,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "log2": log2,
    "log10": log10,
    "tanh": tanh,
    "erf": erf,
    "sin": sin,
    "cos": cos,
    "tan": tan,
    "sqrt": sqrt,
    "rsqrt": rsqrt,
    "reciprocal": reciprocal,
    "sigmoid": sigmoid,
    "gate": gate,
    "silu": silu,
    "softplus": softplus,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "sign": sign,
    "absolute": absolute,
    **{name: _native(f"llvm.{name}") for name in ("floor", "ceil", "trunc", "rint")},
    **{name: _library(name) for name in ("asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh")},
    **{name: _library(name) for name in ("atanh", "cbrt", "erfc")},
}
_BINARY: dict[str, Callable[..., Value]] = {
    "pow": pow,
    "copysign": expr.copysign,
    "maximum": _native("llvm.maximum"),
    "minimum": _native("llvm.minimum"),
    "fmax": _native("llvm.maxnum"),
    "fmin": _native("llvm.minnum"),
    "atan2": _library("atan2"),
    "fmod": _library("fmod"),
}


def _signed_sign(x: Value) -> Value:
    return select(x > 0, 1, select(x < 0, -1, x))


# The same names on integers: (signed, unsigned).
_INTEGER: dict[str, tuple[Callable[..., Value], Callable[..., Value]]] = {
    "maximum": (_native("llvm.smax"), _native("llvm.umax")),
    "minimum": (_native("llvm.smin"), _native("llvm.umin")),
    "absolute": (lambda x: select(x < 0, 0 - x, x), lambda x: x),
    "sign": (_signed_sign, lambda x: select(x.equals(0), x, 1)),
}


def _widest(*given: types.Type) -> Any:
    """What the arguments are converted to: the widest float, else the widest integer.

    A literal adapts to the others. None if one is neither float nor integer.
    """
    if not all(isinstance(t, (types.Float, types.Integer)) for t in given):
        return None
    plain = [t for t in given if not isinstance(t, types.Literal)]
    plain = plain or [types.unliteral(t) for t in given]
    floats = [t for t in plain if isinstance(t, types.Float)]
    return max(floats or plain, key=lambda t: (t.bitwidth, getattr(t, "signed", True)))


def _emitter(write: Callable[..., Value]) -> Emit:
    return lambda builder, args: write(*(Value(builder, a) for a in args)).raw


def _function(name: str, arity: int, write: Callable[..., Value], result: Any = None) -> Any:
    """`write` for floats, with its integer version where there is one."""

    def resolve(*given: types.Type) -> Any:
        kind = _widest(*given)
        if isinstance(kind, types.Float):
            return result or kind, [kind] * arity, _emitter(write)
        if isinstance(kind, types.Integer) and name in _INTEGER:
            signed, unsigned = _INTEGER[name]
            return (
                kind,
                [kind] * arity,
                _emitter(unsigned if kind in types.unsigned_domain else signed),
            )
        return None

    return define(name, arity, resolve)


def _where() -> Any:
    """where(condition, yes, no): both sides are computed, no branch is taken."""

    def resolve(condition: types.Type, *given: types.Type) -> Any:
        both_bool = all(isinstance(t, types.Boolean) for t in given)
        kind = types.boolean if both_bool else _widest(*given)
        return kind and (kind, [types.boolean, kind, kind], _emitter(select))

    return define("where", 3, resolve)


def _reinterpret() -> dict[str, Any]:
    """bits(x): a float's pattern as an integer of its width; from_bits(i): the way back."""
    pairs = {"bits": {}, "from_bits": {}}  # type: dict[str, dict[Any, Any]]
    for real, whole in ((types.float32, types.int32), (types.float64, types.int64)):
        pairs["bits"][real] = whole, [real], _emitter(expr.bits)
        pairs["from_bits"][whole] = real, [whole], _emitter(expr.as_float)
    return {name: define(name, 1, table.get) for name, table in pairs.items()}


NAMESPACE: dict[str, Any] = {
    **{name: _function(name, 1, write) for name, write in _UNARY.items()},
    **{name: _function(name, 2, write) for name, write in _BINARY.items()},
    **{f.__name__: _function(f.__name__, 1, f, types.boolean) for f in (isnan, isinf, isfinite)},
    **_reinterpret(),
    "fma": _function("fma", 3, expr.fma),
    "where": _where(),
}
_BUILTINS = {"abs": "absolute", "min": "minimum", "max": "maximum", "round": "rint"}
NAMESPACE |= {python: NAMESPACE[ours] for python, ours in _BUILTINS.items()}
