"""Further losses as users write them: of rankings, of clicks, of distances between features.

As in `criterion.py`, predictions come first, and `reduction` is "none", "sum" or "mean".
"""

from __future__ import annotations

import math
from typing import Any

from noria.core.dims import Dim
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.common import need_rank, require_equal
from noria.ops.criterion import cosine_similarity, reduced
from noria.ops.numeric import cast_like, spec_of


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return o.softplus(x, threshold=math.inf)


# ---- rankings ----------------------------------------------------------------------------------


def rank_loss(left: Any, right: Any, order: Any, *, reduction: str = "mean") -> Any:
    """RankNet: log(1 + exp(left - right)) - order * (left - right).  (Burges et al., 2005)

    order: 1 where left should be the higher, 0 where right, 0.5 for a tie.
    """
    d = o.sub(left, right)
    return reduced(o.sub(_softplus(d), o.mul(order, d)), reduction)


def bpr_loss(scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """Bayesian personalised ranking: the mean over the classes j that are not the label of
    log(1 + exp(scores[j] - scores[label])).  (Rendle et al., 2009; Hidasi et al., 2016)

    scores: [N, C]; labels: integers [N]; one loss for each example. Raises ArgumentError, when it
    runs, for a label that is no class.
    """
    need_rank(spec_of(scores), 2, what="scores")
    need_rank(spec_of(labels), 1, what="labels")
    classes = spec_of(scores).shape[1]
    own = o.take_along_axis(scores, o.unsqueeze(labels, axis=1), axis=1)
    others = o.sub(1.0, o.one_hot(labels, depth=classes, dtype=spec_of(scores).dtype))
    terms = o.mul(_softplus(o.sub(scores, own)), others)
    count = _count(classes - 1, terms)
    return reduced(o.div(o.reduce_sum(terms, axis=1), count), reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    margin: float = 1.0,
    epsilon: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    """max(0, |anchor - positive| - |anchor - negative| + margin), lengths along the last axis.
    (Balntas et al., 2016)

    epsilon is added to each difference, so that a length of 0 has a gradient.
    """

    def distance(x: Any) -> Any:
        d = o.add(o.sub(anchor, x), epsilon)
        return o.sqrt(o.reduce_sum(o.square(d), axis=-1))

    return reduced(o.relu(o.add(o.sub(distance(positive), distance(negative)), margin)), reduction)


# ---- probabilities and clicks ------------------------------------------------------------------


def log_loss(prob: Any, labels: Any, *, epsilon: float = 1e-4, reduction: str = "mean") -> Any:
    """-(y log(p + epsilon) + (1 - y) log(1 - p + epsilon)) for probabilities p, labels y of 0 or 1.

    `binary_cross_entropy` is the same without the epsilon.
    """
    hit = o.mul(labels, o.log(o.add(prob, epsilon)))
    miss = o.mul(o.sub(1.0, labels), o.log(o.add(o.sub(1.0, prob), epsilon)))
    return reduced(o.neg(o.add(hit, miss)), reduction)


def modified_huber_loss(scores: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """max(0, 1 - z)^2 for z >= -1, else -4 z, where z = scores * (2 * labels - 1) and labels are 0
    or 1.  (Zhang, 2004)"""
    z = o.mul(scores, o.sub(o.mul(labels, 2.0), 1.0))
    near = o.square(o.relu(o.sub(1.0, z)))
    return reduced(o.where(o.less(z, -1.0), o.mul(z, -4.0), near), reduction)


def teacher_student_loss(
    logits: Any,
    labels: Any,
    *,
    low: float = -15.0,
    high: float = 15.0,
    reduction: str = "mean",
) -> Any:
    """Cross entropy with a click and, where there is one, with a teacher's score of it.

    labels: -2 no click, -1 click, without a score; s in [0, 1) no click, 1 + s click, with the
    score s. Each part is the binary cross entropy of sigmoid(logits); logits outside (low, high)
    have no gradient.
    """
    if low >= high:
        raise ArgumentError("low must be less than high", got=f"{low} and {high}")
    inside = o.logical_and(o.greater(logits, low), o.less(logits, high))
    x = o.where(inside, logits, o.stop_gradient(logits))
    scored = o.greater_equal(labels, 0.0)
    clicked = o.logical_or(
        o.logical_and(o.greater_equal(labels, -1.0), o.less(labels, 0.0)),
        o.greater_equal(labels, 1.0),
    )
    click = cast_like(clicked, x)
    first = o.sub(_softplus(x), o.mul(click, x))
    score = o.sub(labels, o.where(o.greater_equal(labels, 1.0), 1.0, 0.0))
    second = o.sub(_softplus(x), o.mul(cast_like(score, x), x))
    return reduced(o.add(first, o.where(scored, second, 0.0)), reduction)


def label_smooth(labels: Any, prior: Any = None, *, epsilon: float = 0.1) -> Any:
    """(1 - epsilon) * labels + epsilon * prior: distributions [..., C] that are less sure.
    (Szegedy et al., 2016)

    prior: a distribution that broadcasts with labels, default 1 / C for each class.
    """
    if not 0 <= epsilon <= 1:
        raise ArgumentError("epsilon lies in [0, 1]", got=repr(epsilon))
    kept = o.mul(labels, 1.0 - epsilon)
    if prior is not None:
        return o.add(kept, o.mul(prior, epsilon))
    return o.add(kept, o.div(epsilon, _count(spec_of(labels).shape[-1], labels)))


# ---- distances between features ----------------------------------------------------------------


def center_loss(
    features: Any, labels: Any, centers: Any, *, rate: Any = None, reduction: str = "mean"
) -> tuple[Any, Any]:
    """(half the squared distance of each example to the centre of its class, new centres).
    (Wen et al., 2016)

    features: [N, D]; labels: integers [N]; centers: [C, D], state. With a `rate` a centre moves by
    rate * sum of (features - centre) / (1 + number of its examples); the loss has no gradient in
    the centres.
    """
    need_rank(spec_of(features), 2, what="features")
    need_rank(spec_of(centers), 2, what="centers")
    require_equal(spec_of(features).shape[1], spec_of(centers).shape[1], "features' and centres'")
    d = o.sub(features, o.stop_gradient(o.gather(centers, labels)))
    losses = o.mul(o.reduce_sum(o.square(d), axis=1), 0.5)
    if rate is None:
        return reduced(losses, reduction), centers
    moved = o.stop_gradient(d)
    total = o.scatter_rows(labels, moved, shape=spec_of(centers).shape)
    ones = o.fill(shape=spec_of(labels).shape, value=1.0, dtype=spec_of(features).dtype)
    count = o.scatter_rows(labels, ones, shape=spec_of(centers).shape[:1])
    step = o.div(total, o.unsqueeze(o.add(count, 1.0), axis=1))
    return reduced(losses, reduction), o.add(centers, o.mul(step, rate))


def cosine_embedding_loss(
    x: Any, y: Any, labels: Any, *, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    """1 - cos(x, y) where the label is 1, max(0, cos(x, y) - margin) where it is -1.

    x, y: [N, D]; labels: [N].
    """
    from_one = cosine_similarity(x, y, axis=1)
    apart = o.relu(o.sub(from_one, margin))
    return reduced(o.where(o.greater(labels, 0), o.sub(1.0, from_one), apart), reduction)


def _count(size: Any, like: Any) -> Any:
    """A size as a number of the dtype of `like`."""
    if not isinstance(size, Dim):
        return float(size)
    return o.cast(o.dim_value(dim=size), dtype=spec_of(like).dtype)
