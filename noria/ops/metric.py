"""Metrics as operators: computed where the numbers are, and added up over batches as state.

Counts are int64, so that adding those of batches gives those of all; metrics have no gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import product
from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_same_shape
from noria.ops.numeric import add_at, spec_of

# ---- classification ----------------------------------------------------------------------------


@op
def top_k_hits(scores, labels, *, k=1):
    """Whether the score of the label is among the k highest: bool [...].

    scores: [..., C]; labels: integers [...]. Of equal scores the one of the lower class counts as
    higher. A label that is no class is no hit, nor is one whose score is NaN.
    """
    need_integer(labels)
    if scores.ndim == 0:
        raise ShapeError("scores need an axis of classes", got=str(scores))
    require_same_shape(Spec(scores.shape[:-1], labels.dtype), labels, "labels")
    if not isinstance(k, int) or k < 1:
        raise ArgumentError("k must be an integer, 1 or more", got=repr(k))
    return Spec(labels.shape, "bool")


@top_k_hits.compute
def _(xp, scores, labels, k):
    classes = scores.shape[-1]
    known = (labels >= 0) & (labels < classes)
    if classes == 0:
        return known
    at = xp.where(known, labels, 0)[..., None]
    own = xp.take_along_axis(scores, at, axis=-1)
    before = (scores > own) | ((scores == own) & (xp.arange(classes) < at))
    return known & (xp.sum(before, axis=-1) < k) & (own == own)[..., 0]


@op
def accuracy(scores, labels, *, k=1):
    """Share of examples that are hits: float32 []; NaN if there are none.

    scores: [..., C], of which the label's must be among the k highest as in `top_k_hits`, or
    predicted classes, integers of the shape of labels. labels: integers [...].
    """
    if scores.ndim == labels.ndim:
        need_integer(scores, labels)
        require_same_shape(labels, scores, "predictions")
    else:
        o.top_k_hits.infer([scores, labels], {"k": k})
    return Spec((), "float32")


@accuracy.compute
def _(xp, scores, labels, k):
    if scores.ndim == labels.ndim:
        hits = scores == labels
    else:
        (hits,) = o.top_k_hits.run(xp, [scores, labels], {"k": k})
    count = xp.sum(hits).astype("float32")
    return count / hits.size if hits.size else count * np.float32(np.nan)


@op(outputs=("true_positive", "false_positive", "false_negative"))
def class_counts(predictions, labels, *, classes):
    """How often each class was rightly predicted, wrongly predicted, and missed: int64 [classes].

    predictions, labels: integers of one shape. Examples whose label is no class are left out; a
    prediction that is no class only misses.
    """
    need_integer(predictions, labels)
    require_same_shape(predictions, labels, "labels")
    counts = Spec((classes,), "int64")
    return counts, counts, counts


@class_counts.compute
def _(xp, predictions, labels, classes):
    def count(ids: Any, which: Any) -> Any:
        inside = which & (ids >= 0) & (ids < classes)
        zeros = xp.zeros(classes, "int64")
        return add_at(xp, zeros, xp.where(inside, ids, 0), inside.astype("int64"), unique=False)

    kept = (labels >= 0) & (labels < classes)
    right = predictions == labels
    return count(labels, right), count(predictions, kept & ~right), count(labels, ~right)


def precision_recall_f1(
    true_positive: Any, false_positive: Any, false_negative: Any, *, average: str | None = "macro"
) -> tuple[Any, Any, Any]:
    """(precision, recall, f1) from the counts of `class_counts`; what is divided by 0 is 0.

    average: None gives each class its own, float32 [C]; "macro" their mean, "micro" what all
    classes taken together have, float32 [].
    """
    counts = [o.cast(c, dtype="float32") for c in (true_positive, false_positive, false_negative)]
    if average not in (None, "macro", "micro"):
        raise ArgumentError("unknown average", expected="None, 'macro', 'micro'", got=repr(average))
    if average == "micro":
        counts = [o.reduce_sum(c) for c in counts]
    tp, fp, fn = counts
    double = o.mul(tp, 2.0)
    found = _ratio(tp, fp), _ratio(tp, fn), _ratio(double, o.add(fp, fn))
    if average == "macro":
        found = tuple(o.reduce_mean(m) for m in found)
    return found


def _ratio(part: Any, rest: Any) -> Any:
    """part / (part + rest), 0 for nothing."""
    total = o.add(part, rest)
    return o.div(part, o.where(o.greater(total, 0.0), total, 1.0))


# ---- area under the ROC curve ------------------------------------------------------------------


def _need_labels(labels: Spec) -> None:
    if is_float(labels.dtype):
        raise DTypeError("labels are 0 or 1", expected="integers or bool", got=str(labels))


@op
def auc(scores, labels):
    """Area under the ROC curve, exactly: the share of pairs of a positive and a negative example in
    which the positive one has the higher score, ties counted half. float32 []; NaN without a pair.
    (Hanley & McNeil, 1982)

    scores: floats [N]; labels: integers or bool [N], positive where not 0.
    """
    need_float(scores)
    need_rank(scores, 1, what="scores")
    _need_labels(labels)
    require_same_shape(scores, labels, "labels")
    return Spec((), "float32")


@auc.compute
def _(xp, scores, labels):
    order = xp.argsort(scores)
    ranked, negative = scores[order], (labels == 0)[order]
    below = xp.concatenate([xp.zeros(1, "int64"), xp.cumsum(negative)])
    beaten = below[xp.searchsorted(ranked, ranked, side="left")]
    reached = below[xp.searchsorted(ranked, ranked, side="right")]
    wide = "float64" if xp is np else "float32"
    wins = xp.where(negative, 0.0, (beaten + reached).astype(wide) / 2)
    positives, negatives = xp.sum(~negative), xp.sum(negative)
    return (xp.sum(wins / negatives) / positives).astype("float32")


@op(outputs=("new_positive", "new_negative"), overwrites=((0, 0), (1, 1)))
def auc_update(positive, negative, scores, labels):
    """Histograms of the scores of positive and of negative examples, with those of a batch added.

    positive, negative: int64 [bins], state that starts with zeros; scores: floats [...] in [0, 1],
    what is outside counts as at the end it is beyond, NaN as 0; labels: integers or bool [...].
    """
    need_rank(positive, 1, what="positive")
    need_integer(positive, negative)
    require_same_shape(positive, negative, "negative")
    need_float(scores)
    _need_labels(labels)
    require_same_shape(scores, labels, "labels")
    return positive, negative


@auc_update.compute
def _(xp, positive, negative, scores, labels):
    bins = positive.shape[0]
    finite = xp.where(scores == scores, xp.clip(scores, 0, 1), 0)
    at = xp.minimum((finite * bins).astype("int64"), bins - 1)

    def added(counts: Any, which: Any) -> Any:
        return add_at(xp, counts + 0, at, which.astype(counts.dtype), unique=False)

    return added(positive, labels != 0), added(negative, labels == 0)


@op
def auc_from_histograms(positive, negative):
    """`auc` of everything that was added to two histograms by `auc_update`, where scores of one bin
    count as ties. float32 []; NaN without a pair."""
    need_rank(positive, 1, what="positive")
    need_integer(positive, negative)
    require_same_shape(positive, negative, "negative")
    return Spec((), "float32")


@auc_from_histograms.compute
def _(xp, positive, negative):
    wide = "float64" if xp is np else "float32"
    p, n = positive.astype(wide), negative.astype(wide)
    below = xp.cumsum(n) - n / 2
    return (xp.sum(p * (below / xp.sum(n))) / xp.sum(p)).astype("float32")


# ---- running means -----------------------------------------------------------------------------


def mean_update(total: Any, count: Any, values: Any) -> tuple[Any, Any]:
    """(total + sum of values, count + number of values), whose quotient is the mean of all batches.

    total: float32 [], count: int64 [], state that starts with zeros.
    """
    n = product(spec_of(values).shape)
    return o.add(total, o.reduce_sum(o.cast(values, dtype="float32"))), o.add(
        count, o.dim_value(dim=n)
    )
