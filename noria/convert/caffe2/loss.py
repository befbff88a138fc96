"""Losses and criteria, transforms of features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.convert.caffe2.common import as_rows, numel, pullback, scalar
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import row_numbers
from noria.core.dims import product
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o

TINY = 1e-20  # below which no logarithm is taken


def _softplus(x: Any) -> Any:
    return o.softplus(x, threshold=math.inf)


def _as_ids(labels: Any, count: Any) -> Any:
    return o.reshape(o.cast(labels, dtype="int64"), shape=(count,))


# ---- softmax -----------------------------------------------------------------------------------


@caffe2_op("SoftmaxWithLoss")
def softmax_with_loss(op, logits, labels, weights=None):
    """(probabilities, mean of the losses); labels: integers, or distributions (label_prob)."""
    rows = as_rows(op, logits)
    loss, probabilities = _softmax_loss(op, rows, labels, weights)
    if op.attr("only_loss", False) and len(op.outputs) == 1:
        return loss
    return o.reshape(probabilities, shape=logits.shape), loss


def _softmax_loss(op: Node, rows: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
    logs = o.log_softmax(rows, axis=1)
    if op.attr("label_prob", 0):
        target = o.reshape(labels, shape=rows.shape)
        losses = o.neg(o.reduce_sum(o.mul(o.maximum(logs, math.log(TINY)), target), axis=1))
    else:
        ids = o.unsqueeze(_as_ids(labels, rows.shape[0]), axis=1)
        losses = o.neg(o.squeeze(o.take_along_axis(logs, ids, axis=1), axis=1))
    return _weighted_mean(op, losses, weights), o.exp(logs)


def _weighted_mean(op: Node, losses: Any, weights: Any) -> Any:
    """Their mean, weighted, times `scale`; 0 where the weights add up to 0."""
    if weights is None:
        weights = o.fill(shape=losses.shape, value=1.0, dtype=losses.dtype)
    weights = o.reshape(weights, shape=losses.shape)
    total = o.reduce_sum(weights)
    mean = o.div(o.reduce_sum(o.mul(losses, weights)), o.where(o.equal(total, 0.0), 1.0, total))
    return o.mul(o.where(o.equal(total, 0.0), 0.0, mean), op.attr("scale", 1.0))


@caffe2_op("SoftmaxWithLossGradient")
def softmax_with_loss_gradient(op, logits, labels, *rest):
    """(logits, labels, [weights], probabilities, gradient of the loss) -> dlogits"""
    weights = rest[0] if len(rest) == 3 else None
    fn = lambda x: _softmax_loss(op, as_rows(op, x), labels, weights)[0]  # noqa: E731
    return pullback(fn, [logits], [scalar(rest[-1])], [0])[0]


@caffe2_op("SpatialSoftmaxWithLoss")
def spatial_softmax_with_loss(op, logits, labels, weights=None):
    """Over the channels of [N, C, H, W]; a label of -1 takes no part."""
    loss, probabilities = _spatial_loss(op, logits, labels, weights)
    return probabilities, loss


def _spatial_loss(op: Node, logits: Any, labels: Any, weights: Any) -> tuple[Any, Any]:
    logs = o.log_softmax(logits, axis=1)
    labels = o.cast(labels, dtype="int64")
    counted = o.greater_equal(labels, 0)
    ids = o.unsqueeze(o.where(counted, labels, 0), axis=1)
    losses = o.neg(o.squeeze(o.take_along_axis(logs, ids, axis=1), axis=1))
    kept = o.cast(counted, dtype=logits.dtype)
    weights = kept if weights is None else o.mul(weights, kept)
    return _weighted_mean(op, losses, weights), o.exp(logs)


@caffe2_op("SpatialSoftmaxWithLossGradient")
def spatial_softmax_with_loss_gradient(op, logits, labels, *rest):
    weights = rest[0] if len(rest) == 3 else None
    fn = lambda x: _spatial_loss(op, x, labels, weights)[0]  # noqa: E731
    return pullback(fn, [logits], [scalar(rest[-1])], [0])[0]


# ---- cross entropies ---------------------------------------------------------------------------


def _label_cross_entropy(x: Any, labels: Any) -> Any:
    rows = _matrix(x)
    ids = o.unsqueeze(_as_ids(labels, rows.shape[0]), axis=1)
    return o.neg(o.log(o.maximum(o.squeeze(o.take_along_axis(rows, ids, axis=1), axis=1), TINY)))


def _matrix(x: Any) -> Any:
    if len(x.shape) == 1:
        return o.unsqueeze(x, axis=0)
    return o.reshape(x, shape=(x.shape[0], product(x.shape[1:])))


@caffe2_op("LabelCrossEntropy")
def label_cross_entropy(op, x, labels):
    """-log of the probability of the label: [N]."""
    return _label_cross_entropy(x, labels)


@caffe2_op("LabelCrossEntropyGradient")
def label_cross_entropy_gradient(op, x, labels, dy):
    rows = _matrix(x)
    hot = o.one_hot(_as_ids(labels, rows.shape[0]), depth=rows.shape[1], dtype=x.dtype)
    slopes = o.div(hot, o.maximum(rows, TINY))
    return o.reshape(o.neg(o.mul(slopes, o.unsqueeze(dy, axis=1))), shape=x.shape)


@caffe2_op("CrossEntropy")
def cross_entropy(op, x, target):
    """-sum of target * log(x) over each row: [N]."""
    rows, wanted = _matrix(x), _matrix(target)
    return o.neg(o.reduce_sum(o.mul(wanted, o.log(o.maximum(rows, TINY))), axis=1))


@caffe2_op("CrossEntropyGradient")
def cross_entropy_gradient(op, x, target, dy):
    slopes = o.div(_matrix(target), o.maximum(_matrix(x), TINY))
    return o.reshape(o.neg(o.mul(slopes, o.unsqueeze(dy, axis=1))), shape=x.shape)


@caffe2_op("MakeTwoClass")
def make_two_class(op, x):
    """[...] -> [..., 2]: 1 - x, x."""
    axis = len(x.shape)
    return o.concat(*(o.unsqueeze(v, axis=axis) for v in (o.sub(1.0, x), x)), axis=axis)


@caffe2_op("MakeTwoClassGradient")
def make_two_class_gradient(op, dy):
    last = len(dy.shape) - 1
    low, high = (o.slice(dy, axes=(last,), starts=(i,), stops=(i + 1,)) for i in (0, 1))
    return o.squeeze(o.sub(high, low), axis=last)


def _sigmoid_loss(op: Node, x: Any, target: Any, weights: Any = None) -> Any:
    """Mean over the last axis of the negative log-likelihood of sigmoid(x)."""
    if op.attr("unjoined_lr_loss", False):
        losses = o.sub(o.mul(o.sub(1.0, target), _softplus(x)), o.mul(target, x))
    elif op.attr("log_D_trick", False):
        losses = o.mul(o.sub(o.mul(target, 2.0), 1.0), _softplus(o.neg(x)))
    else:
        losses = o.sub(_softplus(x), o.mul(x, target))
    losses = losses if weights is None else o.mul(losses, weights)
    return o.reduce_mean(losses, axis=len(x.shape) - 1) if len(x.shape) else losses


@caffe2_op("SigmoidCrossEntropyWithLogits")
def sigmoid_cross_entropy(op, x, target):
    return _sigmoid_loss(op, x, target)


@caffe2_op("SigmoidCrossEntropyWithLogitsGradient")
def sigmoid_cross_entropy_gradient(op, dy, x, target):
    return pullback(lambda v: _sigmoid_loss(op, v, target), [x], [dy], [0])[0]


@caffe2_op("WeightedSigmoidCrossEntropyWithLogits")
def weighted_sigmoid_cross_entropy(op, x, target, weights):
    return _sigmoid_loss(op, x, target, weights)


@caffe2_op("WeightedSigmoidCrossEntropyWithLogitsGradient")
def weighted_sigmoid_cross_entropy_gradient(op, dy, x, target, weights):
    return pullback(lambda v: _sigmoid_loss(op, v, target, weights), [x], [dy], [0])[0]


# ---- criteria ----------------------------------------------------------------------------------


def _entropy(p: Any) -> Any:
    """-p log p - (1 - p) log(1 - p)"""
    terms = [o.mul(q, o.log(o.maximum(q, TINY))) for q in (p, o.sub(1.0, p))]
    return o.neg(o.add(*terms))


def _jsd(x: Any, target: Any) -> Any:
    middle = o.mul(o.add(x, target), 0.5)
    return o.sub(_entropy(middle), o.mul(o.add(_entropy(x), _entropy(target)), 0.5))


@caffe2_op("BernoulliJSD")
def bernoulli_jsd(op, x, target):
    """Jensen-Shannon divergence of two coins."""
    return _jsd(x, target)


@caffe2_op("BernoulliJSDGradient")
def bernoulli_jsd_gradient(op, g, x, target):
    return pullback(lambda v: _jsd(v, target), [x], [g], [0])[0]


def _cosine_embedding(op: Node, s: Any, y: Any) -> Any:
    same = o.equal(y, 1)
    return o.where(same, o.sub(1.0, s), o.maximum(o.sub(s, op.attr("margin", 0.0)), 0.0))


@caffe2_op("CosineEmbeddingCriterion")
def cosine_embedding_criterion(op, s, y):
    """1 - s for a pair that belongs together, else max(0, s - margin)."""
    return _cosine_embedding(op, s, y)


@caffe2_op("CosineEmbeddingCriterionGradient")
def cosine_embedding_criterion_gradient(op, s, y, dy):
    far = o.greater_equal(s, op.attr("margin", 0.0))
    return o.where(o.equal(y, 1), o.neg(dy), o.where(far, dy, 0.0))


@caffe2_op("MarginRankingCriterion")
def margin_ranking_criterion(op, a, b, y):
    """max(0, margin - y * (a - b))"""
    y = o.cast(y, dtype=a.dtype)
    return o.maximum(o.sub(op.attr("margin", 1.0), o.mul(y, o.sub(a, b))), 0.0)


@caffe2_op("MarginRankingCriterionGradient")
def margin_ranking_criterion_gradient(op, a, b, y, dy):
    fn = lambda p, q: margin_ranking_criterion(op, p, q, y)  # noqa: E731
    return pullback(fn, [a, b], [dy], [0, 1])


def _pairs(op: Node, x: Any, labels: Any, lengths: Any) -> tuple[Any, Any, Any]:
    """(losses of pairs [T, T], which pairs count, sessions of the rows [T])."""
    n = x.shape[0]
    x, labels = (o.reshape(v, shape=(n,)) for v in (x, labels))
    rows = o.fill(shape=(n,), value=0, dtype="int64")
    if lengths is not None:
        rows = row_numbers(op, lengths, n)
    place = o.arange(stop=n)
    order = o.sub(o.unsqueeze(labels, axis=1), o.unsqueeze(labels, axis=0))
    together = o.equal(o.unsqueeze(rows, axis=1), o.unsqueeze(rows, axis=0))
    below = o.greater(o.unsqueeze(place, axis=1), o.unsqueeze(place, axis=0))
    differ = o.greater_equal(o.abs(order), float(np.finfo(np.float32).eps))
    counted = o.logical_and(o.logical_and(together, below), differ)
    apart = o.sub(o.unsqueeze(x, axis=0), o.unsqueeze(x, axis=1))
    return _softplus(o.mul(o.sign(order), apart)), counted, rows


def _pair_loss(op: Node, x: Any, labels: Any, lengths: Any) -> Any:
    losses, counted, rows = _pairs(op, x, labels, lengths)
    count = 1 if lengths is None else lengths.shape[0]
    sums = [
        o.scatter_rows(rows, o.reduce_sum(v, axis=1), shape=(count,))
        for v in (o.where(counted, losses, 0.0), o.cast(counted, dtype=losses.dtype))
    ]
    return o.div(sums[0], o.maximum(sums[1], 1.0))


@caffe2_op("PairWiseLoss")
def pair_wise_loss(op, x, labels, lengths=None):
    """RankNet's loss over all pairs of a session with different labels: [sessions]."""
    return _pair_loss(op, x, labels, lengths)


