import itertools

import numpy as np
import pytest

from noria.core.errors import EngineError, NoriaError
from noria.ops import ragged
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 9, 9])  # two rows are empty
OTHER = np.array([0, 0, 2, 3, 3, 6])


def rows(x, splits):
    return [x[a:b] for a, b in itertools.pairwise(splits)]


def packed(parts, like):
    splits = np.cumsum([0, *map(len, parts)])
    return np.concatenate([like[:0], *parts]), splits


def counted(step=1):
    def apply(starts, lengths, *_):
        parts = [np.arange(s, s + step * n, step) for s, n in zip(starts, lengths, strict=True)]
        return np.concatenate([np.zeros(0, int), *parts])

    return apply


STARTS, LENGTHS = np.array([5, 2, 7, 0]), np.array([2, 0, 3, 1])
CASES = [
    Case("ragged_range", [STARTS, LENGTHS], {"size": 6}, expect=counted()),
    Case("ragged_range", [STARTS, LENGTHS], {"size": 6, "step": -2}, expect=counted(-2)),
    Case("ragged_range", [STARTS, LENGTHS], {"size": "n"}, expect=counted(), jax=False),
    Case(
        "ragged_range",
        [STARTS.astype("int32"), LENGTHS, STARTS, STARTS + 4],
        {"size": "n"},
        expect=counted(),
        jax=False,
    ),
    Case("ragged_range", [STARTS[:0], LENGTHS[:0]], {"size": 0}, expect=counted()),
    Case(
        "rescaled_splits",
        [SPLITS],
        {"old": 4, "new": 2},
        expect=lambda s: s * 2,
        symbolic={0: {0: "N"}},
    ),
    Case("rescaled_splits", [np.array([0, 2, 6])], {"old": 3, "new": 6}, expect=lambda s: s // 2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def reversed_rows(x, splits):
    return np.concatenate([r[::-1] for r in rows(x, splits)])


def joined(x, splits, y, others):
    pairs = zip(rows(x, splits), rows(y, others), strict=True)
    return packed([np.concatenate(p) for p in pairs], x)


def repeated(x, splits, copies):
    pairs = zip(rows(x, splits), np.diff(copies), strict=True)
    return packed([r for r, n in pairs for _ in range(n)], x)


def cut(x, splits, offsets, lengths):
    three = zip(rows(x, splits), offsets, lengths, strict=True)
    return packed([r[at : at + n] for r, at, n in three], x)


def padded(length, value=0.0):
    def apply(x, splits):
        out = np.full((len(splits) - 1, length, *x.shape[1:]), value, x.dtype)
        for n, r in enumerate(rows(x, splits)):
            out[n, : len(r)] = r
        return out

    return apply


def unpadded(x, lengths):
    return packed([r[:n] for r, n in zip(x, lengths, strict=True)], x[0])


COPIES, OFFSETS, COUNTS = np.array([0, 2, 3, 3, 4, 6]), np.array([1, 0, 0, 2, 0]), [2, 0, 1, 3, 0]
COMPOSED = {
    "reverse": (ragged.sequence_reverse, [arr(9, 2), SPLITS], reversed_rows),
    "reverse no steps": (ragged.sequence_reverse, [arr(0, 2), SPLITS[:1]], lambda x, s: x),
    "concat": (
        lambda x, s, y, t: ragged.sequence_concat((x, s), (y, t)),
        [arr(9, 2), SPLITS, arr(6, 2), OTHER],
        joined,
    ),
    "repeat": (
        lambda x, s, c: ragged.sequence_repeat(x, s, c, total=6, size="n"),
        [arr(9, 2), SPLITS, COPIES],
        repeated,
    ),
    "slice": (
        lambda *v: ragged.sequence_slice(*v, size="n"),
        [arr(9, 2), SPLITS, OFFSETS, np.array(COUNTS)],
        cut,
    ),
    "pad to the longest": (
        lambda x, s: ragged.sequence_pad(x, s, size="n"),
        [arr(9, 2), SPLITS],
        padded(5),
    ),
    "pad to a length": (
        lambda x, s: ragged.sequence_pad(x, s, 3.5, size=7),
        [arr(9, 2), SPLITS],
        padded(7, 3.5),
    ),
    "pad with a step": (
        lambda x, s: ragged.sequence_pad(x, s, np.array([1.0, 2.0], np.float32), size=5),
        [arr(9, 2), SPLITS],
        padded(5, np.array([1, 2])),
    ),
    "pad no rows": (
        lambda x, s: ragged.sequence_pad(x, s, size="n"),
        [arr(0, 2), SPLITS[:1]],
        padded(0),
    ),
    "unpad": (
        lambda x, n: ragged.sequence_unpad(x, n, size="n"),
        [arr(3, 4, 2), np.array([2, 0, 4])],
        unpadded,
    ),
}


@pytest.mark.parametrize(("fn", "inputs", "expect"), COMPOSED.values(), ids=COMPOSED)
def test_composed(fn, inputs, expect):
    check_case(Case("composed", inputs, expect=expect, grad=[0], jax=False), fn)


def test_rows_keep_the_steps_that_are_wanted():
    x = np.arange(9)
    values, splits = ragged.sequence_filter(x, SPLITS, x % 3 != 0, size="n")
    assert values.tolist() == [1, 2, 4, 5, 7, 8] and splits.tolist() == [0, 2, 2, 2, 6, 6]


def test_rows_take_steps_of_another_width():
    x = np.arange(12.0).reshape(6, 2)
    values, splits = ragged.sequence_reshape(x, np.array([0, 2, 2, 6]), width=4)
    assert values.tolist() == x.reshape(3, 4).tolist() and splits.tolist() == [0, 1, 1, 3]


def test_a_mask_is_as_wide_as_it_is_told_or_as_the_longest():
    lengths = np.array([[2, 0], [3, 1]])
    assert ragged.sequence_mask(lengths, size="n").tolist() == [
        [[True, True, False], [False] * 3],
        [[True] * 3, [True, False, False]],
    ]
    assert ragged.sequence_mask(lengths, size=2, dtype="int32").sum() == 5


X = np.ones((9, 2))
WRONG = {
    "a negative length": lambda: ragged.ragged_range(STARTS, -LENGTHS, size="n"),
    "a size that is not theirs": lambda: ragged.ragged_range(STARTS, LENGTHS, size=7),
    "beyond the end": lambda: ragged.ragged_range(STARTS, LENGTHS, None, STARTS + 2, size="n"),
    "before the start": lambda: ragged.ragged_range(STARTS, LENGTHS, STARTS, size="n", step=-1),
    "lengths of others": lambda: ragged.ragged_range(STARTS, LENGTHS[:2], size="n"),
    "no size": lambda: ragged.ragged_range(STARTS, LENGTHS, size=-1),
    "half a step": lambda: ragged.ragged_range(STARTS, LENGTHS, size=6, step=0.5),
    "a row longer than its padding": lambda: ragged.sequence_pad(X, SPLITS, size=4),
    "steps no row has": lambda: ragged.sequence_slice(X, SPLITS, OFFSETS, OFFSETS * 3, size="n"),
    "a length beyond the padding": lambda: ragged.sequence_unpad(X, np.full(9, 3), size="n"),
    "no batch": lambda: ragged.sequence_concat(),
    "batches of other rows": lambda: ragged.sequence_concat((X, SPLITS), (X, np.array([0, 9]))),
    "no whole steps": lambda: ragged.sequence_reshape(X, SPLITS, width=4),
    "steps of no width": lambda: ragged.sequence_reshape(X, SPLITS, width=0),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_xla_cannot_compile_a_size_that_only_the_data_tell():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(EngineError, match="XLA"):
        ragged.ragged_range.run(jnp, [STARTS, LENGTHS, None, None], {"size": "n", "step": 1})


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"ragged_range", "rescaled_splits"}
