"""Losses as users write them: composed of ops, and reduced.

reduction: "none" gives one loss per example (or element), "sum" and "mean" one number. Predictions
come first, then what they should be; shapes broadcast where nothing else is told.
"""

from __future__ import annotations

import math
from typing import Any

from noria.core.dims import Dim
from noria.core.dtypes import as_dtype, is_float
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axis_of
from noria.ops.numeric import cast_like, single, spec_of

TINY = 1e-38  # the logarithm of a probability is taken of nothing smaller


def reduced(losses: Any, reduction: str) -> Any:
    """losses, their sum or their mean. Raises ArgumentError for another reduction."""
    if reduction == "none":
        return losses
    if reduction not in ("mean", "sum"):
        raise ArgumentError(
            "unknown reduction", expected="'none', 'mean' or 'sum'", got=repr(reduction)
        )
    return o.reduce_mean(losses) if reduction == "mean" else o.reduce_sum(losses)


def _weighted(losses: Any, weights: Any, reduction: str) -> Any:
    """losses * weights; the mean is divided by the sum of the weights, or is 0 if that is 0: a
    batch of ignored examples teaches nothing, and NaN would destroy the parameters."""
    losses = o.mul(losses, cast_like(weights, losses))
    if reduction != "mean":
        return reduced(losses, reduction)
    boolean = as_dtype(weights.dtype) == "bool"
    total = o.reduce_sum(o.cast(weights, dtype="float32") if boolean else single(weights))
    mean = o.div(o.reduce_sum(single(losses)), o.where(o.greater(total, 0.0), total, 1.0))
    return cast_like(mean, losses)


def _label_weights(labels: Any, weight: Any, ignore_index: int | None) -> Any:
    """What the loss of each example is multiplied by, or None for 1."""
    kept = None if ignore_index is None else o.not_equal(labels, ignore_index)
    if weight is None:
        return kept
    classes = labels if kept is None else o.where(kept, labels, 0)
    weights = o.gather(weight, classes)
    return weights if kept is None else o.where(kept, weights, 0.0)


# ---- classes -----------------------------------------------------------------------------------