@caffe2_op("PairWiseLossGradient")
def pair_wise_loss_gradient(op, x, labels, dy, lengths=None):
    return pullback(lambda v: _pair_loss(op, v, labels, lengths), [x], [dy], [0])[0]


# ---- rankings ----------------------------------------------------------------------------------


def _ranks(values: Any, together: Any) -> Any:
    """How many of the same session have a larger value, or the same one and come before: [T]."""
    place = o.arange(stop=values.shape[0])
    mine, theirs = o.unsqueeze(values, axis=1), o.unsqueeze(values, axis=0)
    before = o.less(o.unsqueeze(place, axis=0), o.unsqueeze(place, axis=1))
    better = o.logical_or(o.greater(theirs, mine), o.logical_and(o.equal(theirs, mine), before))
    return o.reduce_sum(o.cast(o.logical_and(better, together), dtype="int64"), axis=1)


@caffe2_op("LambdaRankNdcg")
def lambda_rank_ndcg(op, y, relevance, lengths):
    """(loss of each session, gradient in y of each document).  (Wu et al., 2010)"""
    total, count = y.shape[0], lengths.shape[0]
    rows = row_numbers(op, lengths, total)
    together = o.equal(o.unsqueeze(rows, axis=1), o.unsqueeze(rows, axis=0))
    exponential = op.attr("use_exp_gain", True) or not op.attr("use_ndcg_as_loss", False)
    gain = o.exp(o.mul(relevance, math.log(2))) if exponential else relevance
    actual, ideal = (_discounts(_ranks(v, together)) for v in (y, relevance))

    def summed(x: Any) -> Any:
        return o.scatter_rows(rows, x, shape=(count,))

    best = summed(o.mul(gain, ideal))
    weight = o.abs(o.mul(_apart(actual), _apart(gain)))
    weight = o.where(together, weight, 0.0)
    sign = o.where(o.greater(_apart(relevance), 0.0), 1.0, -1.0)
    along = o.mul(sign, _apart(y))
    dy = o.neg(o.reduce_sum(o.mul(o.mul(weight, sign), o.sigmoid(o.neg(along))), axis=1))
    if op.attr("use_ndcg_as_loss", False):
        loss = o.sub(best, summed(o.mul(gain, actual)))
    else:
        loss = summed(o.reduce_sum(o.mul(weight, _softplus(o.neg(along))), axis=1))
    rated = o.greater_equal(summed(o.abs(relevance)), 1e-6)
    scale = o.fill(shape=(count,), value=1.0)
    if op.attr("use_idcg_normalization", True):
        scale = o.div(1.0, o.maximum(best, 1e-5))
    scale = o.where(rated, scale, 0.0)
    return o.mul(loss, scale), o.mul(dy, o.gather(scale, rows))


