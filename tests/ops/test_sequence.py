import itertools

import numpy as np
import pytest

import noria.ops.sequence as sequence
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import OpDef
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 9, 9])  # two rows are empty
ONE_ROW = np.array([0, 9])
NO_ROWS = np.array([0])
IDS = [0, 0, 0, 2, 3, 3, 3, 3, 3]
EMPTY_ROWS = np.array([0, 0, 0])


def rows(x, splits):
    return [x[a:b] for a, b in itertools.pairwise(splits)]


def each(fn, empty=0.0):
    """What `fn` makes of each row, `empty` of those without steps."""

    def apply(x, splits, *_):
        made = [fn(r) if len(r) else np.full(x.shape[1:], empty, x.dtype) for r in rows(x, splits)]
        return np.array(made, x.dtype).reshape(len(splits) - 1, *x.shape[1:])

    return apply


def largest_grad(x, out, splits, grad):
    parts = []
    for r, top, g in zip(rows(x, splits), out, grad, strict=True):
        same = r == top
        parts.append(same * g / np.maximum(same.sum(0), 1))
    return np.concatenate([np.zeros((0, *x.shape[1:])), *parts])


def moved(reverse):
    def apply(x, splits, start=None):
        parts = [np.zeros((0, *x.shape[1:]), x.dtype)]
        for n, r in enumerate(rows(x, splits)):
            first = np.zeros(x.shape[1:]) if start is None else start[n]
            joined = [r[1:], first[None]] if reverse else [first[None], r[:-1]]
            parts.append(np.concatenate(joined) if len(r) else r)
        return np.concatenate(parts)

    return apply


def spread(value, splits, place=None):
    parts = [np.zeros((0, *value.shape[1:]), value.dtype)]
    for v, (a, b) in zip(value, itertools.pairwise(splits), strict=True):
        part = np.repeat(v[None], b - a, 0)
        if place is not None and b > a:
            part = np.zeros_like(part)
            part[place] = v
        parts.append(part)
    return np.concatenate(parts)


