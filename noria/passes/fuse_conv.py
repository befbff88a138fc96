"""A convolution, its bias, a residual and an activation as one operator."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ops import activation, conv, elementwise  # noqa: F401 - the ops of the patterns
from noria.ops.fused import ACTIVATIONS
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


def _biased(n: int) -> Rule:
    conv_op = f"conv{n}d"

    def pattern(x: Any, w: Any, b: Any, *, stride: Any, padding: Any, dilation: Any, groups: Any):  # type: ignore[no-untyped-def]
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return o.add(lookup(conv_op)(x, w, **how), b)

    def replacement(  # type: ignore[no-untyped-def]
        x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: Any
    ):
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return lookup(conv_op)(x, w, o.reshape(b, shape=(w.shape[0],)), **how)

    return Rule(pattern, _one_per_channel, replacement, f"{conv_op} + bias")