def cross_entropy(
    logits: Any,
    labels: Any,
    *,
    axis: int = -1,
    reduction: str = "mean",
    weight: Any = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> Any:
    """Cross entropy of softmax(logits) and the labels.

    logits: [..., C], with the C classes along `axis`; labels: classes, integers [...], or
    distributions, floats [..., C]; weight: [C], of each class, with classes as labels.
    ignore_index: a label that does not count. The mean is divided by the sum of the weights of what
    counts, and is 0 if nothing does.
    """
    soft = is_float(as_dtype(labels.dtype))
    if (soft and ignore_index is not None) or (weight is not None and (soft or label_smoothing)):
        raise ArgumentError(
            "ignore_index goes with classes as labels, weight with those and no label_smoothing"
        )
    losses, _ = o.softmax_cross_entropy(
        logits,
        labels,
        axis=axis,
        soft=soft,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    weights = None if soft else _label_weights(labels, weight, ignore_index)
    return reduced(losses, reduction) if weights is None else _weighted(losses, weights, reduction)


def nll_loss(
    log_prob: Any,
    labels: Any,
    *,
    axis: int = -1,
    reduction: str = "mean",
    weight: Any = None,
    ignore_index: int | None = None,
) -> Any:
    """-log_prob[label]; other arguments as those of `cross_entropy`, with classes as labels.

    Raises ArgumentError, when it runs, for a label that is no class.
    """
    at = axis_of(axis, spec_of(log_prob).ndim)
    classes = spec_of(log_prob).shape[at]
    end = o.dim_value(dim=classes) if isinstance(classes, Dim) else classes
    safe = o.where(o.less(labels, 0), end, labels)  # or it would count from the end
    if ignore_index is not None:
        safe = o.where(o.equal(labels, ignore_index), 0, safe)
    picked = o.take_along_axis(log_prob, o.unsqueeze(safe, axis=at), axis=at)
    losses = o.neg(o.squeeze(picked, axis=at))
    weights = _label_weights(labels, weight, ignore_index)
    return reduced(losses, reduction) if weights is None else _weighted(losses, weights, reduction)


def prob_cross_entropy(
    prob: Any,
    labels: Any,
    *,
    axis: int = -1,
    reduction: str = "none",
    ignore_index: int | None = None,
) -> Any:
    """Cross entropy of probabilities [..., C] and labels, classes [...] or distributions [..., C].

    A logarithm is taken of nothing below 1e-38. `cross_entropy` of logits is more accurate.
    """
    log_prob = o.log(o.clip(single(prob), low=TINY))
    if not is_float(as_dtype(labels.dtype)):
        losses = nll_loss(
            log_prob, labels, axis=axis, reduction=reduction, ignore_index=ignore_index
        )
        return cast_like(losses, prob)
    losses = o.neg(o.reduce_sum(o.mul(labels, log_prob), axis=axis))
    return cast_like(reduced(losses, reduction), prob)


def binary_cross_entropy(
    prob: Any, labels: Any, *, weight: Any = None, reduction: str = "mean"
) -> Any:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p and labels y in [0, 1].

    A logarithm is taken of nothing below 1e-38. `bce_with_logits` is more accurate.
    """
    p, y = single(prob), single(labels)
    hit = o.mul(y, o.log(o.clip(p, low=TINY)))
    miss = o.mul(o.sub(1.0, y), o.log(o.clip(o.sub(1.0, p), low=TINY)))
    losses = cast_like(o.neg(o.add(hit, miss)), prob)
    return reduced(losses if weight is None else o.mul(losses, weight), reduction)


def bce_with_logits(
    logits: Any,
    labels: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: str = "mean",
) -> Any:
    """Binary cross entropy of sigmoid(logits) and labels in [0, 1], without overflow.

    weight: of each element; pos_weight: of the positive part, y log p.
    """
    if pos_weight is None:  # -log(1 - p) - x y
        losses = o.sub(o.softplus(logits, threshold=math.inf), o.mul(logits, labels))
    else:
        both = o.add(o.mul(o.sub(pos_weight, 1.0), labels), 1.0)
        positive = o.mul(both, o.softplus(o.neg(logits), threshold=math.inf))
        losses = o.add(o.mul(o.sub(1.0, labels), logits), positive)
    return reduced(losses if weight is None else o.mul(losses, weight), reduction)


def kl_div(log_prob: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Any:
    """target * (log(target) - log_prob), the terms of the Kullback-Leibler divergence.

    log_target: `target` is given as its logarithm; reduction: also "batchmean", the sum divided by
    the size of axis 0, which is the divergence itself.
    """
    if log_target:
        terms = o.mul(o.exp(target), o.sub(target, log_prob))
    else:
        positive = o.greater(target, 0.0)
        known = o.where(positive, target, 1.0)
        terms = o.where(positive, o.mul(known, o.sub(o.log(known), log_prob)), 0.0)
    if reduction != "batchmean":
        return reduced(terms, reduction)
    total = o.reduce_sum(terms)
    return o.div(total, o.cast(o.dim_value(dim=spec_of(terms).shape[0]), dtype=total.dtype))


# ---- numbers -----------------------------------------------------------------------------------


def mse_loss(x: Any, y: Any, *, reduction: str = "mean") -> Any:
    """(x - y)^2."""
    return reduced(o.square(o.sub(x, y)), reduction)


def l1_loss(x: Any, y: Any, *, reduction: str = "mean") -> Any:
    """|x - y|."""
    return reduced(o.abs(o.sub(x, y)), reduction)


def huber_loss(x: Any, y: Any, *, delta: float = 1.0, reduction: str = "mean") -> Any:
    """d^2 / 2 where d = |x - y| <= delta, else delta * (d - delta / 2).  (Huber, 1964)"""
    if delta <= 0:
        raise ArgumentError("delta must be positive", got=repr(delta))
    d = o.abs(o.sub(x, y))
    near = o.minimum(d, delta)
    return reduced(o.mul(near, o.sub(d, o.mul(near, 0.5))), reduction)


def smooth_l1_loss(x: Any, y: Any, *, beta: float = 1.0, reduction: str = "mean") -> Any:
    """d^2 / (2 beta) where d = |x - y| <= beta, else d - beta / 2; beta 0: `l1_loss`.
    (Girshick, 2015)"""
    if beta == 0:
        return l1_loss(x, y, reduction=reduction)
    return o.mul(huber_loss(x, y, delta=beta, reduction=reduction), 1 / beta)


# ---- margins and angles ------------------------------------------------------------------------


def hinge_loss(scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """max(0, 1 - scores * (2 * labels - 1)) for labels 0 and 1."""
    signs = o.sub(o.mul(labels, 2.0), 1.0)
    return reduced(o.relu(o.sub(1.0, o.mul(scores, signs))), reduction)


def margin_ranking_loss(
    x: Any, y: Any, order: Any, *, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    """max(0, margin - order * (x - y)): order is 1 where x should be the larger, -1 where y."""
    return reduced(o.relu(o.sub(margin, o.mul(order, o.sub(x, y)))), reduction)


def cosine_similarity(x: Any, y: Any, *, axis: int = 1, epsilon: float = 1e-8) -> Any:
    """Cosine of the angle between vectors along `axis`, which goes; no length below epsilon counts
    as less."""
    wide_x, wide_y = single(x), single(y)

    def inverse_length(v: Any) -> Any:
        return o.rsqrt(o.maximum(o.reduce_sum(o.square(v), axis=axis), epsilon * epsilon))

    product = o.reduce_sum(o.mul(wide_x, wide_y), axis=axis)
    out = o.mul(product, o.mul(inverse_length(wide_x), inverse_length(wide_y)))
    return cast_like(out, x)
