"""Canonical arithmetic: every rule keeps the value, and equal sizes look equal."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings

from noria.core.dim_algebra import as_size, known_ge
from noria.core.dims import Dim, dim_max, dim_min, evaluate, symbol
from noria.core.errors import ArgumentError
from tests.core.sizes import build, compute, trees, values

N, M, T = symbol("N"), symbol("M"), symbol("T")
quick = settings(max_examples=300, deadline=None, database=None)


@quick
@given(trees, values)
def test_every_simplification_keeps_the_value(tree, bindings):
    expected = compute(tree, bindings)
    assert evaluate(build(tree), bindings) == expected


@quick
@given(trees)
def test_a_constant_is_an_int_and_never_a_dim(tree):
    size = build(tree)
    assert type(size) is int or (type(size) is Dim and any(m for m, _ in size.terms))


@pytest.mark.parametrize(
    ("size", "same"),
    [
        (N + N, 2 * N),
        (N + 1, 1 + N),
        (N * 0, 0),
        (N - N, 0),
        ((N + 1) - N, 1),
        ((2 * N) // 2, N),
        ((4 * N + 6) // 2, 2 * N + 3),
        ((N + M) * (N - M), N * N - M * M),
        (3 * N // 2, N + N // 2),
        ((2 * N + 1) // 4, N // 2),
        (N // 2 // 3, N // 6),
        (((T + 1) // 2 + 1) // 2, (T + 3) // 4),
        (-(-N // 2), (N + 1) // 2),
        ((N * T * 12) // (N * 3), 4 * T),
        ((N * T + T) // (N + 1), T),
        ((6 * N) // (4 * M), (3 * N) // (2 * M)),
        (N // -2, -((N + 1) // 2)),
        ((N % 4) // 4, 0),
        (0 // N, 0),
        ((4 * N + 6) % 2, 0),
        ((5 * N + 7) % 4, (N + 3) % 4),
        ((2 * N) % 4, 2 * (N % 2)),
        ((2 * N + 1) % 4, 2 * (N % 2) + 1),
        (N % 4 % 8, N % 4),
        ((N * T + 1) % N, 1 % N),
        (N % -3, -((-N) % 3)),
        (N % 1, 0),
        (dim_max(N, M), dim_max(M, N)),
        (dim_max(N, dim_max(M, 3)), dim_max(3, M, N)),
        (dim_max(N + 1, 1, N), N + 1),
        (dim_min(N, N + 2), N),
        (dim_max(N, 0), N),
        (dim_min(N, 0), 0),
    ],
)
def test_equal_sizes_have_one_form(size, same):
    assert size == same
    assert hash(size) == hash(same)


def test_different_sizes_are_different():
    assert N != M and N != 1 and N + 1 != N and N // 2 != N % 2
    assert len({N, M, N + 0, 1 * N}) == 2


def test_a_symbol_is_made_once():
    assert symbol("N") is N


@pytest.mark.parametrize("name", ["", "2N", "a b", "a.b", "max", "min", "é", "N\n"])
def test_a_bad_symbol_name_is_refused(name):
    with pytest.raises(ArgumentError, match="bad name"):
        symbol(name)


@pytest.mark.parametrize("op", [operator.lt, operator.le, operator.gt, operator.ge])
def test_ordering_a_symbolic_size_says_what_to_use_instead(op):
    with pytest.raises(ArgumentError, match=r"until it is bound(.|\n)*known_ge"):
        op(N, 3)


@pytest.mark.parametrize("use", [int, float, bool, range, operator.index, np.zeros])
def test_using_a_symbolic_size_as_a_number_names_it(use):
    with pytest.raises(ArgumentError, match=r"the size 2\*N\+1"):
        use(2 * N + 1)


def test_division_by_a_constant_zero_is_refused():
    for divide in (operator.floordiv, operator.mod):
        with pytest.raises(ArgumentError, match="divided by zero"):
            divide(N, 0)


def test_numpy_integers_work_on_both_sides():
    three = np.int64(3)
    assert three * N == N * three == 3 * N
    assert three - N == 3 - N and three // N == 3 // N and three % N == 3 % N
    assert type(as_size(three)) is int


@pytest.mark.parametrize("other", [1.5, "2", None, True, [1]])
def test_what_is_not_a_size_is_a_type_error(other):
    with pytest.raises(TypeError):
        N + other
    with pytest.raises(ArgumentError, match="not a size"):
        as_size(other)


def test_true_division_is_not_defined():
    with pytest.raises(TypeError):
        N / 2


def test_max_of_nothing_is_refused():
    with pytest.raises(ArgumentError, match="at least one"):
        dim_max()


def test_a_product_with_too_many_terms_is_refused_before_it_is_computed():
    wide = sum((symbol(f"s{i}") for i in range(200)), 0)
    with pytest.raises(ArgumentError, match="too large"):
        for _ in range(10):
            wide = wide * wide


@quick
@given(trees, trees, values)
def test_known_ge_agrees_with_every_binding(left, right, bindings):
    known = known_ge(build(left), build(right))
    if known is not None:
        assert known == (compute(left, bindings) >= compute(right, bindings))


def test_known_ge_decides_what_follows_from_sizes_being_at_least_zero():
    assert known_ge(3, 2) is True
    assert known_ge(N + 2, 2) is True
    assert known_ge(N, N + 1) is False
    assert known_ge(N, M) is None
    assert known_ge(N * M, 0) is True
    assert known_ge(dim_max(N, M), N) is None
