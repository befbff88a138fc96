"""What each elementwise op computes for one element: the `compute` of the op files on Terms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from noria.core.dtypes import itemsize
from noria.kernels.numba.term import Term, call, cast, maximum, minimum, where
from noria.ops.numeric import wide_dtype

Rule = Callable[..., Any]  # (*inputs: Term, **attributes) -> Term, or a tuple of them


def _named(name: str) -> Rule:
    """A function of `math.NAMESPACE`."""
    return lambda x: call(name, x)


# ---- arithmetic --------------------------------------------------------------------------------


def _div(x: Term, y: Term) -> Term:
    return x / y if x.is_float else cast(x, "float32") / cast(y, "float32")


def _floor_divide(x: Term, y: Term) -> Term:
    """For floats as NumPy: from the exact remainder, corrected by one where rounding erred."""
    if not x.is_float:
        return _by_nonzero(x, y, "//")
    rest = call("fmod", x, y)
    quotient = (x - rest) / y
    down = rest.differs(0.0) & ((y < 0.0) ^ (rest < 0.0))
    quotient = where(down, quotient - 1.0, quotient)
    whole = call("floor", quotient)
    whole = where(quotient - whole > 0.5, whole + 1.0, whole)
    zero = call("copysign", x.like(0.0), x / y)
    return where(y.equals(0.0), x / y, where(quotient.equals(0.0), zero, whole))


def _remainder(x: Term, y: Term) -> Term:
    if not x.is_float:
        return _by_nonzero(x, y, "%")
    rest = call("fmod", x, y)
    other_sign = (y < 0.0) ^ (rest < 0.0)
    zero = where(y.equals(0.0), rest, call("copysign", x.like(0.0), y))
    return where(rest.equals(0.0), zero, where(other_sign, rest + y, rest))


def _fmod(x: Term, y: Term) -> Term:
    if x.is_float:
        return call("fmod", x, y)
    rest = _by_nonzero(x, y, "%")
    if not x.dtype.startswith("int"):
        return rest
    other_sign = rest.differs(0) & ((x < 0) ^ (y < 0))
    return where(other_sign, rest - y, rest)


def _shift(x: Term, y: Term, how: str) -> Term:
    """A shift by a number of bits x does not have is undefined for the CPU."""
    inside = (y >= 0) & (y < 8 * itemsize(x.dtype))
    steps = where(inside, y, 0)
    shifted = x.let(f"{x.dtype}({x.text} {how} {steps.text})", None, steps)
    beyond: Term | int = 0
    if how == ">>" and x.dtype.startswith("int"):
        beyond = where(x < 0, x.like(-1), x.like(0))
    return where(inside, shifted, beyond)


def _flipped(x: Term) -> Term:
    return ~x if x.dtype == "bool" else x.let(f"{x.dtype}(~{x.text})")


def _by_nonzero(x: Term, y: Term, how: str) -> Term:
    """Integer division; by 0 it gives 0. By -1 it is a negation: the CPU's own would trap."""
    zero, special = y.equals(0), y.equals(0)
    negated = x.like(0)
    if x.dtype.startswith("int"):
        minus_one = y.equals(-1)
        special = zero | minus_one
        negated = where(minus_one, -x, 0) if how == "//" else negated
    safe = where(special, 1, y)
    plain = x.let(f"{x.dtype}({x.text} {how} {safe.text})", None, safe)
    return where(special, negated, plain)


def _sign(x: Term) -> Term:
    if not x.is_float:
        return call("sign", x)
    nonzero = where(x > 0.0, 1.0, where(x < 0.0, x.like(-1.0), x))
    return where(x.equals(0.0), 0.0, nonzero)


def _clip(x: Term, low: float | None, high: float | None) -> Term:
    if low is not None:
        x = maximum(x, x.lines.constant(low, x.dtype))
    return x if high is None else minimum(x, x.lines.constant(high, x.dtype))


def _float_test(name: str, of_whole: bool) -> Rule:
    """A test that integers and booleans always pass or always fail."""

    def rule(x: Term) -> Term:
        if x.is_float:
            return call(name, x, dtype="bool")
        return x.lines.constant(of_whole, "bool")

    return rule


# ---- activations -------------------------------------------------------------------------------


def _leaky_relu(x: Term, negative_slope: float) -> Term:
    return where(x > 0.0, x, x * negative_slope)


def _prelu(x: Term, weight: Term) -> Term:
    return where(x > 0.0, x, x * weight)


def _hard_sigmoid(x: Term, slope: float, offset: float) -> Term:
    return minimum(maximum(x * slope + offset, 0.0), 1.0)


def _elu(x: Term, alpha: float) -> Term:
    return where(x > 0.0, x, call("expm1", minimum(x, 0.0)) * alpha)


def _gelu(x: Term, approximate: str) -> Term:
    return call("gelu_tanh" if approximate == "tanh" else "gelu", x)