OPEN = {0: {1: "F"}}
TIES = np.array([[1, 2], [1, 2], [0, 2], [5, 5], [1, 1], [2, 0], [2, 1], [0, 0], [1, 2]], float)
CASES = [
    Case("sequence_ids", [SPLITS], {"total": 9}, expect=lambda s: np.array(IDS)),
    Case("sequence_ids", [EMPTY_ROWS], {"total": 0}),
    Case("sequence_expand", [arr(5, 2), SPLITS], {"total": 9}, expect=spread, symbolic=OPEN),
    Case("sequence_expand", [arr(5), SPLITS.astype("int32")], {"total": 9}, expect=spread),
    Case("sequence_expand", [arr(2, 3), EMPTY_ROWS], {"total": 0}, expect=spread),
    Case("sequence_sum", [arr(9, 3), SPLITS], expect=each(lambda r: r.sum(0)), symbolic=OPEN),
    Case("sequence_sum", [arr(9), ONE_ROW], expect=each(lambda r: r.sum(0)), grad2=True),
    Case("sequence_sum", [arr(9, 2, 2, dtype="bfloat16"), SPLITS]),
    Case("sequence_sum", [arr(0, 2), EMPTY_ROWS], expect=each(None)),
    Case("sequence_sum", [arr(0, 2), NO_ROWS], expect=each(None)),
    Case("sequence_max", [arr(9, 3, distinct=True), SPLITS], expect=each(lambda r: r.max(0))),
    Case(
        "sequence_max",
        [arr(9, distinct=True), SPLITS],
        {"empty": -7.0},
        expect=each(lambda r: r.max(0), -7.0),
        grad2=True,
    ),
    Case("sequence_max", [arr(9, 2, distinct=True), ONE_ROW], symbolic=OPEN),
    Case("sequence_max", [arr(0, 2), EMPTY_ROWS], expect=each(None)),
    Case(
        "sequence_max_grad",
        [TIES, each(lambda r: r.max(0))(TIES, SPLITS), SPLITS, arr(5, 2)],
        expect=largest_grad,
        grad=[3],
    ),
    Case("sequence_max_grad", [arr(0, 2), arr(2, 2), EMPTY_ROWS, arr(2, 2)], expect=largest_grad),
    Case("sequence_end", [arr(9, 3), SPLITS], expect=each(lambda r: r[-1]), symbolic=OPEN),
    Case(
        "sequence_end",
        [arr(9, 3), SPLITS, arr(5, 3)],
        {"first": True},
        expect=lambda x, s, e: np.array([[*r, e[n]][0] for n, r in enumerate(rows(x, s))]),
        grad2=True,
    ),
    Case("sequence_end", [arr(9), SPLITS, arr(5)]),
    Case("sequence_end", [arr(0, 3), EMPTY_ROWS, arr(2, 3)], expect=lambda x, s, e: e),
    Case(
        "sequence_place",
        [arr(5, 3), SPLITS],
        {"total": 9},
        expect=lambda x, s: spread(x, s, -1),
        symbolic=OPEN,
        grad2=True,
    ),
    Case(
        "sequence_place",
        [arr(5), SPLITS],
        {"total": 9, "first": True},
        expect=lambda x, s: spread(x, s, 0),
    ),
    Case("sequence_place", [arr(2, 3), EMPTY_ROWS], {"total": 0}),
    Case("sequence_shift", [arr(9, 3), SPLITS], expect=moved(False), symbolic=OPEN, grad2=True),
    Case("sequence_shift", [arr(9, 3), SPLITS, arr(5, 3)], {"reverse": True}, expect=moved(True)),
    Case("sequence_shift", [arr(9), ONE_ROW, arr(1)], expect=moved(False)),
    Case("sequence_shift", [arr(0, 3), EMPTY_ROWS, arr(2, 3)], expect=moved(False)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(sequence).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


def softmax(r):
    e = np.exp(r - r.max(0))
    return e / e.sum(0)


@pytest.mark.parametrize(
    ("fn", "expect"),
    [
        (sequence.sequence_mean, each(lambda r: r.mean(0))),
        (
            sequence.sequence_softmax,
            lambda x, s: np.concatenate([softmax(r) for r in rows(x, s) if len(r)]),
        ),
    ],
    ids=["mean", "softmax"],
)
@pytest.mark.parametrize("shape", [(9, 3), (9,)], ids=str)
def test_composed(fn, expect, shape):
    check_case(Case("composed", [arr(*shape), SPLITS], expect=expect, grad=[0]), fn)


def test_lengths_splits_and_back():
    lengths = sequence.sequence_lengths(SPLITS)
    assert lengths.tolist() == [3, 0, 1, 5, 0]
    assert sequence.sequence_splits(lengths).tolist() == SPLITS.tolist()
    assert sequence.sequence_splits(np.zeros(0, np.int64)).tolist() == [0]
    assert sequence.regular_splits(3, 4).tolist() == [0, 4, 8, 12]


def test_nan_is_the_largest_of_its_row_only():
    x = np.array([1.0, np.nan, 2.0, 3.0])
    out = sequence.sequence_max(x, np.array([0, 2, 4]))
    assert np.isnan(out[0]) and out[1] == 3


@pytest.mark.parametrize(
    "splits", [[0, 3, 2, 4], [1, 2, 4], [0, 2, 3], [0, 2, 5], [0, -1, 4]], ids=str
)
def test_splits_that_do_not_divide_the_rows_are_told(splits):
    with pytest.raises(ArgumentError, match="do not divide"):
        sequence.sequence_sum(np.ones((4, 2)), np.array(splits))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda x: sequence.sequence_sum(x, np.zeros(0, int)), ShapeError, r"N \+ 1"),
        (lambda x: sequence.sequence_sum(x, np.zeros((2, 2), int)), ShapeError, "rank 1"),
        (lambda x: sequence.sequence_sum(x, np.zeros(2)), DTypeError, "integer"),
        (lambda x: sequence.sequence_sum(x[0, 0], np.zeros(2, int)), ShapeError, "first axis"),
        (lambda x: sequence.sequence_end(x, np.array([0, 4]), x), ShapeError, "empty"),
        (lambda x: sequence.sequence_shift(x, np.array([0, 4]), x), ShapeError, "start"),
        (lambda x: sequence.sequence_expand(x, np.array([0, 4]), total=4), ShapeError, "rows"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call(np.ones((4, 2)))


@pytest.mark.parametrize("name", ["sequence_shift", "sequence_end"])
def test_what_comes_at_the_ends_has_the_dtype_of_the_steps(name):
    x, rows = np.ones((3, 2), np.float32), np.ones((1, 2))
    with pytest.raises(DTypeError, match="differ"):
        getattr(sequence, name)(x, np.array([0, 3]), rows)
