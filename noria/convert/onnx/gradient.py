"""The Gradient operator of ai.onnx.preview.training: noria's own differentiation, in the model."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.errors import FormatError
from noria.grad import gradients
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value


@onnx_op("Gradient", domain="ai.onnx.preview.training")
def gradient(node: Node, *given: Any) -> Any:
    """Of the sum of y with respect to each of xs, at the place where y was computed.

    Raises FormatError where other values than those y was computed from are given for it.
    """
    names = (*node.need("xs"), *node.attr("zs", ()))
    if tuple(node.inputs) != names:
        raise FormatError(
            "gradients are taken where the model computes y",
            where=str(node),
            expected=", ".join(names),
            got=", ".join(node.inputs),
        )
    wanted = [node.value(v) for v in given[: len(node.need("xs"))]]
    y = node.named(node.need("y"))
    if not isinstance(y, Value):  # nothing leads from an input to it
        return tuple(_zeros(v) for v in wanted)
    found = gradients(y, wanted)
    return tuple(_zeros(v) if g is None else g for v, g in zip(wanted, found, strict=True))


def _zeros(value: Value) -> Any:
    return o.fill(shape=value.shape, value=0.0, dtype=value.dtype)
