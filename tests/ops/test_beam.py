import itertools

import numpy as np
import pytest

from noria.core.errors import EngineError, NoriaError
from noria.ops import beam
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

END = 0


def best_of(beam_size, accumulated=True):
    """Continuation by continuation."""

    def apply(last_ids, last_scores, scores, splits, words=None):
        kept = {p: [] for p in range(len(last_ids))}
        for a, b in itertools.pairwise(splits):
            ways = []
            for p in range(a, b):
                if last_ids[p] == END:
                    ways.append((last_scores[p], p, 0, END))
                    continue
                for k, s in enumerate(scores[p]):
                    s = s if accumulated else last_scores[p] + np.log(s)
                    ways.append((s, p, -k, k if words is None else words[p, k]))
            ways = sorted(ways, reverse=True)[:beam_size]
            if not all(w[3] == END and last_ids[w[1]] == END for w in ways):
                for s, p, _, word in ways:
                    kept[p].append((word, s))
        flat = [(w, s, p) for p, found in kept.items() for w, s in found]
        ids, values, parents = (np.array(v) for v in zip(*flat, strict=True)) if flat else [[]] * 3
        return ids, values, parents, np.cumsum([0, *map(len, kept.values())])

    return apply


LAST, SPLITS = np.array([3, 0, 2, 0, 0, 1]), np.array([0, 3, 5, 5, 6])


def step(beam_size, words=None, low=-3.0, high=0.0, accumulated=True):
    inputs = [LAST, arr(6, low=-3, high=0), arr(6, 4, low=low, high=high, distinct=True), SPLITS]
    attrs = {"beam_size": beam_size, "end_id": END, "size": "n", "accumulated": accumulated}
    return Case(
        "beam_search_step",
        [*inputs, *([] if words is None else [words])],
        attrs,
        expect=best_of(beam_size, accumulated),
        jax=False,
        id=f"{beam_size}-{accumulated}-{words is None}",
    )


def trace(ids, parents):
    out = np.zeros_like(ids)
    for n, k in np.ndindex(*ids.shape[1:]):
        at = k
        for t in range(len(ids) - 1, -1, -1):
            out[t, n, k] = ids[t, n, at]
            at = parents[t, n, at]
    return out


# one source whose second beam ends early, one which is finished at once
STEPS = [
    *(np.array([5, 6]), np.array([-1.0, -2.0]), np.array([0, 1, 2]), np.array([0, 1, 2])),
    *(
        np.array([7, 8, END]),
        np.array([-1.5, -3.0, -2.5]),
        np.array([0, 1, 2]),
        np.array([0, 2, 3]),
    ),
    *(np.array([9, END]), np.array([-4.0, -3.5]), np.array([0, 2, 2]), np.array([0, 1, 2])),
]
FOUND = (
    np.array([5, 8, END, 5, 7, 9, 6, END]),
    np.array([-1.0, -3.0, -3.5, -1.0, -1.5, -4.0, -2.0, -2.5]),
    np.array([0, 2, 3]),
    np.array([0, 3, 6, 8]),
)

OPEN = {0: {1: "N"}, 1: {1: "N"}}
CASES = [
    step(2),
    step(3, words=np.arange(24).reshape(6, 4)),
    step(1, low=0.01, high=1.0, accumulated=False),
    Case(
        "gather_tree",
        [ints(4, 2, 3), ints(4, 2, 3, high=3)],
        expect=trace,
        symbolic=OPEN,
    ),
    Case("gather_tree", [ints(0, 2, 3), ints(0, 2, 3)], expect=trace),
    Case(
        "beam_search_sentences",
        STEPS,
        {"end_id": END, "size": "n", "sentences": "m"},
        expect=lambda *_: FOUND,
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_equal_scores_are_decided_by_their_places():
    scores, splits = np.zeros((2, 3)), np.array([0, 2])
    ids, _, parents, rows = beam.beam_search_step(
        np.array([1, 1]), np.zeros(2), scores, splits, beam_size=4, end_id=END, size="n"
    )
    assert ids.tolist() == [0, 0, 1, 2] and parents.tolist() == [0, 1, 1, 1]
    assert rows.tolist() == [0, 1, 4]


def one_step(**changes):
    given = {"last_ids": LAST, "last_scores": np.zeros(6), "scores": np.zeros((6, 2))} | changes
    options = {"beam_size": given.pop("beam_size", 2), "end_id": END, "size": "n"}
    return beam.beam_search_step(*given.values(), SPLITS, **options)


WRONG = {
    "no beams": lambda: one_step(beam_size=0),
    "scores of other prefixes": lambda: one_step(scores=np.zeros((5, 2))),
    "integers as scores": lambda: one_step(scores=np.zeros((6, 2), int)),
    "a parent that is no beam": lambda: beam.gather_tree(
        np.zeros((2, 1, 2), int), np.full((2, 1, 2), 2)
    ),
    "no steps": lambda: beam.beam_search_sentences(end_id=END, size="n", sentences="m"),
    "half a step": lambda: beam.beam_search_sentences(
        *STEPS[:2], end_id=0, size="n", sentences="m"
    ),
    "scores of other words": lambda: beam.beam_search_sentences(
        STEPS[0], STEPS[1][:1], *STEPS[2:4], end_id=0, size="n", sentences="m"
    ),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_xla_cannot_compile_a_search():
    jnp = pytest.importorskip("jax.numpy")
    attrs = {"beam_size": 2, "end_id": END, "size": "n", "accumulated": True}
    with pytest.raises(EngineError, match="XLA"):
        inputs = [LAST, np.zeros(6), np.zeros((6, 2)), SPLITS, None]
        beam.beam_search_step.run(jnp, inputs, attrs)


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"beam_search_step", "gather_tree", "beam_search_sentences"}
