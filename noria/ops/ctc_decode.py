"""The best label sequences of a network trained with CTC."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, EngineError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal

Prefix = tuple[int, ...]


@op(outputs=("counts", "labels", "probabilities"))
def ctc_beam_search(x, lengths, *, size, beam_size=10, candidates=1, least=0.0):
    """Prefix beam search: the likeliest label sequences of each example.  (Hannun et al., 2014)

    x: [T, N, C], probabilities of each step, class 0 the blank; lengths: integers [N], steps of
    each example. After each step the beam_size best prefixes stay; classes of a probability not
    above `least` are skipped, unless all are.
    Results: counts int64 [N * candidates], labels int64 [size] (the name of a new symbol), one
    sequence behind the other, and probabilities [N * candidates]; where there are fewer sequences
    the rest are empty, of probability 0. Raises ArgumentError, when it runs, for bad lengths.
    """
    need_float(x)
    need_rank(x, 3)
    need_integer(lengths)
    need_rank(lengths, 1, what="lengths")
    require_equal(x.shape[1], lengths.shape[0], "examples and lengths")
    if not all(isinstance(n, int) and n >= 1 for n in (beam_size, candidates)):
        raise ArgumentError("numbers of sequences are 1 or more", got=f"{beam_size}, {candidates}")
    if not isinstance(size, str):
        raise ArgumentError("size must be the name of a new symbol", got=repr(size))
    rows = x.shape[1] * candidates
    return Spec((rows,), "int64"), Spec((symbol(size),), "int64"), Spec((rows,), x.dtype)


@ctc_beam_search.compute
def _(xp, x, lengths, size, beam_size, candidates, least):
    if xp is not np:
        raise EngineError(
            "XLA cannot compile ctc_beam_search: only the data tell its size",
            hint="run this Program by another engine",
        )
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= len(x):
        raise ArgumentError("lengths must lie within the steps", got=str(lengths)[:60])
    counts: list[int] = []
    labels: list[int] = []
    scores: list[float] = []
    for example, steps in enumerate(lengths.tolist()):
        found = _search(x[:steps, example], beam_size, float(least))[:candidates]
        for prefix, score in [*found, *[((), 0.0)] * (candidates - len(found))]:
            counts.append(len(prefix))
            labels.extend(prefix)
            scores.append(score)
    return np.array(counts, np.int64), np.array(labels, np.int64), np.array(scores, x.dtype)


def _search(x: np.ndarray, beam_size: int, least: float) -> list[tuple[Prefix, float]]:
    """Label sequences of one example [T, C] with their probabilities, best first.

    Of each prefix it keeps how likely it is to end in a blank, and in a label.
    """
    ends: dict[Prefix, tuple[float, float]] = {(): (1.0, 0.0)}
    beam: list[tuple[Prefix, float]] = [((), 1.0)]
    for row in x.astype(np.float64):
        ends = _extended(row, [p for p, _ in beam], ends, least)
        ranked = sorted(((-sum(e), p) for p, e in ends.items()))
        beam = [(p, -score) for score, p in ranked[:beam_size]]
    return beam


def _extended(
    row: np.ndarray, beam: list[Prefix], ends: dict[Prefix, tuple[float, float]], least: float
) -> dict[Prefix, tuple[float, float]]:
    """Prefixes of a beam after one more step."""
    classes = np.flatnonzero(row > least)
    classes = classes if len(classes) else np.arange(len(row))
    blank: dict[Prefix, float] = defaultdict(float)
    label: dict[Prefix, float] = defaultdict(float)
    inside = set(beam)
    for prefix in beam:
        by_blank, by_label = ends[prefix]
        for c in classes.tolist():
            if c == 0:
                blank[prefix] += row[0] * (by_blank + by_label)
                continue
            longer = (*prefix, c)
            if prefix and prefix[-1] == c:
                label[longer] += row[c] * by_blank
                label[prefix] += row[c] * by_label
            else:
                label[longer] += row[c] * (by_blank + by_label)
            if longer not in inside and longer in ends:
                blank[longer] += row[0] * sum(ends[longer])
                label[longer] += row[c] * ends[longer][1]
    return {p: (blank[p], label[p]) for p in {*blank, *label}}
