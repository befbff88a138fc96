"""A matrix product, its bias, what is added to it and its activation as one operator."""

from __future__ import annotations

from typing import Any

from noria.core.dtypes import is_float
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ops.fused import ACTIVATIONS
from noria.passes.rule import Match, Rule, rewrite


def fuse_linear(program: Program) -> Program:
    """matmul with a weight, + bias, + residual, and activation become `linear` or `fused_linear`.

    It runs after gradients: where the backward pass needs what is between, nothing is fused.
    (That of relu, sigmoid and tanh needs only their outputs.)

    Given:
        program p {
          input x: float32[N, 3]
          state w: float32[5, 3] = fill(value=0.0) trainable
          state b: float32[5] = fill(value=0.0) trainable
          matmul: float32[N, 5] = matmul(x, w, transpose_y=true)
          add: float32[N, 5] = add(matmul, b)
          relu: float32[N, 5] = relu(add)
          output y = relu
        }
    Result:
        program p {
          input x: float32[N, 3]
          state w: float32[5, 3] = fill(value=0.0) trainable
          state b: float32[5] = fill(value=0.0) trainable
          fused_linear: float32[N, 5] = fused_linear(x, w, b, activation="relu")
          output y = fused_linear
        }
    """
    return rewrite(program, RULES, "fuse_linear")


# ---- checks ------------------------------------------------------------------------------------


def _weight(m: Match) -> str | None:
    """w is one matrix of floats."""
    if not is_float(m["w"].dtype):
        return f"{m['w'].name} is {m['w'].dtype}, not a float"
    return None if m["w"].ndim == 2 else f"{m['w'].name} is not a matrix"


def _bias(m: Match, size: Any) -> str | None:
    """b is a vector with one element for each output."""
    b = m["b"]
    if b.ndim != 1 or b.shape[0] != size:
        return f"{b.name} is not a vector of {size} elements"
    return None


def _weight_and_bias(m: Match) -> str | None:
    return _weight(m) or _bias(m, m["w"].shape[0])


def _columns_and_bias(m: Match) -> str | None:
    if not m.is_fixed("w"):
        return f"{m['w'].name} changes, so it would have to be transposed at each step"
    return _weight(m) or _bias(m, m["w"].shape[1])


def _same_shape(m: Match) -> str | None:
    r, out = m["r"], m.operator.outputs[0]
    if not is_float(out.dtype) or r.dtype != out.dtype:
        return f"{r.name} is {r.dtype}"
    return None if r.shape == out.shape else f"{r.name} is broadcast"


# ---- rules -------------------------------------------------------------------------------------


def _product(x: Any, w: Any) -> Any:
    return o.matmul(x, w, transpose_y=True)


def _activate(name: str, x: Any) -> Any:
    kind, attrs = ACTIVATIONS[name]
    return lookup(kind)(x, **attrs)


def _after_product(name: str) -> Rule:
    return Rule(
        lambda x, w: _activate(name, _product(x, w)),
        _weight,
        lambda x, w: o.fused_linear(x, w, activation=name),
        f"{name} of a product",
    )


def _after_linear(name: str) -> Rule:
    return Rule(
        lambda x, w, b=None: _activate(name, o.linear(x, w, b)),
        None,
        lambda x, w, b: o.fused_linear(x, w, b, activation=name),
        f"{name} of linear",
    )


def _after_residual(name: str) -> Rule:
    return Rule(
        lambda x, w, r, b=None: _activate(name, o.fused_linear(x, w, b, r)),
        None,
        lambda x, w, b, r: o.fused_linear(x, w, b, r, activation=name),
        f"{name} of linear + residual",
    )


RULES = [
    Rule(
        lambda x, w, b: o.add(_product(x, w), b),
        _weight_and_bias,
        lambda x, w, b: o.linear(x, w, b),
        "product + bias",
    ),
    Rule(
        lambda x, w, b: o.add(o.matmul(x, w), b),
        _columns_and_bias,
        lambda x, w, b: o.linear(x, o.transpose(w, perm=(1, 0)), b),
        "product of columns + bias",
    ),
    Rule(
        lambda x, w, b: o.add(o.linear(x, w), b),
        _weight_and_bias,
        lambda x, w, b: o.linear(x, w, b),
        "linear + bias",
    ),
    Rule(
        lambda x, w, r, b=None: o.add(o.linear(x, w, b), r),
        _same_shape,
        lambda x, w, b, r: o.fused_linear(x, w, b, r),
        "linear + residual",
    ),
    *(_after_residual(name) for name in ACTIVATIONS),
    *(_after_product(name) for name in ACTIVATIONS),
    *(_after_linear(name) for name in ACTIVATIONS),
]
