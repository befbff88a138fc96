import itertools

import numpy as np
import pytest

import noria.ops.metric as metric
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

BOTH = {0: {0: "N"}, 1: {0: "N"}}
NAN = np.nan


def hits(k=1):
    def apply(scores, labels):
        out = np.zeros(labels.shape, bool)
        for i in np.ndindex(labels.shape):
            ranked = sorted(range(scores.shape[-1]), key=lambda c, i=i: (-scores[i][c], c))
            out[i] = labels[i] in ranked[:k]
        return out

    return apply


def area(scores, labels):
    pairs = itertools.product(scores[labels != 0], scores[labels == 0])
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs]
    return np.mean(wins) if wins else NAN


def histograms(positive, negative, scores, labels):
    positive, negative, bins = positive.copy(), negative.copy(), len(positive)
    for s, y in zip(scores.ravel(), labels.ravel(), strict=True):
        s = 0.0 if np.isnan(s) else min(max(s, 0.0), 1.0)
        (positive if y else negative)[min(int(s * bins), bins - 1)] += 1
    return positive, negative


def binned_area(positive, negative):
    bins = range(len(positive))
    return area(
        np.array([*np.repeat(bins, positive), *np.repeat(bins, negative)]),
        np.array([1] * positive.sum() + [0] * negative.sum()),
    )


def counts(classes):
    def apply(predictions, labels):
        out = np.zeros((3, classes), np.int64)
        for p, y in zip(predictions.ravel(), labels.ravel(), strict=True):
            if not 0 <= y < classes:
                continue
            out[0 if p == y else 2, y] += 1
            if p != y and 0 <= p < classes:
                out[1, p] += 1
        return tuple(out)

    return apply


