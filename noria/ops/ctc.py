"""Connectionist temporal classification: the loss of a labelling whose alignment is not known.

(Graves, Fernández, Gomez and Schmidhuber, 2006.) Everything is done with logarithms, so that no
sequence is too long or too unlikely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.numeric import in_float32


@op(outputs=("out", "log_alpha", "log_total"))
def ctc_sequence_loss(logits, starts, lengths, labels, label_lengths, *, blank=0, step=1):
    """-log of the probability of each labelling, summed over all its alignments.

    logits: [R, C], the unnormalised scores of all steps of all sequences. Step t of sequence n is
    row starts[n] + t * step, for t < lengths[n]: a ragged batch has starts = row_splits[:-1]; a
    padded one [N, T, C], reshaped, starts = n * T; a time-major one [T, N, C] starts = n, step = N.
    labels: integers [N, W], of which the first label_lengths[n] count: classes other than `blank`.
    out: [N]; infinite for a sequence too short for its labels, which then has no gradient.
    log_alpha: [R, 2 W + 1], log of the probability of all that leads to a state (the labels, with
    blanks before, between and behind them) at a row; log_total: [R], log of the sum of exp(logits).
    Raises ArgumentError, when it runs, for rows or labels that are not there; under XLA, which
    cannot raise, the loss is NaN.
    """
    _check(logits, starts, lengths, labels, label_lengths)
    if not isinstance(blank, int) or blank < 0:
        raise ArgumentError("blank is a class", expected="blank >= 0", got=repr(blank))
    rows, width = logits.shape[0], labels.shape[1]
    out = Spec((labels.shape[0],), logits.dtype)
    return out, Spec((rows, 2 * width + 1), logits.dtype), Spec((rows,), logits.dtype)


def _check(logits: Spec, starts: Spec, lengths: Spec, labels: Spec, label_lengths: Spec) -> None:
    need_float(logits)
    need_rank(logits, 2, what="logits")
    need_rank(labels, 2, what="labels")
    need_integer(starts, lengths, labels, label_lengths)
    named = (starts, "starts"), (lengths, "lengths"), (label_lengths, "label_lengths")
    for value, name in named:
        if value.ndim != 1:
            raise ShapeError(f"{name} has one number for each sequence", got=str(value))
        require_equal(labels.shape[0], value.shape[0], f"the sequences of labels and of {name}")


class _Batch(NamedTuple):
    """A batch laid out for recursions over time: n sequences, s states, c classes."""

    rows: Callable[[Any], Any]  # step -> row of each sequence, the number of rows where it ended
    steps: int  # enough for the longest sequence
    lengths: Any  # [n]
    states: Any  # [n, s], the class of each state
    real: Any  # [n, s], whether a state belongs to the labels
    skip: Any  # [n, s], whether a path may come from two states before
    final: Any  # [n, s], whether a path may end here
    scores: Any  # [r, c], log of the probabilities
    total: Any  # [r]
    bad: Any  # [n], sequences that make no sense


def _batch(
    xp: Any, logits: Any, starts: Any, lengths: Any, labels: Any, count: Any, blank: int, step: int
) -> _Batch:
    r, c = logits.shape
    n, w = labels.shape
    place = xp.arange(2 * w + 1)
    used = xp.arange(w)[None, :] < count[:, None]
    wrong = used & ((labels < 0) | (labels >= c) | (labels == blank))
    last = starts + (lengths - 1) * step
    bad = wrong.any(1) | (count < 0) | (count > w) | (lengths < 0)
    bad = bad | ((lengths > 0) & ((starts < 0) | (last >= r)))
    if xp is np:
        _raise(bad, wrong, labels, lengths, starts, count, (r, c, w), blank)
    labels = xp.where(used & ~wrong, labels, blank)
    between = xp.full((n, w + 1), blank, labels.dtype)
    states = xp.stack([between[:, :w], labels], 2).reshape(n, 2 * w)
    states = xp.concatenate([states, between[:, :1]], 1)
    before = xp.concatenate([xp.full((n, 2), blank, states.dtype), states[:, :-2]], 1)[
        :, : 2 * w + 1
    ]
    end = 2 * count[:, None]
    top = xp.max(logits, axis=1, keepdims=True, initial=-np.inf)
    safe = xp.where(xp.isinf(top), 0, top)
    total = safe + xp.log(xp.sum(xp.exp(logits - safe), axis=1, keepdims=True))

    def rows(t: Any) -> Any:
        return xp.where(~bad & (t < lengths), starts + t * step, r)

    steps = int(lengths.max(initial=0)) if xp is np else -(-r // step)
    return _Batch(
        rows,
        steps,
        lengths,
        states,
        place[None, :] <= end,
        (place[None, :] >= 2) & (states != blank) & (states != before),
        (place[None, :] == end) | (place[None, :] == end - 1),
        logits - total,
        total[:, 0],
        bad,
    )


def _raise(
    bad: Any, wrong: Any, labels: Any, lengths: Any, starts: Any, count: Any, size: Any, blank: int
) -> None:
    """What is wrong with the first sequence that makes no sense."""
    if not bad.any():
        return
    n = int(np.argmax(bad))
    (rows, classes, width), where = size, f"sequence {n}"
    if wrong[n].any():
        expected = f"0 <= label < {classes}, not blank ({blank})"
        got = str(labels[n][wrong[n]][0])
        raise ArgumentError(f"a label of {where} is no class", expected=expected, got=got)
    if not 0 <= count[n] <= width:
        expected = f"0 <= label_lengths <= {width}"
        raise ArgumentError(
            f"the labels of {where} are not there", expected=expected, got=str(count[n])
        )
    raise ArgumentError(
        f"the steps of {where} are not among the logits",
        expected=f"rows 0 to {rows} - 1",
        got=f"{lengths[n]} steps from row {starts[n]}",
    )


def _log_sum(xp: Any, *terms: Any) -> Any:
    """log of the sum of exp, where -inf is no path."""
    top = terms[0]
    for x in terms[1:]:
        top = xp.maximum(top, x)
    safe = xp.where(top == -np.inf, 0, top)
    return safe + xp.log(sum(xp.exp(x - safe) for x in terms))


def _scores(xp: Any, batch: _Batch, rows: Any) -> Any:
    """[n, s], log of the probability of the class of each state; -inf where a sequence is over."""
    padded = xp.concatenate([batch.scores, xp.full_like(batch.scores[:1], -np.inf)])
    if not len(batch.scores):
        return xp.full(batch.states.shape, -np.inf, batch.scores.dtype)
    return xp.take_along_axis(padded[rows], batch.states, 1)


def _shifted(xp: Any, x: Any, by: int) -> Any:
    """x[:, s - by], -inf from outside."""
    gap = xp.full_like(x[:, :1], -np.inf)
    gap = xp.concatenate([gap] * abs(by), 1)
    n = x.shape[1]
    return xp.concatenate([gap, x], 1)[:, :n] if by > 0 else xp.concatenate([x, gap], 1)[:, -n:]


def _forward(xp: Any, batch: _Batch, t: Any, rows: Any, alpha: Any) -> Any:
    """log alpha [n, s] of step t from that of step t - 1."""
    place = xp.arange(alpha.shape[1])[None, :]
    begin = xp.where((place < 2) & batch.real, 0, -np.inf).astype(alpha.dtype)
    two = xp.where(batch.skip, _shifted(xp, alpha, 2), -np.inf)
    path = xp.where(t == 0, begin, _log_sum(xp, alpha, _shifted(xp, alpha, 1), two))
    known = xp.where(batch.real, path + _scores(xp, batch, rows), -np.inf)
    return xp.where((t < batch.lengths)[:, None], known, alpha)


def _backward(xp: Any, batch: _Batch, t: Any, later: Any, beta: Any) -> Any:
    """log beta [n, s] of step t without its own score, from that of t + 1 (its rows: `later`)."""
    x = beta + _scores(xp, batch, later)
    skip = _shifted(xp, xp.where(batch.skip, x, -np.inf), -2)
    path = _log_sum(xp, x, _shifted(xp, x, -1), skip)
    ends = xp.where(batch.final, 0, -np.inf).astype(beta.dtype)
    behind = (t == batch.lengths - 1)[:, None]
    return xp.where(behind, ends, xp.where((t < batch.lengths)[:, None], path, -np.inf))


def _walk(xp: Any, steps: int, reverse: bool, carry: Any, f: Callable[[Any, Any], Any]) -> Any:
    """carry = f(t, carry) for every t, backwards if `reverse`."""
    if xp is not np:
        from jax.lax import fori_loop

        return fori_loop(0, steps, lambda i, x: f(steps - 1 - i if reverse else i, x), carry)
    for i in range(steps):
        carry = f(steps - 1 - i if reverse else i, carry)
    return carry


def _put(xp: Any, array: Any, rows: Any, values: Any) -> Any:
    """`array` with these rows; the row behind the last is for what goes nowhere."""
    if xp is not np:
        return array.at[rows].set(values)
    array[rows] = values
    return array


@ctc_sequence_loss.compute
@in_float32
def _(xp, logits, starts, lengths, labels, label_lengths, blank, step):
    batch = _batch(xp, logits, starts, lengths, labels, label_lengths, blank, step)
    nothing = xp.full(batch.states.shape, -np.inf, logits.dtype)
    table = xp.full((logits.shape[0] + 1, nothing.shape[1]), -np.inf, logits.dtype)

    def advance(t: Any, carry: Any) -> Any:
        alpha, history = carry
        rows = batch.rows(t)
        alpha = _forward(xp, batch, t, rows, alpha)
        return alpha, _put(xp, history, rows, alpha)

    last, table = _walk(xp, batch.steps, False, (nothing, table), advance)
    ends = xp.where(batch.final & batch.real, last, -np.inf)
    none = (lengths == 0) & (label_lengths == 0)  # nothing to say, nothing said
    out = xp.where(none, 0, -_log_sum(xp, *(ends[:, s] for s in range(ends.shape[1]))))
    return xp.where(batch.bad, np.nan, out).astype(logits.dtype), table[:-1], batch.total


@ctc_sequence_loss.grad
def _(logits, starts, lengths, labels, label_lengths, out, log_alpha, log_total, g_out, op):
    if g_out is None:
        return None
    given = (starts, lengths, labels, label_lengths, out, log_alpha, log_total, g_out)
    return o.ctc_sequence_loss_grad(logits, *given, **op.attrs)


@op
def ctc_sequence_loss_grad(
    logits,
    starts,
    lengths,
    labels,
    label_lengths,
    loss,
    log_alpha,
    log_total,
    grad,
    *,
    blank=0,
    step=1,
):
    """Gradient of `ctc_sequence_loss` in logits.

    (softmax - how likely each class is here, given the labels) * grad; zero for rows of no sequence
    and of sequences with infinite loss.

    loss, log_alpha, log_total: as `ctc_sequence_loss` gives them; grad: [N].
    """
    _check(logits, starts, lengths, labels, label_lengths)
    need_rank(grad, 1, what="grad")
    require_equal(labels.shape[0], grad.shape[0], "the sequences of labels and of grad")
    return logits


@ctc_sequence_loss_grad.compute
@in_float32
def _(
    xp,
    logits,
    starts,
    lengths,
    labels,
    label_lengths,
    loss,
    log_alpha,
    log_total,
    grad,
    blank,
    step,
):
    batch = _batch(xp, logits, starts, lengths, labels, label_lengths, blank, step)
    r, c = logits.shape
    alphas = xp.concatenate([log_alpha, xp.full_like(log_alpha[:1], -np.inf)]) if r else log_alpha
    chosen = (batch.states[:, :, None] == xp.arange(c)).astype(logits.dtype)
    dead = xp.isposinf(loss)[:, None]
    log_prob = -xp.where(dead, 0, loss[:, None])
    prob = xp.concatenate([xp.exp(batch.scores), xp.zeros_like(logits[:1])])

    def retreat(t: Any, carry: Any) -> Any:
        beta, table = carry
        rows = batch.rows(t)
        beta = _backward(xp, batch, t, batch.rows(t + 1), beta)
        here = xp.exp(alphas[rows] + beta - log_prob)
        expected = xp.einsum("ns,nsc->nc", here, chosen)  # NaN for all if it is for one
        value = xp.where(dead, 0, (prob[rows] - expected) * grad[:, None])
        return beta, _put(xp, table, rows, value)

    nothing = xp.full(batch.states.shape, -np.inf, logits.dtype)
    table = xp.zeros((r + 1, c), logits.dtype)
    return _walk(xp, batch.steps, True, (nothing, table), retreat)[1][:-1]
