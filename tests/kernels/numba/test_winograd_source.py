"""The text of the kernels; that they compute the right thing, test_winograd.py shows."""

import ast

import pytest

from noria.kernels.numba.winograd_source import (
    FACTOR_SPACE,
    TABLE,
    convolution,
    factors,
    nested,
    reading,
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_each_is_one_function_with_nothing_left_to_fill_in(flipped, activation, dtype):
    source = convolution("float32", True, activation, flipped, dtype)
    (function,) = ast.parse(source).body
    assert function.name == "winograd"
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert not {name for name in names if name.isupper()}


def test_what_is_absent_is_not_read():
    assert "load_float32(bias" not in convolution(None, False, None, False, "float32")
    assert "load_float32(residual" not in convolution("float32", False, None, False, "float32")


def test_numbers_are_read_in_order():
    assert reading("x y") == "    x = load_int64(args, 0)\n    y = load_int64(args, 1)"


def test_a_place_is_written_at_its_indentation():
    lines = nested("for t in range(3):\n    PLACE", 4).splitlines()
    assert lines[0] == "    for t in range(3):" and all(s.startswith(" " * 8) for s in lines[1:])


def test_the_tables_end_at_a_line():
    assert TABLE % 64 == 0 and FACTOR_SPACE % 64 == 0


@pytest.mark.parametrize(
    "dtype, given",
    [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")],
)
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_factors_have_nothing_left_to_fill_in_either(dtype, given, flipped, past):
    (function,) = ast.parse(factors(dtype, flipped, past, given)).body
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    assert function.name == "factors" and not {name for name in names if name.isupper()}
