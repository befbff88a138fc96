"""Nodes: immutability, limits, printing, bounds."""

import copy
import pickle

import pytest

from noria.core.dim_nodes import MAX_DEPTH, MAX_TEXT, bounds
from noria.core.dims import dim_max, dim_min, parse_dim, symbol
from noria.core.errors import ArgumentError

N, M, T = symbol("N"), symbol("M"), symbol("T")


def test_a_node_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        N.text = "M"
    with pytest.raises(AttributeError, match="immutable"):
        N.terms[0][0][0].kind = "max"
    with pytest.raises(AttributeError, match="immutable"):
        del N.terms


def test_nodes_survive_pickle_and_deepcopy():
    dim = dim_max((T + 3) // 2, N * M) % 7
    for other in (pickle.loads(pickle.dumps(dim)), copy.deepcopy(dim)):
        assert other == dim and hash(other) == hash(dim) and str(other) == str(dim)


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (2 * N + 1, "2*N+1"),
        (M - N, "M-N"),
        (N - M, "-M+N"),
        (-N, "-N"),
        ((T + 3) // 2, "(T+3)//2"),
        (T // 2 + 1, "T//2+1"),
        ((T - 1) // 2 + 1, "(T+1)//2"),
        (-(T // 2), "-(T//2)"),
        (M - T // 2, "M-T//2"),
        (N * (T // 2), "N*(T//2)"),
        (N * M // (T + 1), "M*N//(T+1)"),
        (N // (M * T), "N//(M*T)"),
        ((-3) // N + M, "(-3)//N+M"),
        ((M + N) % 3 * 2, "2*((M+N)%3)"),
        (dim_max(N, M, 3) + 1, "max(M, N, 3)+1"),
        (dim_min(N, 2 * M), "min(2*M, N)"),
        (N * N, "N*N"),
    ],
)
def test_text_is_readable_and_means_the_same_to_the_parser(dim, text):
    assert str(dim) == repr(dim) == text
    assert parse_dim(text) == dim


def test_text_is_as_python_would_evaluate_it():
    names = {"N": 7, "M": 4, "T": 10, "max": max, "min": min}
    dim = N * M // (T + 1) - (T // 3) * 2 + dim_max(N, M - T // 2) % 5
    value = 7 * 4 // 11 - (10 // 3) * 2 + max(7, 4 - 5) % 5
    assert eval(str(dim), {"__builtins__": {}}, names) == value


def test_an_expression_with_too_much_text_is_refused():
    long = symbol("x" * (MAX_TEXT // 2))
    with pytest.raises(ArgumentError, match="too large an expression"):
        long * long * long


def test_an_expression_nested_too_deeply_is_refused():
    dim = N
    with pytest.raises(ArgumentError, match="inside each other"):
        for _ in range(MAX_DEPTH):
            dim = (dim + M) // 2


@pytest.mark.parametrize(
    ("dim", "low", "high"),
    [
        (N + 1, 1, None),
        (3 - N, None, 3),
        (N - M, None, None),
        (N % 4, 0, 3),
        ((N - 5) // 2, -3, None),
        (N % 4 * (M % 3), 0, 6),
        (N * M + 2, 2, None),
        ((N - 1) * (M % 2), -1, None),
        (N // (M - 1) * N, None, None),
        (dim_max(N % 4, 2), 2, 3),
        (dim_min(N, 6), 0, 6),
        (dim_max(N - 3, M - 9), -3, None),
        (N // M, 0, None),
        (N % M, 0, None),
        ((N - 1) // M, None, None),
        (N // (M - 1), None, None),
        (N % 9 // (M + 2), 0, 8),
    ],
)
def test_bounds_hold_whatever_the_symbols_are(dim, low, high):
    assert bounds(dim) == (low, high)
