"""Beam search: one step of it, and reading what it found.

A sentence has some open prefixes ("beams"); each step scores every continuation of every prefix
and keeps the best `beam_size` of a sentence. What is kept is ragged: no place is lost to sentences
that have ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_float, need_integer, need_rank, require_equal, require_same_shape
from noria.ops.packed import checked_splits, data_size, need_numpy, row_count, rows_of


@op(outputs=("ids", "scores", "parents", "row_splits"))
def beam_search_step(
    last_ids,
    last_scores,
    scores,
    row_splits,
    candidates=None,
    *,
    beam_size,
    end_id,
    size,
    accumulated=True,
):
    """(ids, scores, parents, row_splits): the best continuations of the prefixes of each sentence.

    last_ids, last_scores: [P], the last word and the score of each prefix; row_splits: [N + 1],
    the prefixes of each sentence; scores: [P, K], of each continuation: in all if `accumulated`,
    else a probability, whose logarithm is added to that of the prefix; candidates: [P, K], which
    words they are, default 0 ... K - 1.
    A prefix that ended in end_id has one continuation, end_id, with its score. A sentence all of
    whose best continuations are such is finished, and has none.
    ids, scores, parents: [size], ordered by prefix, of one prefix the best first; row_splits:
    [P + 1], the continuations of each prefix. Of equal scores that of a later prefix is better,
    within one the first. size: the name of a new symbol. XLA cannot compile it.
    """
    need_float(last_scores, scores)
    need_integer(last_ids)
    need_rank(scores, 2, what="scores")
    row_count(row_splits)
    for name, value in {"last_ids": last_ids, "last_scores": last_scores}.items():
        require_same_shape(Spec(scores.shape[:1]), value, name)
    if candidates is not None:
        need_integer(candidates)
        require_same_shape(scores, candidates, "candidates")
    if not isinstance(beam_size, int) or beam_size < 1:
        raise ArgumentError("beam_size is a positive number", got=repr(beam_size))
    n, prefixes = data_size(size), scores.shape[0]
    ids = Spec((n,), "int64")
    return ids, Spec((n,), scores.dtype), ids, Spec((prefixes + 1,), "int64")


@beam_search_step.compute
def _(
    xp, last_ids, last_scores, scores, row_splits, candidates, beam_size, end_id, size, accumulated
):
    need_numpy(xp, "beam_search_step")
    prefixes, width = scores.shape
    sentence = rows_of(np, row_splits, prefixes)
    ended = last_ids == end_id
    if not accumulated:
        with np.errstate(divide="ignore"):
            scores = last_scores[:, None] + np.log(scores)
    words = np.broadcast_to(np.arange(width), scores.shape) if candidates is None else candidates
    going = np.flatnonzero(np.repeat(~ended, width))
    parents = np.concatenate([going // max(width, 1), np.flatnonzero(ended)])
    values = np.concatenate([scores.reshape(-1)[going], last_scores[ended]])
    ids = np.concatenate([words.reshape(-1)[going], last_ids[ended]]).astype(np.int64)
    # best first within a sentence; equal ones: the later prefix, then the earlier continuation
    order = np.lexsort((np.arange(len(parents)), -parents, -values, sentence[parents]))
    owner = sentence[parents[order]]
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    order = order[rank < beam_size]
    owner = sentence[parents[order]]
    open_ones = ~(ended[parents[order]] & (ids[order] == end_id))
    alive = np.bincount(owner[open_ones], minlength=len(row_splits) - 1) > 0
    order = order[alive[owner]]
    order = order[np.argsort(parents[order], kind="stable")]
    counts = np.bincount(parents[order], minlength=prefixes)
    splits = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ids[order], values[order].astype(scores.dtype), parents[order], splits


@op
def gather_tree(ids, parents):
    """The words of each beam from the first step on: [T, N, K].

    ids, parents: integers [T, N, K], the word of each beam at each step and the beam of the step
    before that it continues. (Wu et al., 2016.) Raises ArgumentError, when it runs, for parents
    that are no beams.
    """
    need_integer(ids, parents)
    need_rank(ids, 3, what="ids")
    require_same_shape(ids, parents, "parents")
    return ids


@gather_tree.compute
def _(xp, ids, parents):
    steps, _, beams = ids.shape
    if xp is np and ((parents[1:] < 0) | (parents[1:] >= beams)).any():
        raise ArgumentError("a parent is no beam", expected=f"0 <= parent < {beams}")
    beam = xp.broadcast_to(xp.arange(beams), ids.shape[1:])
    out = []
    for t in range(steps - 1, -1, -1):
        out.append(xp.take_along_axis(ids[t], beam, axis=1))
        beam = xp.take_along_axis(parents[t], beam, axis=1)
    return xp.stack(out[::-1]) if out else ids


@op(outputs=("ids", "scores", "sentence_splits", "row_splits"))
def beam_search_sentences(*steps, end_id, size, sentences):
    """(ids, scores, sentence_splits, row_splits): what a beam search found, the best first.

    steps: for each step four values: ids [S], scores [S], source_splits [N + 1], prefix_splits
    [P + 1]: the prefixes of each sentence, and the continuations of each prefix, as
    `beam_search_step` gives them. A search that ended earlier has no prefixes later on.
    ids, scores: [size], all words of all sentences found; sentence_splits: [N + 1], those of each
    source; row_splits: [sentences + 1], the words of each. Words behind the first end_id are left
    out. size, sentences: names of new symbols. XLA cannot compile it.
    """
    if not steps or len(steps) % 4:
        raise ArgumentError("a step is ids, scores and two splits", got=f"{len(steps)} values")
    for ids, scores, sources, prefixes in zip(*(steps[i::4] for i in range(4)), strict=True):
        need_integer(ids)
        need_float(scores)
        need_rank(ids, 1, 2, what="ids")
        require_same_shape(ids, scores, "scores")
        require_equal(row_count(sources), row_count(steps[2]), "the sources of all steps")
        row_count(prefixes)
    n, found = data_size(size), data_size(sentences)
    splits = Spec((found + 1,), "int64")
    return Spec((n,), "int64"), Spec((n,), steps[1].dtype), Spec(steps[2].shape, "int64"), splits


@beam_search_sentences.compute
def _(xp, *steps, end_id, size, sentences):
    need_numpy(xp, "beam_search_sentences")
    sources = len(steps[2]) - 1
    words: list[list[list[tuple[int, Any]]]] = [[] for _ in range(sources)]
    places: list[Any] = [np.zeros(0, np.int64)] * sources
    for k in range(len(steps) - 4, -1, -4):
        ids, scores, outer, inner = (np.ravel(v) for v in steps[k : k + 4])
        outer = checked_splits(np, outer, len(inner) - 1)
        inner = checked_splits(np, inner, len(ids))
        parent = np.repeat(np.arange(len(inner) - 1), np.diff(inner))
        for n in range(sources):
            if not words[n]:
                places[n] = np.arange(inner[outer[n]], inner[outer[n + 1]])
                words[n] = [[] for _ in places[n]]
            for row, at in zip(words[n], places[n], strict=True):
                if not row or ids[at] != end_id:
                    row.append((int(ids[at]), scores[at]))
            places[n] = parent[places[n]]
    return _joined(words, steps[1].dtype)


def _joined(words: list[list[list[tuple[int, Any]]]], dtype: Any) -> tuple[Any, ...]:
    """Rows of (word, score), last step first, as packed arrays, the best sentence first."""
    ranked = [sorted(rows, key=lambda row: -row[0][1]) for rows in words]
    flat = [pair for rows in ranked for row in rows for pair in reversed(row)]
    lengths = [len(row) for rows in ranked for row in rows]
    ids = np.array([i for i, _ in flat], np.int64)
    scores = np.array([s for _, s in flat], dtype)
    outer, inner = (np.cumsum([0, *v]).astype(np.int64) for v in (map(len, ranked), lengths))
    return ids, scores, outer, inner
