"""Label sequences compared and read: edit distance, chunks, the greedy and beam reading of CTC."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from noria.core.dims import known_ge
from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal
from noria.ops.numeric import in_float32, spec_of
from noria.ops.packed import checked_splits, data_size, need_numpy, row_count, rows_of
from noria.ops.ragged import sequence_filter

# ---- edit distance -----------------------------------------------------------------------------


@op
def edit_distance(hypotheses, hypothesis_splits, references, reference_splits, *, normalized=False):
    """Insertions, deletions and substitutions between rows of labels: float32 [N].

    hypotheses, references: integers [T], [U], as many rows of each. normalized: divided by the
    length of the reference; then an empty one raises ArgumentError, when it runs.
    (Levenshtein, 1966.) XLA cannot compile it: it loops over what only the data tell.
    """
    need_integer(hypotheses, references)
    need_rank(hypotheses, 1, what="hypotheses")
    need_rank(references, 1, what="references")
    count = row_count(reference_splits)
    require_equal(row_count(hypothesis_splits), count, "the rows of hypotheses and of references")
    return Spec((count,), "float32")


@edit_distance.compute
def _(xp, hypotheses, hypothesis_splits, references, reference_splits, normalized):
    need_numpy(xp, "edit_distance")
    ours, our_lengths = _padded(hypotheses, hypothesis_splits, -1)
    theirs, their_lengths = _padded(references, reference_splits, -2)
    if normalized and (their_lengths == 0).any():
        row = int(np.argmax(their_lengths == 0))
        raise ArgumentError(f"row {row} of references is empty, nothing to divide by")
    rows = np.arange(len(ours))
    place = np.arange(theirs.shape[1] + 1)
    cost = np.broadcast_to(place, (len(ours), len(place)))
    out = cost[rows, their_lengths]
    for i in range(ours.shape[1]):
        swapped = cost[:, :-1] + (theirs != ours[:, i, None])
        best = np.minimum(cost[:, 1:] + 1, swapped)
        best = np.concatenate([np.full((len(ours), 1), i + 1), best], 1)
        # an insertion after whatever is best: a running minimum along the reference
        cost = np.minimum.accumulate(best - place, axis=1) + place
        out = np.where(our_lengths == i + 1, cost[rows, their_lengths], out)
    return (out / their_lengths if normalized else out).astype(np.float32)


def _padded(x: Any, row_splits: Any, fill: int) -> tuple[Any, Any]:
    splits = checked_splits(np, row_splits, len(x))
    lengths = np.diff(splits)
    out = np.full((len(lengths), lengths.max(initial=0)), fill, np.int64)
    out[np.arange(out.shape[1]) < lengths[:, None]] = x
    return out, lengths


# ---- chunks ------------------------------------------------------------------------------------

# for each scheme the numbers of its tags: begin, inside, end, single
_TAGS = {
    "IOB": (0, 1, None, None),
    "IOE": (None, 0, 1, None),
    "IOBES": (0, 1, 2, 3),
    "plain": (None, None, None, None),
}


@op
def chunk_counts(predicted, labels, row_splits, *, types, scheme="IOB", excluded=()):
    """How many chunks were predicted, are there, and were found rightly: int64 [3].

    predicted, labels: integers [T]: type * tags + tag, where the scheme has 2 tags (IOB: begin,
    inside; IOE: inside, end), 4 (IOBES: begin, inside, end, single) or 1 (plain); types * tags is
    no chunk. A chunk is right if its type and both its ends are. excluded: types not counted.
    (Tjong Kim Sang and Buchholz, 2000.) Raises ArgumentError, when it runs, for other labels.
    """
    need_integer(predicted, labels)
    need_rank(predicted, 1, what="predicted")
    need_rank(labels, 1, what="labels")
    require_equal(predicted.shape[0], labels.shape[0], "the steps of predicted and of labels")
    row_count(row_splits)
    if scheme not in _TAGS:
        raise ArgumentError("unknown scheme of chunks", expected=", ".join(_TAGS), got=repr(scheme))
    if not isinstance(types, int) or types < 1:
        raise ArgumentError("types is the number of chunk types", got=repr(types))
    return Spec((3,), "int64")


@chunk_counts.compute
def _(xp, predicted, labels, row_splits, types, scheme, excluded):
    total = labels.shape[0]
    ids = rows_of(xp, row_splits, total)
    first = xp.concatenate([xp.ones(min(total, 1), bool), ids[1:] != ids[:-1]])
    found = [_chunks(xp, x, first, types, scheme) for x in (predicted, labels)]
    counted = []
    for begin, _, kind in found:
        for t in excluded:
            begin = begin & (kind != t)
        counted.append(begin)
    (_, end, kind), (_, true_end, true_kind) = found
    right = counted[0] & counted[1] & (end == true_end) & (kind == true_kind)
    return xp.stack([xp.sum(x) for x in (*counted, right)]).astype("int64")


def _chunks(xp: Any, labels: Any, first: Any, types: int, scheme: str) -> tuple[Any, Any, Any]:
    """(whether a chunk begins at a step, where what is at a step ends, its type)."""
    tags = _TAGS[scheme]
    count = max((t for t in tags if t is not None), default=0) + 1
    wrong = (labels < 0) | (labels > types * count)
    if xp is np and wrong.any():
        limit, got = f"0 <= label <= {types * count}", str(labels[wrong][0])
        raise ArgumentError("a label is no tag of a chunk", expected=limit, got=got)
    tag, kind = labels % count, labels // count
    here = kind != types
    before_tag, before = xp.roll(tag, 1), xp.where(first, types, xp.roll(kind, 1))
    begin, inside, end, single = tags
    starts = _among(tag, begin, single)
    starts = starts | (_among(tag, inside, end) & _among(before_tag, end, single))
    begins = here & ((before != kind) | starts)
    total = labels.shape[0]
    place = xp.arange(total)
    edges = xp.where(begins | ~here | first, place, total)
    # the next edge behind a step: the smallest from the right
    behind = xp.concatenate([edges[1:], xp.full(min(total, 1), total)])
    stops = xp.flip(_running_min(xp, xp.flip(behind)))
    return begins, stops, kind


def _running_min(xp: Any, x: Any) -> Any:
    if xp is np:
        return np.minimum.accumulate(x)
    from jax.lax import cummin

    return cummin(x)


def _among(x: Any, *tags: int | None) -> Any:
    found = x != x
    for t in tags:
        if t is not None:
            found = found | (x == t)
    return found


# ---- reading CTC -------------------------------------------------------------------------------


def ctc_collapse(
    labels: Any, row_splits: Any, *, size: str, blank: int = 0, merge: bool = True
) -> Any:
    """Rows without repetitions and blanks: (labels, row_splits).  (Graves et al., 2006)

    labels: integers [T]; size: the name of a new symbol, for how many are left
    merge: of equal labels in a row one is left; a blank between them keeps both
    """
    keep = o.not_equal(labels, blank)
    if merge:
        total = spec_of(labels).shape[0]
        ids = o.sequence_ids(row_splits, total=total)
        first = o.equal(o.gather(row_splits, ids), o.arange(stop=total))
        same = o.equal(labels, o.roll(labels, shift=1, axis=0))
        keep = o.logical_and(keep, o.logical_or(first, o.logical_not(same)))
    return sequence_filter(labels, row_splits, keep, size=size)


def ctc_greedy_decode(logits: Any, row_splits: Any, *, size: str, blank: int = 0) -> Any:
    """The labels of the most likely class of each step: (labels int64, row_splits).

    logits: [T, C], packed rows; size, blank: as of `ctc_collapse`
    """
    return ctc_collapse(o.argmax(logits, axis=1), row_splits, size=size, blank=blank)


@op(outputs=("labels", "row_splits", "scores"))
def ctc_beam_decode(logits, row_splits, *, beam_size, size, blank=0):
    """(labels, row_splits, scores): the most likely labels of each row.  (Hannun et al., 2014)

    logits: [T, C], packed rows of unnormalised scores; labels: int64 [size]; row_splits: [N + 1];
    scores: [N], log of the probability of the labels, summed over the alignments that were kept.
    beam_size: how many prefixes are kept at each step; size: the name of a new symbol. With as many
    prefixes as there can be it is exact. XLA cannot compile it.
    """
    need_float(logits)
    need_rank(logits, 2, what="logits")
    if not isinstance(beam_size, int) or beam_size < 1:
        raise ArgumentError("beam_size is a positive number", got=repr(beam_size))
    classes = logits.shape[1]
    if not isinstance(blank, int) or blank < 0 or known_ge(blank, classes):
        raise ArgumentError("blank is a class", expected=f"0 to {classes} - 1", got=repr(blank))
    count = row_count(row_splits)
    ids, splits = Spec((data_size(size),), "int64"), Spec((count + 1,), "int64")
    return ids, splits, Spec((count,), logits.dtype)


@ctc_beam_decode.compute
@in_float32
def _(xp, logits, row_splits, beam_size, size, blank):
    need_numpy(xp, "ctc_beam_decode")
    splits = checked_splits(np, row_splits, len(logits))
    top = logits.max(axis=1, keepdims=True, initial=-np.inf)
    scores = logits - top
    scores = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    if np.isnan(scores).any():
        raise ArgumentError("the largest logit of a step must be finite", got="NaN or infinity")
    found = [_best_prefix(scores[a:b], beam_size, blank) for a, b in pairwise(splits.tolist())]
    labels = np.array([k for prefix, _ in found for k in prefix], np.int64)
    lengths = np.cumsum([0, *(len(prefix) for prefix, _ in found)]).astype(np.int64)
    return labels, lengths, np.array([score for _, score in found], logits.dtype)


def _best_prefix(scores: Any, beam_size: int, blank: int) -> tuple[tuple[int, ...], float]:
    """The most likely labels of one row of log probabilities [T, C], and log of how likely.

    A prefix has two probabilities: that of alignments that end in a blank, and of the others.
    """
    prefixes: list[tuple[int, ...]] = [()]
    ends_blank, ends_label = np.zeros(1), np.full(1, -np.inf)
    for row in scores.astype(np.float64):
        total = np.logaddexp(ends_blank, ends_label)
        last = np.array([p[-1] if p else blank for p in prefixes])
        started = last != blank
        longer = total[:, None] + row
        longer[:, blank] = -np.inf
        # the same label again makes a longer prefix only after a blank
        rows = np.flatnonzero(started)
        longer[rows, last[rows]] = ends_blank[rows] + row[last[rows]]
        same = np.where(started, ends_label + row[last], -np.inf)
        place = {p: i for i, p in enumerate(prefixes)}
        for i, prefix in enumerate(prefixes):
            parent = place.get(prefix[:-1]) if prefix else None
            if parent is not None:  # an alignment of the shorter prefix becomes one of this
                same[i] = np.logaddexp(same[i], longer[parent, prefix[-1]])
                longer[parent, prefix[-1]] = -np.inf
        stays = np.stack([total + row[blank], same])
        every = np.concatenate([np.logaddexp(*stays), longer.ravel()])
        kept = np.argsort(-every, kind="stable")[:beam_size]
        kept = kept[every[kept] > -np.inf]
        old, count = kept < len(prefixes), len(prefixes)
        parents, labels = np.divmod(np.maximum(kept - count, 0), len(row))
        source = np.where(old, np.minimum(kept, count - 1), parents)
        prefixes = [
            prefixes[s] if o_ else (*prefixes[s], int(k))
            for s, o_, k in zip(source, old, labels, strict=True)
        ]
        ends_blank = np.where(old, stays[0, source], -np.inf)
        ends_label = np.where(old, stays[1, source], every[kept])
    total = np.logaddexp(ends_blank, ends_label)
    if not len(total):
        return (), -np.inf
    best = int(np.argmax(total))
    return prefixes[best], float(total[best])
