"""Dtypes by name."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from noria.core.dtypes import (
    ALL,
    FLOATS,
    as_dtype,
    is_float,
    is_integer,
    itemsize,
    promote,
    to_numpy,
)
from noria.core.errors import DTypeError


@pytest.mark.parametrize("name", ALL)
def test_names_survive_numpy(name: str) -> None:
    assert as_dtype(to_numpy(name)) == name
    assert itemsize(name) == to_numpy(name).itemsize
    assert is_float(name) + is_integer(name) + (name == "bool") == 1


def test_what_users_write_is_understood() -> None:
    assert as_dtype("float32") == as_dtype(np.float32) == as_dtype("f4") == "float32"
    assert as_dtype(float) == "float32"
    assert as_dtype(int) == "int64"
    assert as_dtype(bool) == "bool"
    assert as_dtype(ml_dtypes.bfloat16) == "bfloat16"


@pytest.mark.parametrize("bad", ["float23", object, "U10", "datetime64[s]", None.__class__])
def test_an_unknown_dtype_is_a_clear_error(bad: object) -> None:
    with pytest.raises(DTypeError, match="unknown dtype"):
        as_dtype(bad)
    with pytest.raises(DTypeError, match="float32"):
        as_dtype("flot32")


def test_promotion_is_symmetric_and_keeps_itself() -> None:
    for a, b in itertools.product(ALL, ALL):
        assert promote(a, b) == promote(b, a)
        assert promote(a, a) == a


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ("bool", "int8", "int8"),
        ("int64", "float32", "float32"),
        ("int64", "bfloat16", "bfloat16"),
        ("bfloat16", "float16", "float32"),
        ("float32", "float64", "float64"),
        ("float16", "float32", "float32"),
        ("uint8", "int8", "int16"),
        ("uint64", "int64", "int64"),
        ("int32", "int64", "int64"),
    ],
)
def test_promotion_table(a: str, b: str, wanted: str) -> None:
    assert promote(a, b) == wanted


def test_an_integer_never_widens_a_float() -> None:
    for f in FLOATS:
        for i in ALL:
            if is_integer(i):
                assert promote(f, i) == f
