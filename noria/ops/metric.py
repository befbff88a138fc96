"""Metrics as operators: computed where the numbers are."""

from __future__ import annotations

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_integer, need_rank, require_equal


@op
def accuracy(scores, labels, *, k=1):
    """Share of examples whose label is among the k highest scores, float32 [].

    scores: [N, C], labels: integers [N]. Of equal scores the lower class counts as higher.
    """
    need_rank(scores, 2, what="scores")
    need_rank(labels, 1, what="labels")
    need_integer(labels)
    require_equal(scores.shape[0], labels.shape[0], "scores and labels")
    if k < 1:
        raise ArgumentError("k must be 1 or more", got=repr(k))
    return Spec((), "float32")


@accuracy.compute
def _(xp, scores, labels, k):
    rows = xp.arange(scores.shape[0])
    own = scores[rows, labels][:, None]
    classes = xp.arange(scores.shape[1])[None, :]
    ahead = (scores > own) | ((scores == own) & (classes < labels[:, None]))
    hit = xp.sum(ahead, axis=1) < k
    return xp.mean(hit.astype("float32"))


@accuracy.grad
def _(gs):
    return None, None
