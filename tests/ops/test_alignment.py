import itertools

import numpy as np
import pytest

from noria.core.errors import EngineError, NoriaError
from noria.ops import alignment
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

OURS, THEIRS = np.array([0, 4, 4, 5, 8]), np.array([0, 3, 5, 5, 11])
TRUE = np.array([0, 3, 4, 8, 11])


def steps_between(a, b):
    """Levenshtein's recursion, word for word."""
    if not a or not b:
        return len(a) + len(b)
    swap = steps_between(a[1:], b[1:]) + (a[0] != b[0])
    return min(swap, steps_between(a[1:], b) + 1, steps_between(a, b[1:]) + 1)


def rows(x, splits):
    return [tuple(x[a:b].tolist()) for a, b in itertools.pairwise(splits)]


def distances(normalized=False):
    def apply(x, xs, y, ys):
        pairs = list(zip(rows(x, xs), rows(y, ys), strict=True))
        return np.array([steps_between(a, b) / (len(b) if normalized else 1) for a, b in pairs])

    return apply


def chunks_of(row, types, scheme):
    """(begin, end, type) of each chunk, tag by tag."""
    names = {"IOB": "BI", "IOE": "IE", "IOBES": "BIES", "plain": "I"}[scheme]
    found, open_chunk = set(), None
    for i, label in enumerate([*row, types * len(names)]):
        kind, tag = label // len(names), names[label % len(names)]
        before = "" if i == 0 else names[row[i - 1] % len(names)]
        fresh = tag in "BS" or before in ("E", "S") or (open_chunk and open_chunk[1] != kind)
        if open_chunk and (kind == types or fresh):
            found.add((open_chunk[0], i, open_chunk[1]))
            open_chunk = None
        if kind != types and open_chunk is None:
            open_chunk = (i, kind)
    return found


def counted(types, scheme, excluded=()):
    def apply(x, y, splits):
        total = np.zeros(3, int)
        for ours, theirs in zip(rows(x, splits), rows(y, splits), strict=True):
            a, b = (
                {c for c in chunks_of(r, types, scheme) if c[2] not in excluded}
                for r in (ours, theirs)
            )
            total += [len(a), len(b), len(a & b)]
        return total

    return apply


def chunk_case(scheme, high, types, excluded=(), seed=0):
    return Case(
        "chunk_counts",
        [ints(30, high=high), ints(30, high=high), np.array([0, 7, 7, 8, 30])],
        {"types": types, "scheme": scheme, "excluded": excluded},
        expect=counted(types, scheme, excluded),
        id=f"{scheme}-{excluded}-{seed}",
        seed=seed,
    )


def most_likely(blank):
    """Every alignment, written out."""

    def apply(logits, splits):
        labels, lengths, scores = [], [0], []
        for a, b in itertools.pairwise(splits):
            p = np.exp(logits[a:b]) / np.exp(logits[a:b]).sum(1, keepdims=True)
            chance = {}
            for path in itertools.product(range(logits.shape[1]), repeat=b - a):
                said = tuple(k for k, _ in itertools.groupby(path) if k != blank)
                chance[said] = chance.get(said, 0) + np.prod([p[t, k] for t, k in enumerate(path)])
            best = max(chance, key=chance.get)
            labels += best
            lengths.append(len(labels))
            scores.append(np.log(chance[best]))
        return np.array(labels, int), np.array(lengths), np.array(scores)

    return apply


def beam_case(blank, seed):
    return Case(
        "ctc_beam_decode",
        [arr(9, 3, low=-1, high=1), np.array([0, 5, 5, 6, 9])],
        {"beam_size": 100, "size": "n", "blank": blank},
        expect=most_likely(blank),
        jax=False,
        seed=seed,
        id=f"{blank}-{seed}",
    )


