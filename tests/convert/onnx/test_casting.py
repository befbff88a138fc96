"""Casts that Programs do not know."""

import ml_dtypes
import numpy as np
import pytest

from noria.convert.onnx.casting import EXPONENT, cast_numbers
from noria.core.errors import FormatError

E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
WIDE = np.array([1e9, -1e9, np.nan, 0.5, np.inf], np.float32)


def test_small_floats_are_saturated_or_not() -> None:
    top = float(ml_dtypes.finfo(E4M3).max)
    got = cast_numbers(WIDE, E4M3).astype(float)
    assert got.tolist()[:2] == [top, -top]
    assert np.isnan(got[2])
    assert got.tolist()[3:] == [0.5, top]
    assert np.isnan(cast_numbers(WIDE, E4M3, saturate=False).astype(float)[[0, 1, 2, 4]]).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("up", [1, 2, 2, 4]), ("down", [1, 1, 1, 2]), ("nearest", [1, 1, 2, 4])],
)
def test_powers_of_two_are_rounded_as_asked(mode: str, expected: list[float]) -> None:
    got = cast_numbers(np.array([1, 1.25, 1.5, 3.5], "f4"), EXPONENT, round_mode=mode)
    assert got.astype(float).tolist() == expected
    with pytest.raises(FormatError, match="rounding"):
        cast_numbers(np.ones(1), EXPONENT, round_mode="odd")


def test_texts_become_numbers_and_numbers_texts() -> None:
    texts = np.array(["1.5", "-INF", "NaN", "2e3"], object)
    got = cast_numbers(texts, np.dtype("f4"))
    assert got[[0, 1, 3]].tolist() == [1.5, -np.inf, 2000]
    assert np.isnan(got[2])
    assert cast_numbers(np.array([1, 2]), np.dtype(object)).tolist() == ["1", "2"]
    with pytest.raises(FormatError, match="no number"):
        cast_numbers(np.array(["x"], object), np.dtype("f4"))