def _softplus(x: Term, beta: float, threshold: float) -> Term:
    scaled = x * beta
    return where(scaled > threshold, x, call("softplus", scaled) / beta)


# ---- updates -----------------------------------------------------------------------------------


def _sgd(param: Term, grad: Term, lr: Term) -> tuple[Term, ...]:
    return (param - cast(lr, param.dtype) * cast(grad, wide_dtype(param.dtype)),)


def _momentum(
    param: Term, grad: Term, velocity: Term, lr: Term, momentum: float, nesterov: bool
) -> tuple[Term, ...]:
    grad = cast(grad, wide_dtype(param.dtype))
    velocity = velocity * momentum + grad
    step = grad + velocity * momentum if nesterov else velocity
    return param - cast(lr, param.dtype) * step, velocity


def _adagrad(param: Term, grad: Term, moment: Term, lr: Term, epsilon: float) -> tuple[Term, ...]:
    grad = cast(grad, wide_dtype(param.dtype))
    moment = moment + grad * grad
    step = cast(lr, param.dtype) * grad / (call("sqrt", moment) + epsilon)
    return param - step, moment


def _adam(
    param: Term,
    grad: Term,
    m: Term,
    v: Term,
    lr: Term,
    step: Term,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[Term, ...]:
    dtype = wide_dtype(param.dtype)
    grad, lr, count = cast(grad, dtype), cast(lr, dtype), cast(step, dtype)
    m = m * beta1 + grad * (1 - beta1)
    v = v * beta2 + grad * (1 - beta2) * grad
    rate = lr / _one_minus_power(beta1, count)
    fix = call("sqrt", _one_minus_power(beta2, count))
    if weight_decay:
        param = param - lr * weight_decay * param
    return param - rate * m / (call("sqrt", v) / fix + epsilon), m, v


def _one_minus_power(beta: float, count: Term) -> Term:
    """1 - beta^count, accurate where beta is nearly 1."""
    if beta == 0:
        return count.like(1.0)
    return -call("expm1", count * math.log(beta))


def _rmsprop(
    param: Term,
    grad: Term,
    square: Term,
    mean: Term,
    velocity: Term,
    lr: Term,
    rho: float,
    epsilon: float,
    momentum: float,
    centered: bool,
) -> tuple[Term, ...]:
    grad = cast(grad, wide_dtype(param.dtype))
    square = square * rho + grad * (1 - rho) * grad
    spread = square
    if centered:
        mean = mean * rho + grad * (1 - rho)
        spread = square - mean * mean
    step = grad / (call("sqrt", spread) + epsilon)
    if momentum:
        step = velocity = velocity * momentum + step
    return param - cast(lr, param.dtype) * step, square, mean, velocity


# ---- the table ---------------------------------------------------------------------------------

_SAME_NAME = "exp expm1 log log1p sqrt rsqrt reciprocal sin cos tanh erf floor ceil sigmoid silu"
_SAME_NAME += " tan asin acos atan sinh cosh asinh acosh atanh"
RULES: dict[str, Rule] = {name: _named(name) for name in _SAME_NAME.split()} | {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": _div,
    "pow": lambda x, y: call("pow", x, y),
    "maximum": maximum,
    "minimum": minimum,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "fmod": _fmod,
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
    "bitwise_not": _flipped,
    "shift_left": lambda x, y: _shift(x, y, "<<"),
    "shift_right": lambda x, y: _shift(x, y, ">>"),
    "neg": lambda x: -x,
    "abs": _named("absolute"),
    "sign": _sign,
    "square": lambda x: x * x,
    "round": _named("rint"),
    "clip": _clip,
    "cast": cast,
    "equal": lambda x, y: x.equals(y),
    "not_equal": lambda x, y: x.differs(y),
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "logical_and": lambda x, y: x & y,
    "logical_or": lambda x, y: x | y,
    "logical_xor": lambda x, y: x ^ y,
    "logical_not": lambda x: ~x,
    "isnan": _float_test("isnan", False),
    "isinf": _float_test("isinf", False),
    "isfinite": _float_test("isfinite", True),
    "where": where,
    "relu": lambda x: maximum(x, 0),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "elu": _elu,
    "gelu": _gelu,
    "softplus": _softplus,
    "mish": lambda x: x * call("tanh", call("softplus", x)),
    "sgd_update": _sgd,
    "momentum_update": _momentum,
    "adagrad_update": _adagrad,
    "adam_update": _adam,
    "rmsprop_update": _rmsprop,
}

_HEAVY = {20: "exp expm1 log log1p tanh erf sigmoid silu elu gelu softplus mish", 4: "div sqrt"}
_HEAVY |= {40: "pow sin cos floor_divide remainder fmod", 8: "rsqrt reciprocal adagrad_update"}
_HEAVY |= {12: "adam_update rmsprop_update", 60: "tan asin acos atan sinh cosh asinh acosh atanh"}
COST = {name: cost for cost, names in _HEAVY.items() for name in names.split()}
"""Arithmetic operations an element takes; 1 for ops not named here."""
