"""Inputs of a model as specs."""

from typing import Any

import pytest

from noria.convert.onnx.types import spec_of
from noria.core.errors import FormatError

onnx = pytest.importorskip("onnx")


def info(shape: Any, number: int = 1) -> Any:
    return onnx.helper.make_tensor_value_info("x", number, shape)


def test_sizes_are_numbers_symbols_or_named_after_the_input() -> None:
    sizes: dict[str, Any] = {}
    assert str(spec_of(info([2, "N", None, "?"]), sizes)) == "float32[2, N, x_2, x_3]"
    assert str(spec_of(info(["N"], 7), sizes)) == "int64[N]"


def test_odd_names_become_symbols_that_stay_apart() -> None:
    spec = spec_of(info(["a b", "a+b", "2x", "max"]), {})
    assert str(spec) == "float32[a_b, a_b_1, n_2x, n_max]"


def test_a_fixed_size_takes_the_place_of_its_symbol() -> None:
    assert str(spec_of(info(["N", 3]), {"N": 4})) == "float32[4, 3]"
    assert str(spec_of(info(["a b", "c d"]), {"a_b": 4, "c d": 5})) == "float32[4, 5]"


def test_what_a_program_cannot_hold_has_no_spec() -> None:
    assert spec_of(info([2], 8), {}) is None
    assert spec_of(info(None), {}) is None


def test_a_size_of_two_to_the_62_is_an_error() -> None:
    with pytest.raises(FormatError, match="too large"):
        spec_of(info([1 << 62]), {})
