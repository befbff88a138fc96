"""The public functions on sizes."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from noria.core.dims import (
    Dim,
    ceil_div,
    compile_dims,
    dim_max,
    dim_min,
    evaluate,
    format_shape,
    parse_dim,
    parse_shape,
    product,
    prove_equal,
    substitute,
    symbol,
    symbols_of,
)
from noria.core.errors import ArgumentError, MissingError
from tests.core.sizes import NAMES, build, compute, trees, values

N, M, T = symbol("N"), symbol("M"), symbol("T")
quick = settings(max_examples=200, deadline=None, database=None)


@quick
@given(st.integers(0, 50), st.integers(1, 9))
def test_ceil_div_rounds_up(n, k):
    assert ceil_div(n, k) == evaluate(ceil_div(N, k), {"N": n}) == math.ceil(n / k)
    assert evaluate(ceil_div(N, M), {"N": n, "M": k}) == math.ceil(n / k)


def test_ceil_div_by_less_than_one_is_refused():
    with pytest.raises(ArgumentError, match="positive divisor"):
        ceil_div(N, 0)


def test_product_of_a_shape_is_canonical():
    assert product((N, 3, T, 2)) == 6 * N * T
    assert product(()) == 1
    assert product((2, 3)) == 6
    assert product((N, 0)) == 0


def test_max_and_min_of_ints_are_ints():
    assert dim_max(3, 5, 4) == 5 and dim_min(3, 5, 4) == 3


@pytest.mark.parametrize(
    ("a", "b", "proof"),
    [
        (3, 3, True),
        (3, 4, False),
        (N + 1, 1 + N, True),
        (N, N + 1, False),
        (N, M, None),
        (N, 3, None),
        (2 * N, 2 * M + 1, False),
        (N + 1, 0, False),
        (N % 2 + 2 * (N // 2), N, True),
        (N % M + M * (N // M), N, True),
        (dim_max(N, 3), 2, False),
        (N * M, M * N, True),
    ],
)
def test_prove_equal_decides_or_says_it_depends(a, b, proof):
    assert prove_equal(a, b) is proof
    assert prove_equal(b, a) is proof


@quick
@given(trees, trees, values)
def test_a_proof_agrees_with_every_binding(left, right, bindings):
    proof = prove_equal(build(left), build(right))
    if proof is not None:
        assert proof == (compute(left, bindings) == compute(right, bindings))


def test_evaluate_names_every_missing_symbol():
    with pytest.raises(MissingError, match=r"no value for M, T\n(.|\n)*N=2"):
        evaluate(N * M + T, {"N": 2})


def test_evaluate_reports_a_division_by_zero():
    with pytest.raises(ArgumentError, match="divided by zero"):
        evaluate(N // M, {"N": 4, "M": 0})


def test_evaluate_refuses_values_that_are_not_integers():
    with pytest.raises(ArgumentError, match="not a size"):
        evaluate(N + 1, {"N": 2.5})


def test_evaluate_of_an_int_is_the_int():
    assert evaluate(7, {}) == 7


def test_substitute_puts_sizes_for_symbols_and_simplifies():
    assert substitute((N + M) // 2, {"N": 2 * T, "M": 4}) == T + 2
    assert substitute(dim_max(N, M), {"N": M + 1}) == M + 1
    assert substitute(N, {}) == N
    assert substitute(5, {"N": 1}) == 5


@quick
@given(trees, values)
def test_substituting_one_symbol_after_the_other_is_evaluating(tree, bindings):
    expected = compute(tree, bindings)
    size = build(tree)
    try:
        for name, value in bindings.items():
            size = substitute(size, {name: value})
    except ArgumentError:
        assume(False)
    assert size == expected


def test_symbols_are_found_inside_every_kind_of_node():
    dim = dim_max(N // 2, M % 3) * T
    assert symbols_of(dim) == {"N", "M", "T"}
    assert symbols_of((N, 3, T)) == {"N", "T"}
    assert symbols_of(3) == symbols_of(()) == frozenset()


@quick
@given(st.lists(trees, max_size=5), values)
def test_compiled_sizes_equal_evaluated_ones(several, bindings):
    expected = [compute(tree, bindings) for tree in several]
    rebind = compile_dims([build(tree) for tree in several], NAMES)
    assert rebind([bindings[name] for name in NAMES]) == expected


def test_compiled_sizes_share_what_they_have_in_common():
    half = T // 2
    rebind = compile_dims([half, half + 1, N * half, half, 7], ["T", "N"])
    assert rebind([9, 3]) == [4, 5, 12, 4, 7]


def test_symbols_named_as_python_keywords_compile():
    dims = [symbol("lambda") + 1, symbol("None") * 2, symbol("v0"), symbol("t1") // 2]
    assert compile_dims(dims, ["lambda", "None", "v0", "t1"])([1, 2, 3, 4]) == [2, 4, 3, 2]


def test_compiling_without_a_place_for_a_symbol_is_refused():
    with pytest.raises(MissingError, match="no place for M"):
        compile_dims([N * M], ["N"])


def test_binding_another_number_of_values_is_refused():
    with pytest.raises(ArgumentError, match=r"2 values, for \[N, M\](.|\n)*1 values"):
        compile_dims([N], ["N", "M"])([1])


def test_binding_a_divisor_to_zero_is_reported_with_the_values():
    with pytest.raises(ArgumentError, match=r"divided by zero\n(.|\n)*N=4, M=0"):
        compile_dims([N // M], ["N", "M"])([4, 0])


def test_without_symbols_the_compiled_sizes_are_constants():
    assert compile_dims([1, 2], [])([]) == [1, 2]


def test_shapes_print_and_read_back():
    shape = (N, 3, T // 2)
    assert format_shape(shape) == "[N, 3, T//2]"
    assert parse_shape("[N, 3, T//2]") == shape
    assert parse_shape("[]") == () and format_shape(()) == "[]"
    assert parse_shape("[max(N, M), -1]") == (dim_max(N, M), -1)


@quick
@given(st.lists(trees, max_size=4))
def test_every_shape_round_trips(several):
    shape = tuple(map(build, several))
    assert parse_shape(format_shape(shape)) == shape


def test_parse_dim_gives_plain_ints_for_constants():
    assert type(parse_dim("2*3+1")) is int
    assert type(parse_dim("N+1")) is Dim