TIES = np.array([[1, 1, 0], [0, 1, 1], [2, 2, 2], [0, NAN, 1]], np.float32)
SCORES = np.array([0.1, 0.5, 0.5, 0.5, 0.9, 0.2, 0.9], np.float32)
SIGNS = np.array([0, 1, 0, 1, 1, 0, 0])
CASES = [
    Case("top_k_hits", [arr(6, 5), ints(6, high=5)], expect=hits(), symbolic=BOTH),
    Case("top_k_hits", [arr(2, 3, 5), ints(2, 3, high=5)], {"k": 3}, expect=hits(3)),
    Case("top_k_hits", [arr(4), np.int64(2)], {"k": 9}, expect=hits(9)),
    Case(
        "top_k_hits", [TIES, np.array([1, 1, 0, 1])], expect=lambda *_: np.array([0, 1, 1, 0]) > 0
    ),
    Case("top_k_hits", [arr(3, 2), np.array([-1, 2, 7])], expect=lambda *_: np.zeros(3, bool)),
    Case("top_k_hits", [ints(6, 5), ints(6, high=5)], expect=hits()),
    Case("top_k_hits", [arr(0, 3), ints(0)], expect=hits()),
    Case("top_k_hits", [arr(2, 0), ints(2)], expect=lambda *_: np.zeros(2, bool)),
    Case(
        "accuracy", [arr(6, 5), ints(6, high=5)], expect=lambda *a: hits()(*a).mean(), symbolic=BOTH
    ),
    Case("accuracy", [arr(6, 5), ints(6, high=5)], {"k": 2}, expect=lambda *a: hits(2)(*a).mean()),
    Case(
        "accuracy",
        [ints(9, high=3), ints(9, high=3, dtype="int32")],
        expect=lambda p, y: (p == y).mean(),
        symbolic=BOTH,
    ),
    Case("accuracy", [arr(0, 3), ints(0)], expect=lambda *_: np.array(NAN)),
    Case(
        "class_counts",
        [ints(20, high=4), ints(20, high=4)],
        {"classes": 4},
        expect=counts(4),
        symbolic=BOTH,
    ),
    Case(
        "class_counts",
        [ints(5, 4, low=-2, high=5), ints(5, 4, low=-2, high=5)],
        {"classes": 3},
        expect=counts(3),
    ),
    Case("class_counts", [ints(0), ints(0)], {"classes": 2}, expect=counts(2)),
    Case("auc", [SCORES, SIGNS], expect=area),
    Case("auc", [arr(30), ints(30, high=2)], expect=area, symbolic=BOTH),
    Case("auc", [arr(30, dtype="float16"), ints(30, dtype="bool")], expect=area),
    Case("auc", [arr(3), np.ones(3, int)], expect=area, id="one kind"),
    Case("auc", [arr(0), ints(0)], expect=area),
    Case(
        "auc_update",
        [ints(8), ints(8), arr(30, low=0, high=1), ints(30, high=2)],
        expect=histograms,
        symbolic={2: {0: "N"}, 3: {0: "N"}},
    ),
    Case(
        "auc_update",
        [
            ints(4),
            ints(4),
            np.array([[-1, 0, 1], [2, NAN, 0.25]], np.float32),
            ints(2, 3, dtype="bool"),
        ],
        expect=histograms,
    ),
    Case("auc_update", [ints(4), ints(4), arr(0), ints(0)], expect=histograms),
    Case("auc_from_histograms", [ints(8), ints(8)], expect=binned_area, symbolic=BOTH),
    Case("auc_from_histograms", [np.zeros(3, int), ints(3)], expect=binned_area),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(metric).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


@pytest.mark.parametrize("average", [None, "macro", "micro"])
def test_precision_recall_and_f1_are_those_of_the_textbook(average):
    found = np.array([5, 0, 3]), np.array([1, 0, 2]), np.array([4, 0, 0])
    tp, fp, fn = (a.sum(keepdims=True) if average == "micro" else a for a in found)
    with np.errstate(invalid="ignore"):
        precision, recall = np.nan_to_num(tp / (tp + fp)), np.nan_to_num(tp / (tp + fn))
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    want = [m.mean() if average else m for m in (precision, recall, f1)]
    got = metric.precision_recall_f1(*found, average=average)
    for g, w in zip(got, want, strict=True):
        assert np.allclose(g, w) and np.shape(g) == np.shape(w)


def test_averages_are_checked():
    with pytest.raises(ArgumentError, match="average"):
        metric.precision_recall_f1(*[np.ones(2, int)] * 3, average="weighted")


def test_a_running_mean_and_histograms_are_state_of_a_program():
    program = Program()
    with Builder(program) as builder:
        n = symbol("N")
        x, y = builder.input("x", (n,)), builder.input("y", (n,), "int64")
        total, count = builder.state("total", ()), builder.state("count", (), "int64")
        bins = [builder.state(n, (100,), "int64") for n in ("positive", "negative")]
        news = [*metric.mean_update(total, count, x), *metric.auc_update(*bins, x, y)]
        for state, new in zip((total, count, *bins), news, strict=True):
            builder.update(state, new)
        program.outputs = {"auc": metric.auc_from_histograms(*news[2:])}
    rng = np.random.default_rng(0)
    state = {"total": np.zeros((), np.float32), "count": np.zeros((), np.int64)}
    state |= {n: np.zeros(100, np.int64) for n in ("positive", "negative")}
    x = (rng.integers(0, 100, 50) / 100 + 0.001).astype(np.float32)
    y = rng.integers(0, 2, 50)
    for part in (slice(0, 20), slice(20, 50)):
        out, state = run_program(program, {"x": x[part], "y": y[part]}, state)
    assert np.isclose(state["total"] / state["count"], x.mean())
    assert np.isclose(out["auc"], area(x, y))


@pytest.mark.parametrize(
    ("name", "inputs", "attrs", "error"),
    [
        ("top_k_hits", [np.ones((2, 3)), np.zeros(3, int)], {}, ShapeError),
        ("top_k_hits", [np.ones((2, 3)), np.zeros(2)], {}, DTypeError),
        ("top_k_hits", [np.ones((2, 3)), np.zeros(2, int)], {"k": 0}, ArgumentError),
        ("top_k_hits", [np.float32(1), np.int64(0)], {}, ShapeError),
        ("accuracy", [np.ones((2, 3)), np.zeros(3, int)], {}, ShapeError),
        ("accuracy", [np.ones(2), np.zeros(2, int)], {}, DTypeError),
        ("class_counts", [np.zeros(2, int), np.zeros(3, int)], {"classes": 2}, ShapeError),
        ("auc", [np.ones(2), np.ones(2)], {}, DTypeError),
        ("auc", [np.ones((2, 2)), np.ones((2, 2), int)], {}, ShapeError),
        ("auc_update", [*[np.ones(2, int)] * 2, np.ones(2), np.ones(2)], {}, DTypeError),
        ("auc_from_histograms", [np.ones(2, int), np.ones(3, int)], {}, ShapeError),
    ],
)
def test_what_does_not_fit_is_refused(name, inputs, attrs, error):
    with pytest.raises(error):
        getattr(metric, name)(*inputs, **attrs)
