"""Optimiser steps of ONNX (ai.onnx.preview.training): several tensors at once."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import cast_like

_TRAINING = "ai.onnx.preview.training"


def _grouped(values: tuple[Any, ...], kinds: int) -> list[tuple[Any, ...]]:
    """X1 .. Xn, G1 .. Gn, ... as (X1, G1, ...) .. (Xn, Gn, ...)."""
    n = len(values) // kinds
    return [values[i::n] for i in range(n)]


def _results(steps: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """(X1, V1), (X2, V2) as X1, X2, V1, V2."""
    return tuple(v for kind in zip(*steps, strict=True) for v in kind)


def _pulled(node: Node, x: Any, g: Any) -> Any:
    """The gradient with that of the squared length of x."""
    return o.add(g, o.mul(x, node.attr("norm_coefficient", 0.0)))


def _first(count: Any, at_first: Any, later: Any) -> Any:
    return o.where(o.greater(count, 0), later, at_first)


@onnx_op("Momentum", domain=_TRAINING)
def momentum(node: Node, rate: Any, count: Any, *values: Any) -> Any:
    alpha, beta = node.need("alpha"), node.need("beta")

    def step(x: Any, g: Any, v: Any) -> tuple[Any, Any]:
        g = _pulled(node, x, g)
        v = o.add(o.mul(v, alpha), o.mul(g, _first(count, 1.0, beta)))
        direction = o.add(g, o.mul(v, alpha)) if node.attr("mode") == "nesterov" else v
        return o.sub(x, o.mul(direction, cast_like(rate, x))), v

    return _results([step(*group) for group in _grouped(values, 3)])


@onnx_op("Adagrad", domain=_TRAINING)
def adagrad(node: Node, rate: Any, count: Any, *values: Any) -> Any:
    waned = o.add(o.mul(cast_like(count, rate), node.attr("decay_factor", 0.0)), 1.0)
    rate = o.div(rate, waned)

    def step(x: Any, g: Any, h: Any) -> tuple[Any, Any]:
        g = _pulled(node, x, g)
        h = o.add(h, o.square(g))
        divisor = o.add(o.sqrt(h), node.attr("epsilon", 1e-6))
        return o.sub(x, o.div(o.mul(g, cast_like(rate, x)), divisor)), h

    return _results([step(*group) for group in _grouped(values, 3)])


@onnx_op("Adam", domain=_TRAINING)
def adam(node: Node, rate: Any, count: Any, *values: Any) -> Any:
    alpha, beta = node.attr("alpha", 0.9), node.attr("beta", 0.999)
    t = cast_like(count, rate)
    fixed = o.div(o.sqrt(o.sub(1.0, o.pow(beta, t))), o.sub(1.0, o.pow(alpha, t)))
    rate = _first(count, rate, o.mul(rate, fixed))

    def step(x: Any, g: Any, v: Any, h: Any) -> tuple[Any, Any, Any]:
        g = _pulled(node, x, g)
        v = o.add(o.mul(v, alpha), o.mul(g, 1.0 - alpha))
        h = o.add(o.mul(h, beta), o.mul(o.square(g), 1.0 - beta))
        divisor = o.add(o.sqrt(h), node.attr("epsilon", 1e-6))
        x = o.sub(x, o.div(o.mul(v, cast_like(rate, x)), divisor))
        return o.mul(x, 1.0 - node.attr("norm_coefficient_post", 0.0)), v, h

    return _results([step(*group) for group in _grouped(values, 4)])
