"""Which prior is to find which object: matching, and targets by matches.  (SSD, Liu et al., 2016)

Objects of all images are packed, with row_splits [N + 1] as in `sequence`; each image has the same
M priors. A match is the number of an object within its image, or -1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal, require_same_shape
from noria.ops.detection.geometry import numpy_only
from noria.ops.detection.suppression import joined, new_symbol, splits_of
from noria.ops.packed import checked_splits, put_at, row_count, rows_of

LEAST = 1e-6  # a smaller overlap is none
MINING = ("max_negative", "hard_example")


@op(outputs=("match", "overlap"))
def bipartite_match(overlaps, row_splits=None, *, threshold=None):
    """(match int64 [N, M], its overlap [N, M]; -1 and 0 for none) of priors and objects.

    overlaps: [T, M] of objects with priors; row_splits absent: one image. The pair that overlaps
    most is matched first, then the most among what is left, until all objects have a prior.
    threshold: then each prior that is left takes the object it overlaps most, if by so much.
    """
    need_float(overlaps)
    need_rank(overlaps, 2, what="overlaps")
    images = 1 if row_splits is None else row_count(row_splits)
    shape = (images, overlaps.shape[1])
    return Spec(shape, "int64"), Spec(shape, overlaps.dtype)


def _best_pairs(overlaps: np.ndarray, match: np.ndarray) -> None:
    """Writes the match of each prior that gets one, the best pair first."""
    left = overlaps.copy()
    best = left.argmax(1) if left.size else np.zeros(len(left), np.int64)
    for _ in range(min(left.shape)):
        value = left[np.arange(len(left)), best]
        most = value.max()
        if not most >= LEAST:
            return
        ties = np.flatnonzero(value == most)
        row = ties[best[ties].argmin()]  # of equal pairs the first prior, then the first object
        column = best[row]
        match[column] = row
        left[row], left[:, column] = -1, -1
        stale = best == column
        best[stale] = left[stale].argmax(1)


@bipartite_match.compute
def _(xp, overlaps, row_splits, threshold):
    numpy_only(xp, "bipartite_match")
    splits = np.array([0, len(overlaps)]) if row_splits is None else row_splits
    splits = checked_splits(np, splits, len(overlaps))
    match = np.full((len(splits) - 1, overlaps.shape[1]), -1, np.int64)
    overlap = np.zeros(match.shape, overlaps.dtype)
    for n, own in enumerate(np.split(overlaps, splits[1:-1])):
        _best_pairs(own, match[n])
        if threshold is not None and own.size:
            good = own.max(0) >= max(own.dtype.type(threshold), LEAST)
            match[n] = np.where((match[n] < 0) & good, own.argmax(0), match[n])
        found = match[n] >= 0
        overlap[n, found] = own[match[n, found], np.flatnonzero(found)]
    return match, overlap


@op(outputs=("targets", "weights"))
def target_assign(values, match, row_splits, negatives=None, negative_splits=None, *, mismatch=0):
    """(targets [N, M, K], weights float32 [N, M, 1]) of priors by the objects they matched.

    values: [T, P, K], a value of each object for each of P kinds of prior, prior m being of kind
    m modulo P; match: integers [N, M]. A prior without an object gets `mismatch`, with weight 0.
    negatives: integers [L], priors whose target is `mismatch` with weight 1, packed by
    negative_splits [N + 1].
    """
    need_integer(match, negatives)
    need_rank(values, 3, what="values")
    need_rank(match, 2, what="match")
    if values.shape[1] == 0:
        raise ShapeError("an object has a value for one kind of prior at least", got=str(values))
    require_equal(row_count(row_splits), match.shape[0], "numbers of images")
    if (negatives is None) != (negative_splits is None):
        raise ArgumentError("negatives come with their negative_splits")
    if negatives is not None:
        need_rank(negatives, 1, what="negatives")
        require_equal(row_count(negative_splits), match.shape[0], "numbers of images")
    images, priors = match.shape
    targets = Spec((images, priors, values.shape[2]), values.dtype)
    return targets, Spec((images, priors, 1), "float32")


def _check_places(places: Any, below: Any, what: str) -> None:
    if ((places >= below) | (places < -1)).any():
        raise ArgumentError(f"{what} that is not there", expected="-1 or the number of one")


@target_assign.compute
def _(xp, values, match, row_splits, negatives, negative_splits, mismatch):
    splits = checked_splits(xp, row_splits, values.shape[0])
    if xp is np:
        _check_places(match, np.diff(splits)[:, None], "a match with an object")
    found = match >= 0
    kinds = xp.arange(match.shape[1]) % max(values.shape[1], 1)
    rows = splits[:-1, None] + xp.where(found, match, 0)
    other = xp.asarray(mismatch, values.dtype)
    if values.shape[0] == 0:
        targets = xp.full((*match.shape, values.shape[2]), other, values.dtype)
    else:
        rows = xp.clip(rows, 0, values.shape[0] - 1)
        targets = xp.where(found[..., None], values[rows, kinds], other)
    weights = found[..., None].astype("float32")
    if negatives is None:
        return targets, weights
    if xp is np:
        _check_places(negatives, match.shape[1], "a negative prior")
    at = rows_of(xp, negative_splits, negatives.shape[0]), negatives
    return put_at(targets, at, other), put_at(weights, at, 1.0)


@op(outputs=("negatives", "row_splits", "match"))
def mine_hard_examples(
    class_loss,
    match,
    overlap,
    location_loss=None,
    *,
    size,
    mining="max_negative",
    ratio=1.0,
    threshold=0.5,
    sample_size=0,
):
    """(negatives int64 [size], row_splits [N + 1], match [N, M]): priors that teach the most.

    Losses, integers match and overlap are [N, M]. "max_negative": of priors without a match that
    overlap by less than the threshold, those of the largest class loss, `ratio` for each that has
    one. "hard_example": the `sample_size` priors of the largest sum of losses; others lose their
    match. Negatives of an image come in order.
    """
    need_float(class_loss, overlap, location_loss)
    need_integer(match)
    need_rank(match, 2, what="match")
    for name, given in (("class_loss", class_loss), ("overlap", overlap)):
        require_same_shape(match, given, name)
    if location_loss is not None:
        require_same_shape(match, location_loss, "location_loss")
    if mining not in MINING:
        raise ArgumentError("unknown mining", expected=" or ".join(MINING), got=repr(mining))
    return (
        Spec((new_symbol(size),), "int64"),
        Spec((match.shape[0] + 1,), "int64"),
        Spec(match.shape, match.dtype),
    )


@mine_hard_examples.compute
def _(
    xp,
    class_loss,
    match,
    overlap,
    location_loss,
    size,
    mining,
    ratio,
    threshold,
    sample_size,
):
    numpy_only(xp, "mine_hard_examples")
    hard = mining == "hard_example"
    loss = class_loss + location_loss if hard and location_loss is not None else class_loss
    kept, rows = match.copy(), []
    for n, own in enumerate(match):
        free = own == -1
        able = np.ones(len(own), bool) if hard else free & (overlap[n] < threshold)
        count = sample_size if hard else int(np.sum(~free) * np.float32(ratio))
        chosen = np.flatnonzero(able)
        chosen = chosen[np.argsort(-loss[n, chosen], kind="stable")[: max(count, 0)]]
        taken = np.zeros(len(own), bool)
        taken[chosen] = True
        if hard:
            kept[n, ~free & ~taken] = -1
        rows.append(np.flatnonzero(taken & free))
    return joined(rows, (), np.int64), splits_of([len(r) for r in rows]), kept
