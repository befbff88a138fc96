"""Reading what a network wrote: CTC decoding, Viterbi paths; accuracy and precision."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import as_rows
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ShapeError
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ops.loops import scan


def _steps(x: Any, lengths: Any) -> Any:
    """Which steps of [T, N, C] are there: bool [N, T]."""
    steps = o.arange(stop=x.shape[0])
    if lengths is None:
        return o.fill(shape=(x.shape[1], x.shape[0]), value=True, dtype="bool")
    return o.less(o.unsqueeze(steps, axis=0), o.unsqueeze(o.cast(lengths, dtype="int64"), axis=1))


@caffe2_op("CTCGreedyDecoder")
def ctc_greedy_decoder(op, x, lengths=None):
    """(lengths [N], labels) of the likeliest class of each step of [T, N, C], without blanks (0)
    and, with merge_repeated, repetitions.  (Graves et al., 2006)"""
    best = o.transpose(o.argmax(x, axis=2), perm=(1, 0))
    keep = o.logical_and(_steps(x, lengths), o.not_equal(best, 0))
    if op.attr("merge_repeated", True):
        first = o.equal(o.arange(stop=x.shape[0]), 0)
        keep = o.logical_and(
            keep, o.logical_or(first, o.not_equal(best, o.roll(best, shift=1, axis=1)))
        )
    labels = o.gather_nd(best, o.nonzero(keep, size=op.symbol("labels")))
    counts = o.reduce_sum(o.cast(keep, dtype="int32"), axis=1)
    return o.cast(counts, dtype="int32"), o.cast(labels, dtype="int32")


@caffe2_op("CTCBeamSearchDecoder")
def ctc_beam_search_decoder(op, x, lengths=None):
    """The best label sequences of [T, N, C]: (lengths [N * candidates], labels, probabilities)."""
    if lengths is None:
        size = o.dim_value(dim=x.shape[0])
        lengths = o.broadcast_to(o.reshape(size, shape=(1,)), shape=(x.shape[1],))
    counts, labels, scores = o.ctc_beam_search(
        x,
        o.cast(lengths, dtype="int64"),
        beam_size=op.attr("beam_width", 10),
        candidates=op.attr("num_candidates", 1),
        least=op.attr("prune_threshold", 0.001),
        size=op.symbol("labels"),
    )
    return o.cast(counts, dtype="int32"), o.cast(labels, dtype="int32"), scores


# ---- metrics -----------------------------------------------------------------------------------


@caffe2_op("Accuracy")
def accuracy(op, scores, labels):
    """Share of rows whose label is among the top_k."""
    return _hits(op, scores, labels, op.attr("top_k", 1))


def _hits(op: Node, scores: Any, labels: Any, k: int) -> Any:
    rows = as_rows(op, scores, 1)
    ids = o.reshape(o.cast(labels, dtype="int64"), shape=(rows.shape[0],))
    own = o.take_along_axis(rows, o.unsqueeze(ids, axis=1), axis=1)
    places = o.arange(stop=rows.shape[1])
    before = o.logical_and(o.equal(rows, own), o.less(places, o.unsqueeze(ids, axis=1)))
    better = o.logical_or(o.greater(rows, own), before)
    rank = o.reduce_sum(o.cast(better, dtype="int64"), axis=1)
    return o.reduce_mean(o.cast(o.less(rank, k), dtype="float32"))


@caffe2_op("MultiClassAccuracy")
def multi_class_accuracy(op, scores, labels):
    """(share of hits of each class, 0 without examples; examples of each class int32)"""
    classes = scores.shape[1]
    ids = o.reshape(o.cast(labels, dtype="int64"), shape=(scores.shape[0],))
    hit = o.cast(o.equal(o.argmax(scores, axis=1), ids), dtype="float32")
    ones = o.fill(shape=ids.shape, value=1.0)
    counts = o.scatter_rows(ids, ones, shape=(classes,))
    hits = o.scatter_rows(ids, hit, shape=(classes,))
    return o.div(hits, o.maximum(counts, 1.0)), o.cast(counts, dtype="int32")


@caffe2_op("APMeter")
def ap_meter(op, scores, labels):
    """Average precision of each class over the last `buffer_size` rows of this and earlier steps.

    scores: [N, D]; labels: int32 [N, D], 1 for an example of the class. Earlier rows are state.
    """
    size, width = op.attr("buffer_size", 1000), scores.shape[1]
    if not isinstance(width, int):
        raise ShapeError("the number of classes must be known", got=str(scores))
    builder = building()
    name = op.outputs[0]
    start = ("fill", {"value": float("-inf")})
    old = builder.state(f"{name}.scores", (size, width), scores.dtype, init=start)
    seen = builder.state(f"{name}.labels", (size, width), labels.dtype)
    joined = [o.concat(a, b) for a, b in ((old, scores), (seen, labels))]
    count = scores.shape[0]
    kept = [o.slice(v, axes=(0,), starts=(count,), stops=(count + size,)) for v in joined]
    for state, value in zip((old, seen), kept, strict=True):
        builder.update(state, value)
    return _average_precision(*kept)


def _average_precision(scores: Any, labels: Any) -> Any:
    """Mean precision at each true row, best scores first: [D] from [N, D]."""
    order = o.argsort(scores, axis=0, descending=True)
    truth = o.cast(o.take_along_axis(labels, order, axis=0), dtype="float32")
    ranks = o.unsqueeze(
        o.cast(o.arange(start=1, stop=scores.shape[0] + 1), dtype="float32"), axis=1
    )
    precision = o.div(o.cumsum(truth, axis=0), ranks)
    one = o.equal(truth, 1.0)
    total = o.reduce_sum(o.where(one, precision, 0.0), axis=0)
    return o.div(total, o.maximum(o.reduce_sum(o.cast(one, dtype="float32"), axis=0), 1.0))


# ---- Viterbi -----------------------------------------------------------------------------------


@caffe2_op("ViterbiPath")
def viterbi_path(op, x, transitions):
    """The best path of tags through scores [T, C] with transitions [C, C]: int32 [T]."""

    def forward(best: Any, now: Any) -> Any:
        through = o.add(o.unsqueeze(best, axis=1), transitions)
        return o.add(o.reduce_max(through, axis=0), now), o.argmax(through, axis=0)

    first = o.squeeze(o.slice(x, axes=(0,), starts=(0,), stops=(1,)), axis=0)
    rest = o.slice(x, axes=(0,), starts=(1,), stops=(x.shape[0],))
    best, back = scan(forward, first, rest)
    last = o.argmax(best, axis=0)

    def backward(tag: Any, parents: Any) -> Any:
        return o.squeeze(o.gather(parents, o.reshape(tag, shape=(1,))), axis=0), tag

    first_tag, tags = scan(backward, last, back, reverse=True)
    return o.cast(o.concat(o.reshape(first_tag, shape=(1,)), tags), dtype="int32")


@caffe2_op("SwapBestPath")
def swap_best_path(op, x, path):
    """Scores [T, C] where the tag of the path and the best one have changed places."""
    ids = o.unsqueeze(o.cast(path, dtype="int64"), axis=1)
    top = o.argmax(x, axis=1, keepdims=True)
    mine, most = (o.take_along_axis(x, v, axis=1) for v in (ids, top))
    swapped = o.scatter_elements(x, top, mine, axis=1)
    return o.scatter_elements(swapped, ids, most, axis=1)
