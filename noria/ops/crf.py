"""Linear-chain conditional random fields over ragged batches: loss and best path.

The score of tags y of a row with emissions e is

    start[y_1] + sum_t e[t, y_t] + sum_t pair[y_t-1, y_t] + stop[y_last]

and their probability the exponential of it, over the sum for all tags.  (Lafferty, McCallum and
Pereira, 2001.) `transition` [K + 2, K] holds start, stop and pair [from, to], one below the other.
Everything is done with logarithms, so that no row is too long or too unlikely.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal, require_same_shape
from noria.ops.loops import scan
from noria.ops.numeric import add_at, in_float32
from noria.ops.packed import checked_splits, need_rows, put_at, repeat_steps, row_count


def _check(emission: Spec, transition: Spec, row_splits: Spec, labels: Spec | None = None) -> None:
    need_float(emission, transition)
    need_rank(emission, 2, what="emission")
    need_rank(transition, 2, what="transition")
    row_count(row_splits)
    tags = emission.shape[1]
    require_equal(transition.shape[1], tags, "the tags of transition and of emission")
    require_equal(transition.shape[0], tags + 2, "the rows of transition and the tags + 2")
    if labels is not None:
        need_integer(labels)
        require_same_shape(Spec(emission.shape[:1]), labels, "labels")


class _Batch(NamedTuple):
    """Rows side by side: n rows, at most `longest` steps, k tags."""

    starts: Any  # [n]
    lengths: Any  # [n]
    longest: Any
    total: int
    padded: Any  # emissions [t + 1, k], zeros behind the last

    def places(self, xp: Any, t: Any) -> tuple[Any, Any]:
        """(Whether a row has a step t, its place, the one behind all where it has not)."""
        active = t < self.lengths
        return active, xp.where(active, self.starts + t, self.total)


def _batch(xp: Any, emission: Any, row_splits: Any) -> _Batch:
    splits = checked_splits(xp, row_splits, emission.shape[0])
    lengths = splits[1:] - splits[:-1]
    behind = xp.zeros((1, emission.shape[1]), emission.dtype)
    padded = xp.concatenate([emission, behind])
    longest = xp.max(lengths, initial=0)
    return _Batch(splits[:-1], lengths, longest, emission.shape[0], padded)


def _log_sum(xp: Any, x: Any, axis: int) -> Any:
    """log of the sum of exp along an axis, where -inf is no path."""
    top = xp.max(x, axis=axis, keepdims=True, initial=-np.inf)
    safe = xp.where(xp.isinf(top), 0, top)
    with np.errstate(divide="ignore"):
        return xp.squeeze(safe, axis) + xp.log(xp.sum(xp.exp(x - safe), axis=axis))


# ---- loss --------------------------------------------------------------------------------------


@op(outputs=("out", "log_alpha"))
def crf_sequence_loss(emission, transition, labels, row_splits):
    """-log of the probability of the tags of each row, (out, log_alpha).

    emission: [T, K], the scores of the tags at each step; transition: [K + 2, K], see the module;
    labels: integers [T]; row_splits: [N + 1]. out: [N], 0 for an empty row; log_alpha: [T, K], log
    of the sum over all tags of the steps before, which the gradient needs.
    Raises ArgumentError, when it runs, for labels that are no tags; under XLA, which cannot raise,
    the loss is NaN.
    """
    _check(emission, transition, row_splits, labels)
    return Spec((row_count(row_splits),), emission.dtype), emission


def _checked_labels(xp: Any, labels: Any, tags: int) -> tuple[Any, Any]:
    """(labels, those that are no tags replaced, which those are). NumPy's raise instead."""
    wrong = (labels < 0) | (labels >= tags)
    if xp is np and wrong.any():
        raise ArgumentError(
            "a label is no tag",
            expected=f"0 <= label < {tags}",
            got=f"{labels[wrong][0]} at step {int(np.argmax(wrong))}",
        )
    return xp.where(wrong, 0, labels), wrong


def _moves(xp: Any, labels: Any, row_splits: Any, total: int) -> tuple[Any, Any, Any, Any]:
    """(row of each step, where in transition its move stands, whether it is the last, checked)."""
    splits = checked_splits(xp, row_splits, total)
    places = xp.arange(total)
    ids = xp.searchsorted(splits, places, side="right") - 1
    first, last = places == splits[:-1][ids], places == splits[1:][ids] - 1
    return ids, xp.where(first, 0, 2 + xp.roll(labels, 1)), last, splits


