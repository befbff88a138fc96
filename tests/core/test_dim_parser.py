"""The parser: everything that prints is read back, everything else is a clear error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.core.dim_nodes import MAX_DEPTH, MAX_TEXT
from noria.core.dim_parser import Parser
from noria.core.dims import ceil_div, dim_max, parse_dim, parse_shape, symbol
from noria.core.errors import ArgumentError
from tests.core.sizes import build, trees

N, M, T = symbol("N"), symbol("M"), symbol("T")
quick = settings(max_examples=300, deadline=None, database=None)


@quick
@given(trees)
def test_what_prints_is_read_back_the_same(tree):
    size = build(tree)
    again = parse_dim(str(size))
    assert again == size and type(again) is type(size) and str(again) == str(size)


@quick
@given(st.text(alphabet="NM01 +-*/%(),[]max$", max_size=30))
def test_any_text_is_a_size_or_an_argument_error(text):
    try:
        size = parse_dim(text)
    except ArgumentError:
        return
    assert parse_dim(str(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12", 12),
        ("-12", -12),
        (" N + 1 ", N + 1),
        ("2*N//3", (2 * N) // 3),
        ("2*(N//3)", 2 * (N // 3)),
        ("7-2-1", 4),
        ("--+N", N),
        ("-N//2", (-N) // 2),
        ("max(N, M, 3)", dim_max(N, M, 3)),
        ("min(4, 2)", 2),
        ("(T+1)//2+1", ceil_div(T + 2, 2)),
    ],
)
def test_operators_bind_as_in_python(text, size):
    assert parse_dim(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"character 1 of ''"),
        ("2*(N+$)", r"character 6 of '2\*\(N\+\$\)'"),
        ("2N", r"character 2 (.|\n)*got      'N'"),
        ("N+", "the end of the text"),
        ("(N", r"expected '\)'"),
        ("N)", "an operator or the end"),
        ("N/2", "got      '/'"),
        ("max", r"expected '\('"),
        ("max()", "a number, a name"),
        ("N**2", r"got      '\*'"),
        ("N//0", "divided by zero"),
        ("N.real", "got      '.'"),
        ("N\n", "got "),
    ],
)
def test_bad_text_is_an_error_that_shows_the_place(text, message):
    with pytest.raises(ArgumentError, match=message):
        parse_dim(text)


def test_text_that_is_too_long_is_refused_unread():
    with pytest.raises(ArgumentError, match=f"at most {MAX_TEXT} characters"):
        parse_dim("N+" * MAX_TEXT + "N")
    with pytest.raises(ArgumentError, match="digits"):
        parse_shape("[" + "9" * (MAX_TEXT + 1) + "]")


def test_nesting_up_to_the_limit_is_read_and_beyond_it_refused():
    deepest = "(" * MAX_DEPTH + "N" + ")" * MAX_DEPTH
    assert parse_dim(deepest) == N
    with pytest.raises(ArgumentError, match=f"at most {MAX_DEPTH} parentheses"):
        parse_dim(f"({deepest})")


def test_a_long_run_of_signs_needs_no_stack():
    assert Parser("-" * 900 + "N", MAX_TEXT).whole_size() == N


def test_powers_that_explode_are_refused_quickly():
    with pytest.raises(ArgumentError, match="too large"):
        parse_dim("*".join(["(a+b+c+d+e+f+g+h)"] * 50))


@pytest.mark.parametrize("text", ["N, 3", "[N, 3", "[N 3]", "[N,]", "[,]", "[N] 3", "[[N]]"])
def test_bad_shape_text_is_refused(text):
    with pytest.raises(ArgumentError, match="cannot read"):
        parse_shape(text)
