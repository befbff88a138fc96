"""Losses over many classes that look at few of them: a tree of classes, samples of classes.

What a class is scored by is a row of `weight` [classes, D] and an element of `bias` [classes]; only
the rows that are looked at are read, and with `sparse` only they have a gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.emit import current
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops import philox
from noria.ops.common import need_integer, need_rank, require_same_shape, shaped
from noria.ops.numeric import cast_like, spec_of
from noria.ops.packed import need_numpy
from noria.ops.random import next_stream, random_key, uniform

# ---- scores of some classes --------------------------------------------------------------------


def class_scores(x: Any, ids: Any, weight: Any, bias: Any = None, *, sparse: bool = False) -> Any:
    """x[n] . weight[ids[n, j]] + bias[ids[n, j]]: [N, J].

    x: [N, D]; ids: integers [N, J]; weight: [classes, D]; bias: [classes] or [classes, 1].
    sparse: the gradients of weight and bias are pairs (ids, rows)
    """
    need_integer(spec_of(ids))
    need_rank(spec_of(ids), 2, what="ids")
    rows = o.embedding(weight, ids, sparse=sparse)
    scores = o.squeeze(o.matmul(rows, o.unsqueeze(x, axis=2)), axis=2)
    if bias is None:
        return scores
    shift = o.embedding(bias, ids, sparse=sparse)
    return o.add(scores, o.reshape(shift, shape=scores.shape))


# ---- a tree of classes -------------------------------------------------------------------------


def class_paths(labels: Any, *, classes: int) -> tuple[Any, Any]:
    """(nodes, turns) from the root to each class, in the complete binary tree of `classes` leaves.

    labels: integers [N]. nodes: int64 [N, L], inner nodes 0 ... classes - 2, the last one first, -1
    behind the root; turns: int64 [N, L], 1 where the path turns right. (Morin and Bengio, 2005)
    """
    if not isinstance(classes, int) or classes < 2:
        raise ArgumentError("a tree has two classes or more", got=f"{classes=}")
    labels = shaped(labels)
    need_rank(spec_of(labels), 1, what="labels")
    steps = 2 ** np.arange((classes - 1).bit_length(), dtype=np.int64)
    code = o.unsqueeze(o.add(o.cast(labels, dtype="int64"), classes), axis=1)
    nodes = o.sub(o.floor_divide(code, steps * 2), 1)
    return nodes, o.remainder(o.floor_divide(code, steps), 2)


def tree_scores(
    x: Any, nodes: Any, weight: Any, bias: Any = None, *, sparse: bool = False
) -> tuple[Any, Any]:
    """(scores, inside): of the nodes [N, L] of each path, 0 and False where a node is negative."""
    inside = o.greater_equal(nodes, 0)
    scores = class_scores(x, o.maximum(nodes, 0), weight, bias, sparse=sparse)
    return o.where(inside, scores, 0.0), inside


def hsigmoid_loss(
    x: Any,
    labels: Any,
    weight: Any,
    bias: Any = None,
    *,
    classes: int | None = None,
    nodes: Any = None,
    turns: Any = None,
    sparse: bool = False,
) -> Any:
    """-log of the probability of each label, the product of the turns of its path: [N].

    x: [N, D]; labels: integers [N]; weight: [inner nodes, D]; bias: [inner nodes].
    classes: their number, for the complete binary tree of `class_paths`; or nodes and turns [N, L],
    the paths of a tree of one's own, padded with negative nodes; labels are then not looked at.
    sparse: as of `class_scores`. (Morin and Bengio, 2005)
    """
    if (classes is None) == (nodes is None) or (nodes is None) != (turns is None):
        raise ArgumentError("give either classes, or nodes and turns")
    if classes is not None:
        nodes, turns = class_paths(labels, classes=classes)
    scores, inside = tree_scores(x, nodes, weight, bias, sparse=sparse)
    costs = o.sub(o.softplus(scores), o.mul(scores, cast_like(turns, scores)))
    return o.reduce_sum(o.where(inside, costs, 0.0), axis=1)


# ---- samples of classes ------------------------------------------------------------------------


def log_uniform(key: Any = None, *, shape: Any, classes: int, stream: int | None = None) -> Any:
    """Classes of `shape`, int64, low ones more often: for classes sorted by frequency.

    Class k has the probability log((k + 2) / (k + 1)) / log(classes + 1). (Zipf, 1949)
    """
    unit = uniform(key, shape=shape, dtype="float64", stream=stream)
    place = o.sub(o.exp(o.mul(unit, math.log(classes + 1))), 1.0)
    return o.minimum(o.cast(place, dtype="int64"), classes - 1)


def log_uniform_probability(ids: Any, *, classes: int, dtype: str = "float32") -> Any:
    """How likely `log_uniform` draws each of these classes."""
    k = o.cast(ids, dtype=dtype)
    return o.mul(o.log1p(o.reciprocal(o.add(k, 1.0))), 1 / math.log(classes + 1))


@op(name="distinct_log_uniform", outputs=("ids", "draws"), effect="random")
def distinct_log_uniform_op(key, *, count, classes, stream=0):
    """(ids, draws): `count` different classes of `log_uniform`, int64 [count], as they came, and
    how many draws it took, int64 []. XLA cannot compile it."""
    if key.dtype != "int64" or key.shape != (2,):
        raise ArgumentError("a random key is (seed, step)", expected="int64[2]", got=str(key))
    if not isinstance(count, int) or not 0 < count <= classes:
        raise ArgumentError("too many classes", expected=f"0 < count <= {classes}", got=f"{count}")
    return Spec((count,), "int64"), Spec((), "int64")


MOST_DRAWS = 1 << 26


@distinct_log_uniform_op.compute
def _(xp, key, count, classes, stream):
    need_numpy(xp, "distinct_log_uniform")
    draws = 4 * count + 64
    while draws <= MOST_DRAWS:
        unit = philox.unit(np, key, stream, draws, "float64")
        ids = np.exp(unit * math.log(classes + 1)) - 1
        ids = np.minimum(ids.astype(np.int64), classes - 1)
        first = np.sort(np.unique(ids, return_index=True)[1])
        if len(first) >= count:
            return ids[first[:count]], np.asarray(first[count - 1] + 1, np.int64)
        draws *= 4
    raise ArgumentError(
        f"{count} different classes of {classes} would take too long", hint="draw half of them"
    )


def distinct_log_uniform(
    key: Any = None, *, count: int, classes: int, stream: int | None = None
) -> Any:
    """(ids, draws): `count` different classes, drawn as by `log_uniform`, and the draws it took."""
    key = random_key() if key is None else key
    if stream is None:
        stream = next_stream() if current() is not None else 0
    return distinct_log_uniform_op(key, count=count, classes=classes, stream=stream)


def sample_logits(
    logits: Any, samples: Any, probabilities: Any, *, labels: int, remove_hits: bool = True
) -> Any:
    """Logits of sampled classes, less the log of how likely they were sampled: [N, J].

    logits: [N, classes]; samples: integers [N, J], the first `labels` of them the true classes;
    probabilities: [N, J]. remove_hits: a sampled class that is a true one gets -1e20.
    Softmax over the result estimates that over all classes. (Jean et al., 2015)
    """
    taken = o.take_along_axis(logits, samples, axis=1)
    require_same_shape(spec_of(samples), spec_of(probabilities), "probabilities")
    if remove_hits:
        true = o.unsqueeze(samples[:, :labels], axis=1)
        hit = o.reduce_any(o.equal(o.unsqueeze(samples, axis=2), true), axis=2)
        sampled = o.greater_equal(o.arange(stop=samples.shape[1]), labels)
        taken = o.sub(taken, o.mul(cast_like(o.logical_and(hit, sampled), taken), 1e20))
    return _finite(o.sub(taken, _finite(o.log(probabilities))))


def _finite(x: Any) -> Any:
    """Infinities as 1e20 of their sign, which softmax takes without NaN."""
    return o.where(o.isinf(x), o.mul(o.sign(x), 1e20), x)


def nce_loss(
    scores: Any, likely: Any, *, labels: int, negatives: int, weights: Any = None
) -> tuple[Any, Any]:
    """(losses [N], o [N, J]): whether a class is the true one or noise.

    scores: [N, J], as of `class_scores`, of `labels` true classes and of those drawn as noise;
    likely: [N, J], how likely one draw of noise gives each of them; negatives: the number of draws;
    weights: [N], of each row. With o = sigmoid(score), the model's probability, and the noise's
    b = negatives * likely, a class is true with probability o / (o + b).
    (Gutmann and Hyvärinen, 2010; Mnih and Teh, 2012)
    """
    truth = o.sigmoid(scores)
    noise = o.mul(cast_like(likely, truth), float(negatives))
    is_true = o.less(o.arange(stop=spec_of(scores).shape[1]), labels)
    chosen = o.where(is_true, truth, noise)
    losses = o.reduce_sum(o.neg(o.log(o.div(chosen, o.add(truth, noise)))), axis=1)
    return (losses if weights is None else o.mul(losses, weights)), truth
