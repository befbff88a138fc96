"""Forms of recurrent layers: a scan that spells out the standard layer gives what its op gives, and
what only these forms have is checked against a loop in NumPy."""

import itertools

import numpy as np
import pytest
from scipy.special import expit

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.recurrent_forms import gru_form, lstm_form, rnn_form
from noria.ops.steps import DenseRows
from noria.testing.case import arr

SPLITS = np.array([0, 3, 3, 4, 6])
H, T, N, P = 3, 6, 4, 2


def make(seed, *shape):
    return arr(*shape, dtype="float64").make((seed,))


X, W, PEEPHOLES = make(1, T, 4 * H), make(2, 4 * H, H), make(3, 3, H)
H0, C0 = make(4, N, H), make(5, N, H)


def spelled(*names):
    """The same functions, in a form that is not recognised as standard."""
    return [lambda x, n=n: getattr(o, n)(x) for n in names]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_spelled_out_lstm_is_the_op(reverse):
    how = {"peepholes": PEEPHOLES, "reverse": reverse}
    got = lstm_form(X, W, SPLITS, H0, C0, activations=spelled("sigmoid", "tanh", "tanh"), **how)
    for a, b in zip(got, lstm_form(X, W, SPLITS, H0, C0, **how), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_a_spelled_out_gru_is_the_op(reset_after, keeps):
    x, weight, bias = X[:, : 3 * H], W[: 3 * H], make(6, 3 * H)
    how = {"reset_after": reset_after, "keeps": keeps, "reverse": True}
    got = gru_form(x, weight, SPLITS, bias, H0, activations=spelled("sigmoid", "tanh"), **how)
    np.testing.assert_allclose(got, gru_form(x, weight, SPLITS, bias, H0, **how), atol=1e-12)


def test_a_spelled_out_plain_layer_is_the_op():
    x, weight = X[:, :H], W[:H]
    got = rnn_form(x, weight, SPLITS, H0, activation=spelled("tanh")[0])
    np.testing.assert_allclose(got, rnn_form(x, weight, SPLITS, H0), atol=1e-12)


def test_what_only_forms_of_lstm_have():
    weight, projection = W[:, :P], make(7, P, H)
    alpha, of_h, of_x = make(8, 4 * H), make(9, 4 * H), make(10, 4 * H)
    got = lstm_form(
        X,
        weight,
        SPLITS,
        None,
        C0,
        projection=projection,
        projection_activation="tanh",
        clip=1.5,
        cell_clip=0.7,
        projection_clip=0.4,
        coupled=True,
        integration=(alpha, of_h, of_x),
    )
    for n, (a, b) in enumerate(itertools.pairwise(SPLITS)):
        h, c = np.zeros(P), C0[n]
        for p in range(a, b):
            u = weight @ h
            i, _, g, out = np.split(
                np.clip(alpha * X[p] * u + of_h * u + of_x * X[p], -1.5, 1.5), 4
            )
            c = np.clip((1 - expit(i)) * c + expit(i) * np.tanh(g), -0.7, 0.7)
            h = np.clip(np.tanh(projection @ (expit(out) * np.tanh(c))), -0.4, 0.4)
            np.testing.assert_allclose(got[0][p], h, atol=1e-12)
            np.testing.assert_allclose(got[1][p], c, atol=1e-12)


def test_dense_rows_give_what_packed_rows_give():
    dense, splits = DenseRows(2, 3), np.array([0, 3, 6])
    for a, b in zip(lstm_form(X, W, dense), lstm_form(X, W, splits), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    x, weight = X[:, : 3 * H], W[: 3 * H]
    for keeps in (False, True):
        got = gru_form(x, weight, dense, keeps=keeps, reverse=True)
        want = gru_form(x, weight, splits, keeps=keeps, reverse=True)
        np.testing.assert_allclose(got, want, atol=1e-12)
    got = rnn_form(X[:, :H], W[:H], dense)
    np.testing.assert_allclose(got, rnn_form(X[:, :H], W[:H], splits), atol=1e-12)


def test_the_number_of_activations_must_fit():
    with pytest.raises(ArgumentError, match="2 activations"):
        gru_form(X[:, : 3 * H], W[: 3 * H], SPLITS, activations=("relu",))
    with pytest.raises(ArgumentError, match="activations"):
        lstm_form(X, W, SPLITS, activations=("sigmoid", "tanh"))
