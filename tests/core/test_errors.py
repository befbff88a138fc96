"""Errors: four parts, and the builtin a Python programmer would catch."""

from __future__ import annotations

import pytest

from noria.core import errors
from noria.core.errors import ExtraMissing, MissingError, NoriaError, ShapeError, nearest


def test_message_has_the_parts_that_are_known() -> None:
    error = ShapeError("shapes differ", where="add at a.py:3", expected="[2]", hint="reshape")
    assert str(error) == (
        "shapes differ\n  at       add at a.py:3\n  expected [2]\n  try      reshape"
    )


def test_place_is_filled_in_once() -> None:
    error = NoriaError("wrong").at("first").at("second")
    assert error.where == "first"


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ShapeError, ValueError),
        (errors.DTypeError, TypeError),
        (errors.ArgumentError, ValueError),
        (errors.MissingError, KeyError),
        (errors.FormatError, ValueError),
        (errors.ProgramError, ValueError),
        (errors.EngineError, RuntimeError),
    ],
)
def test_each_kind_is_also_a_builtin(kind: type[NoriaError], builtin: type[Exception]) -> None:
    with pytest.raises(builtin):
        raise kind("wrong")


def test_a_missing_name_is_not_shown_as_a_repr() -> None:
    assert str(MissingError("no 'x'", hint="y")) == "no 'x'\n  try      y"


def test_a_missing_extra_names_the_command() -> None:
    assert "pip install 'noria[xla]'" in str(ExtraMissing("jax", "xla", "the XLA engine"))


def test_nearest_names() -> None:
    assert nearest("relo", ["relu", "exp"]) == "did you mean 'relu'?"
    assert nearest("zzz", ["b", "a"]) == "one of a, b"
    assert nearest("zzz", []) == "there are none"
    assert "(20 in all)" in nearest("zzz", [f"name{i:02}" for i in range(20)])
