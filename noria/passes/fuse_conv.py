"""A convolution, its bias, a residual and an activation as one operator."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ops.fused import ACTIVATIONS
from noria.passes.pattern import ANY
from noria.passes.rule import Match, Rule, rewrite


def fuse_conv(program: Program) -> Program:
    """conv2d + residual and an activation become `fused_conv2d`; an added bias becomes its bias.

    A residual is added in the kernel, to the sums it holds; it must have the shape of the output.
    (He et al., 2016, is where such networks come from.)

    Given:
        program p {
          input x: float32[N, 3, 8, 8]
          input r: float32[N, 4, 6, 6]
          state w: float32[4, 3, 3, 3] = fill(value=0.0) trainable
          state b: float32[4, 1, 1] = fill(value=0.0) trainable
          conv2d: float32[N, 4, 6, 6] = conv2d(x, w)
          add: float32[N, 4, 6, 6] = add(conv2d, b)
          add_1: float32[N, 4, 6, 6] = add(r, add)
          relu: float32[N, 4, 6, 6] = relu(add_1)
          output y = relu
        }
    Result:
        program p {
          input x: float32[N, 3, 8, 8]
          input r: float32[N, 4, 6, 6]
          state w: float32[4, 3, 3, 3] = fill(value=0.0) trainable
          state b: float32[4, 1, 1] = fill(value=0.0) trainable
          reshape: float32[4] = reshape(b, shape=(4,))
          fused_conv2d: float32[N, 4, 6, 6] = fused_conv2d(x, w, reshape, r, activation="relu")
          output y = fused_conv2d
        }
    """
    return rewrite(program, RULES, "fuse_conv")


def _one_per_channel(m: Match) -> str | None:
    """b is [C, 1, 1, ...], with or without a leading 1."""
    b, out = m["b"], m.operator.outputs[0]
    shape = b.shape[1:] if b.ndim == out.ndim and b.shape[0] == 1 else b.shape
    wanted = (m["w"].shape[0], *(1,) * (out.ndim - 2))
    return None if shape == wanted else f"{b.name} is not one number for each channel"


def _same_shape(m: Match) -> str | None:
    r, out = m["r"], m.operator.outputs[0]
    return None if r.shape == out.shape else f"{r.name} is broadcast"


def _conv(kind: str, *inputs: Any) -> Any:
    """A convolution with any stride, padding, dilation and groups."""
    return lookup(kind)(*inputs, stride=ANY, padding=ANY, dilation=ANY, groups=ANY)


def _biased(kind: str) -> Rule:
    def replacement(x: Any, w: Any, b: Any, match: Match) -> Any:
        flat = o.reshape(b, shape=(w.shape[0],))
        return lookup(kind)(x, w, flat, **match.of(kind).attrs)

    return Rule(
        lambda x, w, b: o.add(_conv(kind, x, w), b),
        _one_per_channel,
        replacement,
        f"{kind} + bias",
    )


def _activated(name: str, kind: str, residual: bool) -> Rule:
    """The activation of conv2d, or of what already has a residual."""
    act, how = ACTIVATIONS[name]

    def pattern(x: Any, w: Any, b: Any = None, r: Any = None) -> Any:
        return lookup(act)(_conv(kind, x, w, b, *([r] if residual else [])), **how)

    def replacement(x: Any, w: Any, b: Any, match: Match) -> Any:
        attrs = {**match.of(kind).attrs, "activation": name}
        return o.fused_conv2d(x, w, b, match.bound.get("r"), **attrs)

    return Rule(pattern, None, replacement, f"{name} of {kind}")


RULES = [
    *(_biased(f"conv{n}d") for n in (1, 2, 3)),
    Rule(
        lambda x, w, r, b=None: o.add(_conv("conv2d", x, w, b), r),
        _same_shape,
        lambda x, w, b, r, match: o.fused_conv2d(x, w, b, r, **match.of("conv2d").attrs),
        "conv2d + residual",
    ),
    *(_activated(name, "conv2d", False) for name in ACTIVATIONS),
    *(_activated(name, "fused_conv2d", True) for name in ACTIVATIONS),
]
