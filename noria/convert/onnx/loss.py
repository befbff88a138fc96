"""Losses of ONNX: those of `criterion.py`, with classes on axis 1."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.ir.opdef import vocabulary as o
from noria.ops.criterion import cross_entropy, nll_loss


@onnx_op("NegativeLogLikelihoodLoss")
def negative_log_likelihood(node: Node, x: Any, target: Any, weight: Any = None) -> Any:
    return nll_loss(x, target, weight=weight, **_how(node))


@onnx_op("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(node: Node, scores: Any, labels: Any, weight: Any = None) -> Any:
    loss = cross_entropy(scores, labels, weight=weight, **_how(node))
    return (loss, o.log_softmax(scores, axis=1)) if node.wants(1) else loss


def _how(node: Node) -> dict[str, Any]:
    return {
        "axis": 1,
        "reduction": node.attr("reduction", "mean"),
        "ignore_index": node.attr("ignore_index"),
    }
