"""Batch norm with given statistics goes into the weights of the product before it."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.passes.pattern import ANY
from noria.passes.rule import Match, Rule, rewrite


def fold_batch_norm(program: Program) -> Program:
    """A convolution or `linear` followed by batch_norm(training=False) gets scaled weights.

    The new weights depend on state that no step changes, so they are computed once. Only a Program
    in its test form has such a batch norm; with weights in half precision nothing is folded, since
    scaled weights would be rounded again.

    Given:
        program p {
          input x: float32[N, 2, 5, 5]
          state w: float32[3, 2, 3, 3] = fill(value=0.0)
          state scale: float32[3] = fill(value=1.0)
          state bias: float32[3] = fill(value=0.0)
          state mean: float32[3] = fill(value=0.0)
          state var: float32[3] = fill(value=1.0)
          conv2d: float32[N, 3, 3, 3] = conv2d(x, w)
          batch_norm: float32[N, 3, 3, 3] = batch_norm(conv2d, scale, bias, mean, var)
          output y = batch_norm
        }
    Result:
        program p {
          input x: float32[N, 2, 5, 5]
          state w: float32[3, 2, 3, 3] = fill(value=0.0)
          state scale: float32[3] = fill(value=1.0)
          state bias: float32[3] = fill(value=0.0)
          state mean: float32[3] = fill(value=0.0)
          state var: float32[3] = fill(value=1.0)
          fill: float32[] = fill(shape=(), value=1e-05)
          add: float32[3] = add(var, fill)
          rsqrt: float32[3] = rsqrt(add)
          factor: float32[3] = mul(scale, rsqrt)
          reshape: float32[3, 1, 1, 1] = reshape(factor, shape=(3, 1, 1, 1))
          weight: float32[3, 2, 3, 3] = mul(w, reshape)
          mul: float32[3] = mul(mean, factor)
          shift: float32[3] = sub(bias, mul)
          conv2d: float32[N, 3, 3, 3] = conv2d(x, weight, shift)
          output y = conv2d
        }
    """
    return rewrite(program, RULES, "fold_batch_norm")


def _constant_weights(m: Match) -> str | None:
    for name in ("w", "b", "scale", "bias", "mean", "var"):
        value = m[name]
        if value is None:
            continue
        if not m.is_fixed(name):
            return f"{value.name} may change at each step"
        if value.dtype not in ("float32", "float64"):
            return f"{value.name} is {value.dtype}, and would be rounded again"
    return None


def _constant_weights_and_rows(m: Match) -> str | None:
    if m["x"].ndim != 2:
        return "axis 1 is not that of the outputs of linear"
    return _constant_weights(m)


def _folded(kind: str) -> Rule:
    how = (
        {} if kind == "linear" else dict.fromkeys(("stride", "padding", "dilation", "groups"), ANY)
    )

    def pattern(
        x: Any, w: Any, scale: Any, bias: Any, mean: Any, var: Any, b: Any = None, *, epsilon: Any
    ) -> Any:
        product = lookup(kind)(x, w, b, **how)
        return o.batch_norm(product, scale, bias, mean, var, momentum=ANY, epsilon=epsilon)

    def replacement(
        x: Any,
        w: Any,
        b: Any,
        scale: Any,
        bias: Any,
        mean: Any,
        var: Any,
        epsilon: Any,
        match: Match,
    ) -> Any:
        factor = o.mul(scale, o.rsqrt(o.add(var, epsilon)))
        weight = o.mul(w, o.reshape(factor, shape=(w.shape[0], *(1,) * (w.ndim - 1))))
        shift = o.sub(bias, o.mul(mean if b is None else o.sub(mean, b), factor))
        return lookup(kind)(x, weight, shift, **match.of(kind).attrs)

    check = _constant_weights_and_rows if kind == "linear" else _constant_weights
    return Rule(pattern, check, replacement, f"batch_norm of {kind}")


RULES = [_folded(kind) for kind in ("conv1d", "conv2d", "conv3d", "linear")]
