"""Losses. Ops give one number per example; composed functions reduce them ("mean", "sum", "none")."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, need_float, need_integer, require_equal
from noria.ops.numeric import in_float32


def _check_labels(logits: Spec, labels: Spec, axis: int, soft: bool) -> int:
    need_float(logits)
    if logits.ndim == 0:
        raise ShapeError("logits need an axis of classes", got=str(logits))
    at = axis_of(axis, logits.ndim)
    if soft:
        need_float(labels)
        wanted = logits.shape
    else:
        need_integer(labels)
        wanted = (*logits.shape[:at], *logits.shape[at + 1 :])
    if labels.ndim != len(wanted):
        raise ShapeError(
            "labels do not fit the logits",
            expected=f"shape {list(wanted)}",
            got=f"logits: {logits}, labels: {labels}",
            hint="hard labels have one axis less than logits; soft=True takes distributions",
        )
    for a, b in zip(wanted, labels.shape, strict=True):
        require_equal(a, b, "the shapes of logits and labels")
    return at


def _check_classes(xp: Any, labels: Any, classes: int, ignore_index: int | None) -> None:
    if xp is np and labels.size:
        bad = (labels < 0) | (labels >= classes)
        if ignore_index is not None:
            bad &= labels != ignore_index
        if bad.any():
            raise IndexError(f"label {labels[bad].flat[0]} is not one of {classes} classes")


def _target(xp: Any, labels: Any, logits: Any, at: int, how: dict[str, Any]) -> Any:
    """The distribution the loss compares with, zero where the label is ignored."""
    classes = logits.shape[at]
    if how["soft"]:
        target = labels
    else:
        _check_classes(xp, labels, classes, how["ignore_index"])
        shape = [1] * logits.ndim
        shape[at] = classes
        spread = xp.arange(classes, dtype=labels.dtype).reshape(shape)
        target = (xp.expand_dims(labels, at) == spread).astype(logits.dtype)
    smooth = how["label_smoothing"]
    if smooth:
        target = target * (1 - smooth) + smooth / classes
    if how["ignore_index"] is not None and not how["soft"]:
        kept = xp.expand_dims(labels != how["ignore_index"], at)
        target = xp.where(kept, target, xp.zeros((), target.dtype))
    return target


@op(outputs=("out", "log_prob"))
def softmax_cross_entropy(
    logits, labels, *, axis=-1, soft=False, ignore_index=None, label_smoothing=0.0
):
    """(-sum target * log_softmax(logits), log_softmax(logits)) along `axis`.

    logits: [..., C]; labels: integers [...], or distributions [..., C] with soft=True;
    out: [...]. A label equal to ignore_index costs 0. label_smoothing mixes the target with the
    uniform distribution (Szegedy et al., 2016).
    Raises ShapeError, and IndexError when it runs on a label that is no class.
    """
    at = _check_labels(logits, labels, axis, soft)
    if not 0 <= label_smoothing < 1:
        raise ArgumentError("label_smoothing lies in [0, 1)", got=repr(label_smoothing))
    return Spec((*logits.shape[:at], *logits.shape[at + 1 :]), logits.dtype), logits


def _log_softmax(xp: Any, x: Any, at: int) -> Any:
    shifted = x - xp.max(x, axis=at, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=at, keepdims=True))


@softmax_cross_entropy.compute
@in_float32
def _(xp, logits, labels, axis, **how):
    at = axis_of(axis, logits.ndim)
    log_prob = _log_softmax(xp, logits, at)
    target = _target(xp, labels, logits, at, how)
    loss = -xp.sum(xp.where(target == 0, 0, target * log_prob), axis=at)
    return loss.astype(logits.dtype), log_prob


@softmax_cross_entropy.grad
def _(logits, labels, log_prob, g_out, g_log_prob, axis, soft, ignore_index, label_smoothing):
    how = dict(axis=axis, soft=soft, ignore_index=ignore_index, label_smoothing=label_smoothing)
    grad = None
    if g_out is not None:
        grad = o.softmax_cross_entropy_grad(log_prob, labels, g_out, **how)
    if g_log_prob is not None:
        total = o.reduce_sum(g_log_prob, axis=axis, keepdims=True)
        more = o.sub(g_log_prob, o.mul(o.exp(log_prob), total))
        grad = more if grad is None else o.add(grad, more)
    g_labels = None
    if soft and g_out is not None:
        scale = (1 - label_smoothing) * -1.0
        g_labels = o.mul(o.mul(log_prob, scale), o.unsqueeze(g_out, axis=axis))
    return grad, g_labels


@op(overwrites=((0, 0),))
def softmax_cross_entropy_grad(
    log_prob, labels, g, *, axis=-1, soft=False, ignore_index=None, label_smoothing=0.0
):
    """Gradient of `softmax_cross_entropy` in logits: (softmax * sum(target) - target) * g."""
    at = _check_labels(log_prob, labels, axis, soft)
    require_equal(g.ndim, log_prob.ndim - 1, "the ranks of g and of the loss")
    for a, b in zip((*log_prob.shape[:at], *log_prob.shape[at + 1 :]), g.shape, strict=True):
        require_equal(a, b, "the shapes of g and of the loss")
    return log_prob


@softmax_cross_entropy_grad.compute
@in_float32
def _(xp, log_prob, labels, g, axis, **how):
    at = axis_of(axis, log_prob.ndim)
    target = _target(xp, labels, log_prob, at, how)
    mass = xp.sum(target, axis=at, keepdims=True)
    return (xp.exp(log_prob) * mass - target) * xp.expand_dims(g, at)


@softmax_cross_entropy_grad.grad
def _(log_prob, labels, g, gs, axis, soft, ignore_index, label_smoothing):
    (g2,) = gs
    how = dict(axis=axis, soft=soft, ignore_index=ignore_index, label_smoothing=label_smoothing)
    ones = o.fill(shape=g.shape, value=1.0, dtype=g.dtype)
    per_g = o.softmax_cross_entropy_grad(log_prob, labels, ones, **how)
    kept = ones
    if ignore_index is not None and not soft:
        kept = o.cast(o.not_equal(labels, ignore_index), dtype=g.dtype)
    weight = o.unsqueeze(o.mul(g, kept), axis=axis)
    g_log_prob = o.mul(o.mul(g2, o.exp(log_prob)), weight)
    return g_log_prob, None, o.reduce_sum(o.mul(g2, per_g), axis=axis)
