"""Softmax and cross entropy in one: the loss of each example. `criterion.py` reduces losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, need_float, need_integer, require_equal, require_same_shape
from noria.ops.numeric import in_float32


def _check(logits: Spec, labels: Spec, axis: int, soft: bool, smoothing: float) -> Spec:
    """Spec of one loss per example. Raises for what does not fit."""
    need_float(logits)
    at = axis_of(axis, logits.ndim)
    if not 0 <= smoothing < 1:
        raise ArgumentError("label_smoothing lies in [0, 1)", got=repr(smoothing))
    losses = Spec((*logits.shape[:at], *logits.shape[at + 1 :]), logits.dtype)
    (need_float if soft else need_integer)(labels)
    wanted = logits if soft else losses
    if labels.ndim != wanted.ndim:
        raise ShapeError(
            "labels do not fit the logits",
            expected=f"shape {list(wanted.shape)}",
            got=f"logits: {logits}, labels: {labels}",
            hint="hard labels have one axis less than logits; soft=True takes distributions",
        )
    for size, label_size in zip(wanted.shape, labels.shape, strict=True):
        require_equal(size, label_size, "the shapes of logits and labels")
    return losses


def _target(
    xp: Any, labels: Any, logits: Any, axis: int, soft: bool, ignore: int | None, smooth: float
) -> Any:
    """The distribution the loss compares with; zeros where the label is ignored."""
    at, dtype = axis_of(axis, logits.ndim), logits.dtype
    classes = logits.shape[at]
    kept = None
    if soft:
        target = labels.astype(dtype)
    else:
        if ignore is not None:
            kept = labels != ignore
        _check_classes(xp, labels, kept, classes)
        places = xp.arange(classes).reshape((classes, *(1,) * (logits.ndim - at - 1)))
        target = (xp.expand_dims(labels, at) == places).astype(dtype)
    if smooth:
        target = target * (1 - smooth) + smooth / classes
    return target if kept is None else target * xp.expand_dims(kept, at).astype(dtype)


def _check_classes(xp: Any, labels: Any, kept: Any, classes: int) -> None:
    if xp is not np:
        return
    wrong = (labels < 0) | (labels >= classes)
    wrong = wrong if kept is None else wrong & kept
    if wrong.any():
        raise ArgumentError(
            "a label is no class",
            expected=f"0 <= label < {classes}",
            got=str(labels[wrong].flat[0]),
            hint="ignore_index=... leaves examples of one label out",
        )


@op(outputs=("out", "log_prob"))
def softmax_cross_entropy(
    logits, labels, *, axis=-1, soft=False, ignore_index=None, label_smoothing=0.0
):
    """(-sum of target * log_softmax(logits) along `axis`, log_softmax(logits)).

    logits: [..., C], with the C classes along `axis`; out: [...], one loss per example.
    labels: the class of each example, integers [...]; with soft=True distributions [..., C].
    ignore_index: a label (any integer) whose examples have loss 0 and no gradient.
    label_smoothing: s makes the target (1 - s) * target + s / C.  (Szegedy et al., 2016)
    Raises ArgumentError, when it runs, for a label that is no class; under XLA, which cannot raise,
    its loss is NaN.
    """
    return _check(logits, labels, axis, soft, label_smoothing), logits


@softmax_cross_entropy.compute
@in_float32
def _(xp, logits, labels, axis, soft, ignore_index, label_smoothing):
    (log_prob,) = o.log_softmax.run(xp, [logits], {"axis": axis})
    target = _target(xp, labels, logits, axis, soft, ignore_index, label_smoothing)
    terms = xp.where(target == 0, 0, target * log_prob)  # log_prob may be -inf there
    losses = -xp.sum(terms, axis=axis)
    if xp is not np and not soft:  # nothing can be raised inside XLA
        known = (labels >= 0) & (labels < logits.shape[axis])
        known = known if ignore_index is None else known | (labels == ignore_index)
        losses = xp.where(known, losses, xp.nan)
    return losses, log_prob


@softmax_cross_entropy.work
def _(logits):
    return 25.0 * logits.size  # an exp counts 20


@softmax_cross_entropy.grad
def _(labels, log_prob, g_out, g_log_prob, axis, soft, ignore_index, label_smoothing, op):
    g_logits = g_labels = None
    if g_out is not None:
        g_logits = o.softmax_cross_entropy_grad(log_prob, labels, g_out, **op.attrs)
        if soft:
            g_labels = o.mul(o.mul(log_prob, label_smoothing - 1.0), o.unsqueeze(g_out, axis=axis))
    if g_log_prob is not None:
        total = o.reduce_sum(g_log_prob, axis=axis, keepdims=True)
        more = o.sub(g_log_prob, o.mul(o.exp(log_prob), total))
        g_logits = more if g_logits is None else o.add(g_logits, more)
    return g_logits, g_labels


@op(overwrites=((0, 0),))
def softmax_cross_entropy_grad(
    log_prob, labels, grad, *, axis=-1, soft=False, ignore_index=None, label_smoothing=0.0
):
    """Gradient of `softmax_cross_entropy` in logits: (softmax * sum(target) - target) * grad.

    log_prob: as `softmax_cross_entropy` gives it; grad: [...], the gradient of the losses.
    """
    losses = _check(log_prob, labels, axis, soft, label_smoothing)
    require_same_shape(losses, grad, "grad")
    return log_prob


@softmax_cross_entropy_grad.compute
@in_float32
def _(xp, log_prob, labels, grad, axis, soft, ignore_index, label_smoothing):
    target = _target(xp, labels, log_prob, axis, soft, ignore_index, label_smoothing)
    mass = xp.sum(target, axis=axis, keepdims=True)
    spread = xp.expand_dims(grad, axis_of(axis, log_prob.ndim)).astype(log_prob.dtype)
    return (xp.exp(log_prob) * mass - target) * spread


@softmax_cross_entropy_grad.work
def _(log_prob):
    return 23.0 * log_prob.size  # an exp counts 20


@softmax_cross_entropy_grad.grad
def _(log_prob, labels, grad, g, axis, soft, ignore_index, label_smoothing, op):
    at = axis_of(axis, log_prob.ndim)
    ones = o.fill(shape=grad.shape, value=1.0, dtype=grad.dtype)
    slope = o.softmax_cross_entropy_grad(log_prob, labels, ones, **op.attrs)
    prob, g_labels = o.exp(log_prob), None
    weight = o.unsqueeze(grad, axis=at)
    if soft:
        keep = 1 - label_smoothing
        inner = o.reduce_sum(o.mul(g, prob), axis=at, keepdims=True)
        g_labels = o.mul(o.mul(o.sub(inner, g), weight), keep)
        mass = o.reduce_sum(labels, axis=at, keepdims=True)
        weight = o.mul(weight, o.add(o.mul(mass, keep), label_smoothing))
    elif ignore_index is not None:
        kept = o.unsqueeze(o.not_equal(labels, ignore_index), axis=at)
        weight = o.where(kept, weight, 0.0)
    g_log_prob = o.mul(o.mul(g, prob), weight)
    return g_log_prob, g_labels, o.reduce_sum(o.mul(g, slope), axis=at)