def _discounts(ranks: Any) -> Any:
    return o.div(math.log(2), o.log(o.add(o.cast(ranks, dtype="float32"), 2.0)))


def _apart(x: Any) -> Any:
    """x[i] - x[j]: [T, T]."""
    return o.sub(o.unsqueeze(x, axis=1), o.unsqueeze(x, axis=0))


@caffe2_op("LambdaRankNdcgGradient")
def lambda_rank_ndcg_gradient(op, y, lengths, cached, g):
    """What the forward operator gave, times the gradient of each session's loss."""
    return o.mul(cached, o.gather(g, row_numbers(op, lengths, y.shape[0])))


# ---- transforms of features --------------------------------------------------------------------


@caffe2_op("BatchBoxCox")
def batch_box_cox(op, x, power, shift):
    """((x + shift)^power - 1) / power for each column, log(x + shift) for a power of 0.
    (Box and Cox, 1964)"""
    base = o.maximum(o.add(x, shift), 1e-6)
    zero = o.equal(power, 0.0)
    safe = o.where(zero, 1.0, power)
    return o.where(zero, o.log(base), o.div(o.sub(o.pow(base, safe), 1.0), safe))


@caffe2_op("PiecewiseLinearTransform")
def piecewise_linear_transform(op, x, bounds=None, slopes=None, intercepts=None):
    """A line for each piece between sorted bounds, each column its own; flat outside them.

    binary: x are probabilities [N] or [N, 2] of two classes, the second of which is transformed
    """
    if bounds is None:
        listed = (op.floats(n) for n in ("bounds", "slopes", "intercepts"))
        bounds, slopes, intercepts = (np.array(v, np.float32) for v in listed)
    groups = numel(bounds) - numel(slopes)
    if not isinstance(groups, int) or groups < 1 or numel(slopes) % groups:
        raise ShapeError("each group has one bound more than pieces", got=f"{bounds}, {slopes}")
    pieces = numel(slopes) // groups
    table = [
        o.reshape(v, shape=(groups, n))
        for v, n in ((bounds, pieces + 1), (slopes, pieces), (intercepts, pieces))
    ]
    if not op.attr("binary", False):
        return _piecewise(x, *table)
    if len(x.shape) == 1 or x.shape[1] == 1:
        rows = o.reshape(x, shape=(x.shape[0], 1))
        return o.reshape(_piecewise(rows, *table), shape=x.shape)
    high = _piecewise(o.slice(x, axes=(1,), starts=(1,), stops=(2,)), *table)
    return o.concat(o.sub(1.0, high), high, axis=1)


def _piecewise(x: Any, bounds: Any, slopes: Any, intercepts: Any) -> Any:
    """x [N, M], bounds [M, pieces + 1], slopes and intercepts [M, pieces]."""
    groups, pieces = slopes.shape
    ends = [o.slice(bounds, axes=(1,), starts=(i,), stops=(i + 1,)) for i in (0, pieces)]
    low, high = (o.reshape(v, shape=(groups,)) for v in ends)
    inside = o.minimum(o.maximum(x, low), high)
    above = o.greater(o.unsqueeze(inside, axis=2), bounds)
    piece = o.sub(o.reduce_sum(o.cast(above, dtype="int64"), axis=2), 1)
    piece = o.clip(piece, low=0, high=pieces - 1)
    at = o.add(piece, o.mul(o.arange(stop=groups), pieces))
    slope, level = (
        o.gather(o.reshape(v, shape=(groups * pieces,)), at) for v in (slopes, intercepts)
    )
    return o.add(o.mul(slope, inside), level)
