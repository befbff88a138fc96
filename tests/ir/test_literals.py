"""Names, values and specs as text, and back."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.core.dims import dim_max, symbol
from noria.core.errors import FormatError, ProgramError
from noria.ir.literals import (
    KEYWORDS,
    MAX_DEPTH,
    Scanner,
    digest,
    elements,
    frozen_array,
    name_text,
    spec_text,
    value_text,
)
from noria.ir.program import Spec, Value

N, T = symbol("N"), symbol("T")

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([N, 2 * N + 1, N * T // 3, dim_max(N, T)]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)


def read(text, **options):
    scanner = Scanner(text, **options)
    value = scanner.value()
    assert scanner.at == len(text)
    return value


def refused(text, match, place=None, **options):
    with pytest.raises(FormatError, match=match) as told:
        read(text, **options)
    if place:
        assert told.value.where == place
    return told.value


def exactly(a, b):
    """Equal values of equal types; NaN is itself."""
    if isinstance(a, tuple):
        return type(b) is tuple and len(a) == len(b) and all(map(exactly, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


@given(PLAIN)
def test_values_are_read_back_exactly(value):
    assert exactly(read(value_text(value)), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-3, "-3"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e30, "1e+30"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        ('say "hé"\n', '"say \\"h\\u00e9\\"\\n"'),
        ((), "()"),
        ((1,), "(1,)"),
        ((1, ("a", 2.5)), '(1, ("a", 2.5))'),
        (2 * N + 1, "{2*N+1}"),
        ((N, 10), "[N, 10]"),
        ((N, 0.5), "({N}, 0.5)"),
        ((N, True), "({N}, true)"),
        (np.array([1, 2], np.int8), "array(int8[2], 1, 2)"),
        (np.array([[True], [False]]), "array(bool[2, 1], true, false)"),
        (np.array(0.1, np.float32), "array(float32[], 0.10000000149011612)"),
        (np.zeros((0, 3)), "array(float64[0, 3])"),
    ],
)
def test_values_print_like_this(value, text):
    assert value_text(value) == text


@pytest.mark.parametrize("value", [[1], {}, np.float32(1.0), np.int64(1), object(), 2**70, b""])
def test_what_is_not_plain_data_does_not_print(value):
    with pytest.raises(ProgramError, match=r"not plain data|64 bits"):
        value_text(value)


# ---- arrays ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -0.0], [np.inf, np.nan]], ml_dtypes.bfloat16),
        np.array([1e-7, 65504], np.float16),
        np.array([np.float32(0.1), -1e-45], np.float32),
        np.array(5e-324),
        np.array([2**64 - 1, 0], np.uint64),
        np.array([-(2**63)]),
        np.zeros((2, 0), np.int16),
        np.array([True, False]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
    ids=lambda a: str(a.dtype),
)
def test_small_arrays_are_read_back_exactly(array):
    back = read(value_text(array))
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert not back.flags.writeable


def test_large_arrays_print_as_their_digest():
    array = np.arange(17, dtype=np.float32)
    text = value_text(array)
    assert text == f'array(float32[17], sha256="{digest(array)}")'
    assert read(text, constants={digest(array): array}) is array
    assert "save and load" in refused(text, "does not hold the numbers").hint
    refused(text, "another spec", constants={digest(array): array.astype(np.float64)})


def test_a_digest_is_that_of_the_elements_in_order():
    array = np.arange(20.0).reshape(4, 5)
    assert digest(array) == digest(np.asfortranarray(array)) == digest(np.stack([array])[0])
    assert digest(array) != digest(array.T)
    assert len({digest(array.astype(t)) for t in ("float32", "float16", "float64")}) == 3


def test_elements_are_python_numbers():
    assert elements(np.array([[1, 2]], np.int8)) == [1, 2]
    got = elements(np.array([1.5], ml_dtypes.bfloat16))
    assert got == [1.5] and type(got[0]) is float


@pytest.mark.parametrize(
    ("items", "spec"),
    [
        ([1.5], "int64[1]"),
        ([1], "float32[1]"),
        ([True], "int64[1]"),
        ([300], "uint8[1]"),
        ([1.0, 2.0], "float32[3]"),
        (["1"], "float32[1]"),
        ([None], "float32[1]"),
    ],
)
def test_elements_of_another_kind_or_number_are_refused(items, spec):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        frozen_array(items, Scanner(spec).spec())
    text = ", ".join([spec, *map(value_text, items)])
    refused(f"array({text})", "bad array", "line 1, column 1")


# ---- names and specs ---------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_names_are_read_back(name):
    scanner = Scanner(name_text(name))
    assert scanner.name() == name and scanner.at == len(scanner.text)


def test_unusual_names_are_quoted():
    for name in ("x", "fc.weight", "encoder/0.bias-1", "_x", "inputs"):
        assert name_text(name) == name
    for name in (*KEYWORDS, "", "0x", "a b", "é", "a#b", "a\nb"):
        assert name_text(name).startswith('"')


def test_a_keyword_is_no_name():
    with pytest.raises(FormatError) as told:
        Scanner("input").name()
    assert "quotes" in told.value.expected


def test_specs_are_read_back():
    spec = Spec((N, 2 * T + 1, 3), "bfloat16")
    assert spec_text(spec) == "bfloat16[N, 2*T+1, 3]"
    assert Scanner(spec_text(spec)).spec() == spec
    assert spec_text(Value("x", (), "bool")) == "bool[]"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("float31[2]", "unknown dtype 'float31'"),
        ("f4[2]", "unknown dtype 'f4'"),
        ("[2]", "unknown dtype ''"),
        ("float32", "cannot read"),
        ("float32[2", "cannot read"),
        ("float32[-2]", "cannot be negative"),
        ("float32[2.5]", "cannot read a size"),
        ("float32[N//0]", "divided by zero"),
    ],
)
def test_bad_specs_are_refused(text, match):
    with pytest.raises(FormatError, match=match):
        Scanner(text).spec()


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "cannot read"),
        ("nul", "cannot read"),
        ("truely", "cannot read"),
        ("(1, 2", "cannot read"),
        ("(1 2)", "cannot read"),
        ("{N", "cannot read"),
        ("{N+}", "cannot read a size"),
        ("[1.5]", "cannot read a size"),
        ('"open', "bad text in quotes"),
        ('"\\x"', "bad text in quotes"),
        ('"\\ud800"', "bad text in quotes"),
        ("99999999999999999999", "integer is too large"),
        ("9" * 5000, "integer is too large"),
        ("(" * (MAX_DEPTH + 1), "tuples inside each other"),
        ("array(float32[2], 1.0)", "bad array"),
        ("array(int64[1], (1,))", "bad array"),
        ("array(1)", "unknown dtype"),
    ],
)
def test_bad_values_are_refused(text, match):
    refused(text, match)


def test_the_deepest_tuple_is_read():
    text = "(" * MAX_DEPTH + ")" * MAX_DEPTH
    assert value_text(read(text)).count("(") == MAX_DEPTH


def test_an_error_tells_line_and_column():
    scanner = Scanner("(1,  # one\n  2,\n  oops)")
    with pytest.raises(FormatError) as told:
        scanner.value()
    assert told.value.where == "line 3, column 3"
    assert told.value.got == repr("oops)")


def test_comments_and_blanks_may_stand_anywhere():
    assert read(" ( 1 ,# one\n\n 2 )".strip()) == (1, 2)
    scanner = Scanner("  # first\n 7 # last")
    assert scanner.value() == 7 and scanner.at == len(scanner.text)


def test_only_a_comment_on_the_same_line_belongs_to_a_mark():
    assert Scanner(")  # here\n# there").comment_after(")") == "here"
    assert Scanner(")\n# there").comment_after(")") is None
    with pytest.raises(FormatError):
        Scanner("(").comment_after(")")