@crf_sequence_loss.compute
@in_float32
def _(xp, emission, transition, labels, row_splits):
    batch = _batch(xp, emission, row_splits)
    start, stop, pair = transition[0], transition[1], transition[2:]
    n, (total, tags) = batch.lengths.shape[0], emission.shape

    def advance(t: Any, carry: Any) -> Any:
        alpha, table = carry
        active, places = batch.places(xp, t)
        moved = xp.where(t == 0, start, _log_sum(xp, alpha[:, :, None] + pair, 1))
        alpha = xp.where(active[:, None], moved + batch.padded[places], alpha)
        return alpha, put_at(table, places, alpha)

    carry = xp.zeros((n, tags), emission.dtype), xp.zeros((total + 1, tags), emission.dtype)
    alpha, table = repeat_steps(xp, batch.longest, advance, carry)
    score = _scores(xp, emission, transition, labels, row_splits, n)
    loss = xp.where(batch.lengths > 0, _log_sum(xp, alpha + stop, 1) - score, 0)
    return loss.astype(emission.dtype), table[:total]


def _scores(
    xp: Any, emission: Any, transition: Any, labels: Any, row_splits: Any, count: int
) -> Any:
    """The score of the labels of each row: [N]."""
    total, tags = emission.shape
    labels, wrong = _checked_labels(xp, labels, tags)
    ids, move, last, _ = _moves(xp, labels, row_splits, total)
    score = emission[xp.arange(total), labels] + transition[move, labels]
    score = score + xp.where(last, transition[1][labels], 0)
    score = xp.where(wrong, xp.nan, score)
    return add_at(xp, xp.zeros(count, emission.dtype), ids, score, unique=False)


@crf_sequence_loss.grad
def _(emission, transition, labels, row_splits, out, log_alpha, g_out):
    if g_out is None:
        return None
    saved = (out, log_alpha, g_out)
    de, dt = o.crf_sequence_loss_grad(emission, transition, labels, row_splits, *saved)
    return de, dt, None, None


@op(outputs=("d_emission", "d_transition"))
def crf_sequence_loss_grad(emission, transition, labels, row_splits, loss, log_alpha, grad):
    """Gradients of `crf_sequence_loss`: how likely a tag or a move is, less whether it is right.

    loss, log_alpha: as `crf_sequence_loss` gives them; grad: [N]. d_emission: [T, K];
    d_transition: [K + 2, K].
    """
    _check(emission, transition, row_splits, labels)
    require_same_shape(emission, log_alpha, "log_alpha")
    for name, value in {"loss": loss, "grad": grad}.items():
        need_rows(value, row_splits, name)
    return emission, transition


@crf_sequence_loss_grad.compute
@in_float32
def _(xp, emission, transition, labels, row_splits, loss, log_alpha, grad):
    batch = _batch(xp, emission, row_splits)
    total, tags = emission.shape
    stop, pair = transition[1], transition[2:]
    alphas = xp.concatenate([log_alpha, xp.zeros((1, tags), log_alpha.dtype)])
    score = _scores(xp, emission, transition, labels, row_splits, batch.lengths.shape[0])
    log_total = (loss + score)[:, None]

    def retreat(i: Any, carry: Any) -> Any:
        beta, marginal, moves = carry
        t = batch.longest - 1 - i
        active, places = batch.places(xp, t)
        beta = xp.where((t == batch.lengths - 1)[:, None], stop, beta)
        here = xp.exp(alphas[places] + beta - log_total) * grad[:, None]
        x = batch.padded[places] + beta
        before = alphas[xp.maximum(places - 1, 0)]
        both = xp.exp(before[:, :, None] + pair + (x - log_total)[:, None, :])
        counts = (active & (t > 0))[:, None, None]
        moves = moves + xp.sum(xp.where(counts, both * grad[:, None, None], 0), axis=0)
        beta = xp.where(active[:, None], _log_sum(xp, pair + x[:, None, :], 2), beta)
        return beta, put_at(marginal, places, here), moves

    zeros = xp.zeros((batch.lengths.shape[0], tags), emission.dtype)
    carry = zeros, xp.zeros((total + 1, tags), emission.dtype), xp.zeros_like(pair)
    _, marginal, moves = repeat_steps(xp, batch.longest, retreat, carry)
    marginal = marginal[:total]
    return _less_truth(xp, marginal, moves, labels, row_splits, grad)


