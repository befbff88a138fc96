"""CTC against the sum over every alignment, written out."""

import itertools

import numpy as np
import pytest
from scipy import special

from noria.core.errors import ArgumentError, NoriaError
from noria.ops.ctc import ctc_sequence_loss, ctc_sequence_loss_grad
from noria.testing.case import Case, arr
from noria.testing.check import check_case
from noria.testing.kernel import check_kernel


def collapsed(path, blank):
    """Repeats merged, blanks dropped."""
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def by_alignments(logits, starts, lengths, labels, counts, blank=0, step=1):
    """The loss of each sequence: every path of classes that says its labels."""
    score = special.log_softmax(logits.astype(np.float64), -1)
    out = []
    for first, steps, row, count in zip(starts, lengths, labels, counts, strict=True):
        x = score[first : first + max(steps - 1, 0) * step + 1 : step][:steps]
        wanted = tuple(row[:count])
        paths = itertools.product(range(logits.shape[1]), repeat=int(steps))
        found = [
            sum(x[t, k] for t, k in enumerate(p)) for p in paths if collapsed(p, blank) == wanted
        ]
        out.append(-special.logsumexp(found) if found else np.inf)
    return np.array(out)


def loss_only(**attrs):
    def apply(*inputs):
        out = by_alignments(*inputs, **attrs)
        log_alpha, log_total = ctc_sequence_loss(*inputs, **attrs)[1:]
        return out, log_alpha, log_total

    return apply


def numbers(*x):
    return np.array(x, np.int64)


RAGGED = [numbers(0, 4, 7), numbers(4, 3, 2), np.array([[1, 2], [1, 1], [2, 9]]), numbers(2, 2, 1)]
TIME_MAJOR = [numbers(0, 1), numbers(4, 3), np.array([[0, 0, 1], [1, 7, 7]]), numbers(3, 1)]
EMPTY = [numbers(0, 0, 0), numbers(0, 3, 0), np.array([[1], [1], [1]]), numbers(0, 0, 1)]
BATCHES = {
    "ragged": (arr(9, 3), RAGGED, {}),
    "a row of nobody": (arr(11, 3), RAGGED, {}),
    "time-major, the last class is the blank": (arr(8, 3), TIME_MAJOR, {"blank": 2, "step": 2}),
    "nothing said, and nothing can be": (arr(4, 3), EMPTY, {}),
    "int32": (arr(9, 3), [x.astype(np.int32) for x in RAGGED], {}),
}


def forward(logits, rest, attrs, id):
    # The gradient of log_alpha and log_total is nobody's: only `out` has one (tested below).
    symbolic = {0: {0: "R"}, **{i: {0: "N"} for i in range(1, 5)}}
    expect = loss_only(**attrs)
    return Case(
        "ctc_sequence_loss",
        [logits, *rest],
        attrs,
        expect=expect,
        grad=False,
        id=id,
        symbolic=symbolic,
    )


def backward(rest, attrs, rows, id):
    logits = np.random.default_rng(2).standard_normal((rows, 3)).astype(np.float32)
    saved = ctc_sequence_loss(logits, *rest, **attrs)
    inputs = [logits, *rest, *saved, np.linspace(0.5, 1.5, len(rest[0])).astype(np.float32)]
    return Case("ctc_sequence_loss_grad", inputs, attrs, grad=False, id=id)


CASES = [
    *(forward(logits, rest, attrs, id) for id, (logits, rest, attrs) in BATCHES.items()),
    *(backward(rest, attrs, logits.shape[0], id) for id, (logits, rest, attrs) in BATCHES.items()),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


@pytest.mark.parametrize(
    "rest, attrs, rows", [(RAGGED, {}, 11), (TIME_MAJOR, {"blank": 2, "step": 2}, 8)]
)
def test_the_gradient_is_the_slope(rest, attrs, rows):
    rng = np.random.default_rng(1)
    logits, direction = rng.standard_normal((2, rows, 3))
    weights = np.array([0.5, -1.0, 2.0])[: len(rest[0])]

    def total(x):
        return float(weights @ by_alignments(x, *rest, **attrs))

    slope = (total(logits + 1e-5 * direction) - total(logits - 1e-5 * direction)) / 2e-5
    saved = ctc_sequence_loss(logits, *rest, **attrs)
    gradient = ctc_sequence_loss_grad(logits, *rest, *saved, weights, **attrs)
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6)


def test_a_sequence_too_short_has_infinite_loss_and_no_gradient():
    logits = np.zeros((2, 3), np.float32)
    rest = [numbers(0), numbers(2), np.array([[1, 1]]), numbers(2)]
    saved = ctc_sequence_loss(logits, *rest)
    assert np.isposinf(saved[0]).all()
    assert (ctc_sequence_loss_grad(logits, *rest, *saved, np.ones(1, np.float32)) == 0).all()


def test_a_very_unlikely_labelling_still_has_a_finite_loss():
    logits = np.zeros((200, 3), np.float32)
    logits[:, 0] = 50
    rest = [numbers(0), numbers(200), np.tile([[1, 2]], 50), numbers(100)]
    loss = ctc_sequence_loss(logits, *rest)[0]
    assert loss[0] == pytest.approx(5000 - np.log(special.comb(200, 100)), rel=1e-5)


WRONG = {
    "a label beyond the classes": [numbers(0), numbers(3), np.array([[3]]), numbers(1)],
    "the blank as a label": [numbers(0), numbers(3), np.array([[0]]), numbers(1)],
    "steps beyond the rows": [numbers(1), numbers(3), np.array([[1]]), numbers(1)],
    "more labels than there are": [numbers(0), numbers(3), np.array([[1]]), numbers(2)],
    "a negative length": [numbers(0), numbers(-1), np.array([[1]]), numbers(1)],
}


@pytest.mark.parametrize("rest", WRONG.values(), ids=WRONG)
def test_what_is_not_there_is_refused_by_every_engine(rest, fast_kernels):
    logits = np.zeros((3, 3), np.float32)
    with pytest.raises(ArgumentError):
        ctc_sequence_loss(logits, *rest)
    check_kernel("ctc_sequence_loss", [logits, *rest], raises=ArgumentError)


def test_shapes_and_dtypes_are_checked():
    logits, rest = np.zeros((9, 3), np.float32), RAGGED
    for wrong in (
        [logits[0], *rest],
        [logits.astype(int), *rest],
        [logits, *rest[:2], rest[2][0], rest[3]],
        [logits, rest[0][:2], *rest[1:]],
        [logits, rest[0].astype(float), *rest[1:]],
    ):
        with pytest.raises(NoriaError):
            ctc_sequence_loss(*wrong)
    with pytest.raises(ArgumentError):
        ctc_sequence_loss(logits, *rest, blank=-1)


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"ctc_sequence_loss", "ctc_sequence_loss_grad"}
