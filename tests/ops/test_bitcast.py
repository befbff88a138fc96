"""Bits read as numbers of another dtype."""

import struct

import numpy as np
import pytest

from noria import ops
from noria.core.errors import DTypeError, ShapeError
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case


def words(x: np.ndarray) -> np.ndarray:
    return np.array(
        [struct.unpack("<i", struct.pack("<f", v))[0] for v in x.ravel()], "i4"
    ).reshape(x.shape)


def floats(x: np.ndarray) -> np.ndarray:
    rows = x.reshape(-1, 4)
    return np.array([struct.unpack("<f", bytes(r))[0] for r in rows], "f4").reshape(x.shape[:-1])


CASES = [
    Case("bitcast", [arr(2, 3)], {"dtype": "int32"}, expect=words, symbolic={0: {0: "N"}}),
    Case(
        "bitcast", [ints(3, 4, low=1, high=100, dtype="uint8")], {"dtype": "float32"}, expect=floats
    ),
    Case("bitcast", [ints(2, 3, dtype="int32")], {"dtype": "uint8"}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case) -> None:
    check_case(case)


def test_narrow_parts_make_the_number_again() -> None:
    x = np.array([1.5, -2.0], np.float32)
    parts = ops.bitcast(x, dtype="uint8")
    assert parts.shape == (2, 4) and np.array_equal(ops.bitcast(parts, dtype="float32"), x)


def test_what_makes_no_number_is_refused() -> None:
    with pytest.raises(ShapeError, match="make one number"):
        ops.bitcast(np.zeros((2, 3), np.uint8), dtype="float32")
    with pytest.raises(DTypeError):
        ops.bitcast(np.zeros(2, bool), dtype="uint8")