def _less_truth(
    xp: Any, marginal: Any, moves: Any, labels: Any, row_splits: Any, grad: Any
) -> tuple[Any, Any]:
    """Expected counts of tags and moves, less those of the labels."""
    total, tags = marginal.shape
    labels, _ = _checked_labels(xp, labels, tags)
    ids, move, last, _ = _moves(xp, labels, row_splits, total)
    first = move == 0
    slope = grad[ids]
    edges = [xp.sum(xp.where(at[:, None], marginal, 0), axis=0) for at in (first, last)]
    d_transition = xp.concatenate([xp.stack(edges), moves])
    d_transition = add_at(xp, d_transition, (move, labels), -slope, unique=False)
    ends = xp.where(last, -slope, 0)
    d_transition = add_at(xp, d_transition, (xp.ones_like(move), labels), ends, unique=False)
    d_emission = add_at(xp, marginal, (xp.arange(total), labels), -slope)
    return d_emission, d_transition


# ---- best path ---------------------------------------------------------------------------------


@op(outputs=("path", "score"))
def crf_decode(emission, transition, row_splits):
    """(path, score): the best tags of each row, int64 [T], and their score [N].  (Viterbi, 1967)

    emission: [T, K]; transition: [K + 2, K], see the module; row_splits: [N + 1]. Of equal paths
    the one with the lower tags, looked at from the end. An empty row has score 0.
    """
    _check(emission, transition, row_splits)
    count = row_count(row_splits)
    return Spec(emission.shape[:1], "int64"), Spec((count,), emission.dtype)


@crf_decode.compute
@in_float32
def _(xp, emission, transition, row_splits):
    batch = _batch(xp, emission, row_splits)
    start, stop, pair = transition[0], transition[1], transition[2:]
    n, (total, tags) = batch.lengths.shape[0], emission.shape
    if not total:
        return xp.zeros(0, "int64"), xp.zeros(n, emission.dtype)

    def advance(t: Any, carry: Any) -> Any:
        best, came = carry
        active, places = batch.places(xp, t)
        ways = best[:, :, None] + pair
        moved = xp.where(t == 0, start, xp.max(ways, axis=1)) + batch.padded[places]
        came = put_at(came, places, xp.argmax(ways, axis=1))
        return xp.where(active[:, None], moved, best), came

    carry = xp.zeros((n, tags), emission.dtype), xp.zeros((total + 1, tags), "int64")
    best, came = repeat_steps(xp, batch.longest, advance, carry)

    def retreat(i: Any, carry: Any) -> Any:
        tag, path = carry
        active, places = batch.places(xp, batch.longest - 1 - i)
        path = put_at(path, places, tag)
        return xp.where(active, came[places, tag], tag), path

    tag = xp.argmax(best + stop, axis=1)
    path = repeat_steps(xp, batch.longest, retreat, (tag, xp.zeros(total + 1, "int64")))[1]
    score = xp.where(batch.lengths > 0, xp.max(best + stop, axis=1), 0)
    return path[:total], score.astype(emission.dtype)


@crf_decode.decompose
def _(emission, transition, row_splits):
    """Two scans over the packed positions: on to the best scores, back along where they came."""
    total, dtype = emission.shape[0], emission.dtype
    start, stop = transition[0], transition[1]
    pair = o.slice(transition, axes=(0,), starts=(2,), stops=(None,))
    ones = o.fill(shape=(row_count(row_splits),), value=1.0, dtype=dtype)
    firsts, lasts = (
        o.greater(o.sequence_place(ones, row_splits, total=total, first=first), 0.0)
        for first in (True, False)
    )

    def advance(best: Any, xs: Any) -> Any:
        first, scores = xs
        ways = o.add(o.unsqueeze(best, axis=1), pair)
        best = o.add(o.where(first, start, o.reduce_max(ways, axis=0)), scores)
        ends = o.add(best, stop)
        came, end = o.argmax(ways, axis=0), o.argmax(ends, axis=0)
        return best, (came, end, o.reduce_max(ends, axis=0))

    nothing = o.fill(shape=start.shape, value=0.0, dtype=dtype)
    came, ends, scores = scan(advance, nothing, (firsts, emission))[1]

    def retreat(tag: Any, xs: Any) -> Any:
        last, end, came = xs
        tag = o.where(last, end, tag)
        return o.gather(came, tag), tag

    path = scan(retreat, 0, (lasts, ends, came), reverse=True)[1]
    return path, o.sequence_end(scores, row_splits)
