"""Recurrent ops against plain loops over one row at a time; PyTorch's layers are in tests/nn."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

import noria.ops.recurrent as recurrent
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import OpDef
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 6])
ONE_ROW = np.array([0, 6])
EMPTY = np.array([0, 0, 0])
H, T, N = 3, 6, 4
STATE, STEPS = arr(N, H), arr(T, H)
ROUNDING = 2e-2  # of a number of bfloat16, and of what is added up of such


def half(*shape):
    return arr(*shape, dtype="bfloat16")


def walk(step, x, splits, states, reverse, width):
    """Each row alone, one step after the other."""
    outs = [np.zeros((len(x), w)) for w in width]
    for n, (a, b) in enumerate(itertools.pairwise(splits)):
        state = [np.zeros(width[0]) if s is None else s[n] for s in states]
        for p in reversed(range(a, b)) if reverse else range(a, b):
            state, results = step(x[p], *state)
            for array, value in zip(outs, results, strict=True):
                array[p] = value
    return outs


def lstm(reverse):
    def apply(x, weight, splits, h0=None, c0=None, peepholes=None):
        to_i, to_f, to_o = (0, 0, 0) if peepholes is None else peepholes

        def step(x, h, c):
            i, f, g, o = np.split(x + weight @ h, 4)
            i, f, g = expit(i + to_i * c), expit(f + to_f * c), np.tanh(g)
            c = f * c + i * g
            o = expit(o + to_o * c)
            h = o * np.tanh(c)
            return (h, c), (h, c, np.concatenate([i, f, g, o]))

        size = weight.shape[1]
        return walk(step, x, splits, (h0, c0), reverse, (size, size, 4 * size))

    return apply


def gru(reverse):
    def apply(x, weight, splits, bias=None, h0=None):
        def step(x, h):
            r, z, n = np.split(x, 3)
            a, b, m = np.split(weight @ h + (0 if bias is None else bias), 3)
            r, z = expit(r + a), expit(z + b)
            n = np.tanh(n + r * m)
            h = (1 - z) * n + z * h
            return (h,), (h, np.concatenate([r, z, n, m]))

        size = weight.shape[1]
        return walk(step, x, splits, (h0,), reverse, (size, 4 * size))

    return apply


def rnn(activation, reverse):
    act = np.tanh if activation == "tanh" else lambda v: np.maximum(v, 0)

    def apply(x, weight, splits, h0=None):
        def step(x, h):
            h = act(x + weight @ h)
            return (h,), (h,)

        return walk(step, x, splits, (h0,), reverse, weight.shape[1:])

    return apply


def both(reverse):
    return {"reverse": reverse}


CASES = [
    Case("lstm", [arr(T, 4 * H), arr(4 * H, H), SPLITS], expect=lstm(False)),
    Case(
        "lstm",
        [arr(T, 4 * H), arr(4 * H, H), SPLITS, STATE, STATE],
        both(True),
        expect=lstm(True),
        id="backwards",
    ),
    Case("lstm", [arr(T, 4), arr(4, 1), ONE_ROW, None, arr(1, 1)], expect=lstm(False), grad2=True),
    Case("lstm", [arr(T, 4 * H), arr(4 * H, H), SPLITS, STATE], id="state", grad2=True),
    Case(
        "lstm",
        [arr(T, 4 * H), arr(4 * H, H), SPLITS, STATE, STATE, arr(3, H)],
        both(True),
        expect=lstm(True),
        grad2=True,
        id="peepholes",
    ),
    Case(
        "lstm",
        [arr(T, 4 * H), arr(4 * H, H), SPLITS, None, STATE, arr(3, H)],
        {"recompute": True},
        expect=lstm(False),
        id="peepholes again",
    ),
    Case("lstm", [arr(0, 4 * H), arr(4 * H, H), EMPTY], expect=lstm(False), id="empty"),
    Case("lstm", [arr(T, 8, dtype="bfloat16"), arr(8, 2, dtype="bfloat16"), SPLITS]),
    Case(
        "lstm_grad",
        [arr(T, 4 * H, low=0, high=1), STEPS, arr(4 * H, H), SPLITS, STEPS, STEPS, STATE],
    ),
    Case("lstm_grad", [arr(T, 4, low=0, high=1), arr(T, 1), arr(4, 1), ONE_ROW, arr(T, 1)]),
    Case(
        "lstm_grad",
        [arr(T, 4 * H, low=0, high=1), STEPS, arr(4 * H, H), SPLITS, None, STEPS],
        both(True),
        id="of c alone",
    ),
    Case(
        "lstm_grad",
        [
            *(arr(T, 4 * H, low=0, high=1), STEPS, arr(4 * H, H), SPLITS),
            *(STEPS, None, STATE, arr(3, H)),
        ],
        both(True),
        id="of peepholes",
    ),
    Case("gru", [arr(T, 3 * H), arr(3 * H, H), SPLITS], expect=gru(False)),
    Case(
        "gru",
        [arr(T, 3 * H), arr(3 * H, H), SPLITS, arr(3 * H), STATE],
        both(True),
        expect=gru(True),
        grad2=True,
    ),
    Case("gru", [arr(0, 3 * H), arr(3 * H, H), EMPTY], expect=gru(False), id="empty"),
    Case(
        "gru_grad",
        [arr(T, 4 * H, low=0, high=1), STEPS, arr(3 * H, H), SPLITS, STEPS, STATE],
    ),
    Case("gru_grad", [arr(T, 4), arr(T, 1), arr(3, 1), ONE_ROW, arr(T, 1)], both(True)),
    Case("rnn", [STEPS, arr(H, H), SPLITS], expect=rnn("tanh", False), grad2=True),
    Case(
        "rnn",
        [STEPS, arr(H, H), SPLITS, STATE],
        {"activation": "relu", "reverse": True},
        expect=rnn("relu", True),
    ),
    Case(
        "lstm",
        [arr(T, 4 * H), half(4 * H, H), SPLITS, STATE, STATE, arr(3, H)],
        expect=lstm(False),
        tol=ROUNDING,
        id="a weight of halves",
    ),
    Case(
        "lstm_grad",
        [arr(T, 4 * H, low=0, high=1), STEPS, half(4 * H, H), SPLITS, half(T, H), None, STATE],
        tol=ROUNDING,
        id="a weight of halves",
    ),
    Case(
        "gru",
        [arr(T, 3 * H), half(3 * H, H), SPLITS, arr(3 * H), STATE],
        expect=gru(False),
        tol=ROUNDING,
        id="a weight of halves",
    ),
    Case(
        "gru_grad",
        [
            *(arr(T, 4 * H, low=0, high=1), half(T, H), half(3 * H, H), SPLITS),
            *(half(T, H), half(N, H)),
        ],
        tol=ROUNDING,
        id="a weight of halves",
    ),
    Case(
        "rnn",
        [STEPS, half(H, H), SPLITS, STATE],
        expect=rnn("tanh", False),
        tol=ROUNDING,
        id="a weight of halves",
    ),
    Case("rnn_grad", [STEPS, arr(H, H), SPLITS, STEPS]),
    Case("rnn_grad", [STEPS, arr(H, H), SPLITS, STEPS], {"activation": "relu"}, grad=[1, 3]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(recurrent).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


@pytest.mark.parametrize(("op", "gates"), [("lstm", 4), ("gru", 3)])
def test_what_a_weight_of_halves_multiplies_is_rounded_at_each_step(op, gates):
    """As in float64 with h rounded before each product; what is compared is float32."""
    splits = np.array([0, 40])
    x = arr(40, gates * 8).make((1,)).astype(np.float64)
    weight = arr(gates * 8, 8, low=-0.5, high=0.5).make((2,)).astype("bfloat16")
    wide = np.asarray(weight, np.float64)

    class Rounding(np.ndarray):
        """A weight that rounds what it multiplies."""

        def __matmul__(self, h):
            return wide @ h.astype(np.float32).astype("bfloat16").astype(np.float64)

    apply = {"lstm": lstm, "gru": gru}[op](False)
    rounded, exact = (apply(x, w, splits)[1] for w in (wide.view(Rounding), wide))
    got = getattr(recurrent, op)(x.astype(np.float32), weight, splits)[1]
    assert np.abs(got - rounded).max() < 1e-4 < np.abs(got - exact).max()


def test_dtypes_with_a_weight_of_halves():
    x, weight = arr(T, 4 * H).make((1,)), half(4 * H, H).make((2,))
    h, c, gates = recurrent.lstm(x, weight, SPLITS)
    assert [a.dtype.name for a in (h, c, gates)] == ["bfloat16", "float32", "float32"]
    dx, dh0, dc0 = recurrent.lstm_grad(gates, c, weight, SPLITS, h)
    assert [a.dtype.name for a in (dx, dh0, dc0)] == ["bfloat16", "float32", "float32"]


def test_rows_do_not_see_each_other():
    x, weight = arr(T, 4 * H).make((1,)), arr(4 * H, H).make((2,))
    one = recurrent.lstm(x, weight, SPLITS)[0]
    x[:3] = np.nan
    other = recurrent.lstm(x, weight, SPLITS)[0]
    assert np.isnan(other[:3]).all() and (other[3:] == one[3:]).all()


@pytest.mark.parametrize(
    ("x", "weight", "splits", "state", "error", "match"),
    [
        ((6, 12), (12, 4), SPLITS, None, ShapeError, "weight"),
        ((6, 11), (12, 3), SPLITS, None, ShapeError, "size of x"),
        ((6, 12), (12, 3), SPLITS, (3, 3), ShapeError, "h0"),
        ((6, 2, 6), (12, 3), SPLITS, None, ShapeError, "rank 2"),
        ((6, 12), (12, 3), SPLITS.astype(float), None, DTypeError, "integer"),
        ((6, 12), (12, 3), np.array([0, 7]), None, ArgumentError, "do not divide"),
    ],
)
def test_what_does_not_fit_is_refused(x, weight, splits, state, error, match):
    h0 = None if state is None else np.ones(state)
    with pytest.raises(error, match=match):
        recurrent.lstm(np.ones(x), np.ones(weight), splits, h0)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ArgumentError, match="tanh or relu"):
        recurrent.rnn(np.ones((2, 3)), np.ones((3, 3)), np.array([0, 2]), activation="gelu")