CASES = [
    *(beam_case(blank, seed) for blank in (0, 2) for seed in range(3)),
    Case(
        "edit_distance",
        [ints(8, high=3), OURS, ints(11, high=3), THEIRS],
        expect=distances(),
        jax=False,
    ),
    Case(
        "edit_distance",
        [ints(8, high=2), OURS, ints(11, high=2), TRUE],
        {"normalized": True},
        expect=distances(True),
        jax=False,
    ),
    Case("edit_distance", [ints(0), OURS[:1], ints(0), OURS[:1]], expect=distances(), jax=False),
    *(chunk_case("IOB", 5, 2, seed=k) for k in range(3)),
    *(chunk_case("IOE", 7, 3, (1,), seed=k) for k in range(3)),
    *(chunk_case("IOBES", 9, 2, seed=k) for k in range(3)),
    chunk_case("plain", 4, 3, (0, 2)),
    Case("chunk_counts", [ints(0), ints(0), OURS[:1]], {"types": 1}, expect=counted(1, "IOB")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


LABELS, SPLITS = np.array([1, 1, 0, 1, 2, 2, 2, 0, 3]), np.array([0, 5, 5, 8, 9])


def test_ctc_is_read_row_by_row():
    labels, splits = alignment.ctc_collapse(LABELS, SPLITS, size="n")
    assert labels.tolist() == [1, 1, 2, 2, 3] and splits.tolist() == [0, 3, 3, 4, 5]
    labels, splits = alignment.ctc_collapse(LABELS, SPLITS, size="n", blank=2, merge=False)
    assert labels.tolist() == [1, 1, 0, 1, 0, 3] and splits.tolist() == [0, 4, 4, 5, 6]


def test_the_most_likely_classes_are_read():
    logits = np.eye(4, dtype=np.float32)[LABELS]
    labels, splits = alignment.ctc_greedy_decode(logits, SPLITS, size="n")
    assert labels.tolist() == [1, 1, 2, 2, 3] and splits.tolist() == [0, 3, 3, 4, 5]


def test_few_prefixes_find_what_is_clear():
    logits = 9 * np.eye(4, dtype=np.float32)[LABELS]
    labels, splits, scores = alignment.ctc_beam_decode(logits, SPLITS, beam_size=1, size="n")
    assert labels.tolist() == [1, 1, 2, 2, 3] and splits.tolist() == [0, 3, 3, 4, 5]
    assert (scores > -0.1).all()


def counts(x, y, **attrs):
    return alignment.chunk_counts(np.array(x), np.array(y), np.array([0, len(x)]), **attrs)


def distance(x, y, **attrs):
    splits = [np.array([0, len(v)]) for v in (x, y)]
    return alignment.edit_distance(
        np.array(x, int), splits[0], np.array(y, int), splits[1], **attrs
    )


WRONG = {
    "a label beyond the types": lambda: counts([5], [0], types=2),
    "a negative label": lambda: counts([0], [-1], types=2),
    "labels of other steps": lambda: counts([0, 1], [0], types=2),
    "an unknown scheme": lambda: counts([0], [0], types=2, scheme="BIO"),
    "no types": lambda: counts([0], [0], types=0),
    "an empty reference to divide by": lambda: distance([1], [], normalized=True),
    "no beams": lambda: alignment.ctc_beam_decode(np.ones((9, 3)), SPLITS, beam_size=0, size="n"),
    "a blank beyond the classes": lambda: alignment.ctc_beam_decode(
        np.ones((9, 3)), SPLITS, beam_size=2, size="n", blank=3
    ),
    "logits that are no numbers": lambda: alignment.ctc_beam_decode(
        np.full((9, 3), np.nan), SPLITS, size="n"
    ),
    "infinite logits": lambda: alignment.ctc_beam_decode(np.full((9, 3), np.inf), SPLITS, size="n"),
    "floats": lambda: alignment.edit_distance(np.ones(9), SPLITS, LABELS, SPLITS),
    "other rows": lambda: alignment.edit_distance(LABELS, SPLITS, LABELS, SPLITS[[0, -1]]),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_an_empty_row_is_as_far_as_the_other_is_long():
    assert distance([], [1, 2]).tolist() == [2] and distance([1, 2, 3], []).tolist() == [3]


def test_xla_cannot_compile_a_distance():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(EngineError, match="XLA"):
        alignment.edit_distance.run(jnp, [LABELS, SPLITS] * 2, {"normalized": False})


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"edit_distance", "chunk_counts", "ctc_beam_decode"}
