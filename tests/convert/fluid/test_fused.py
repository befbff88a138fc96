"""Operators that Fluid fuses; the reference vectors judge the rest."""

from typing import Any

import numpy as np
import pytest

from noria.convert.fluid.fused import pooled, with_click_rate
from noria.core.errors import ArgumentError

SPLITS = np.array([0, 2, 2, 5])
X = np.arange(10.0).reshape(5, 2) + 1


@pytest.mark.parametrize(("kind", "divisor"), [("SUM", 1), ("AVERAGE", 3), ("SQRT", 3**0.5)])
def test_rows_are_pooled_and_empty_ones_are_zero(kind: str, divisor: float):
    got = pooled(X, SPLITS, kind)
    np.testing.assert_allclose(got[2], X[2:].sum(0) / divisor)
    assert got[1].tolist() == [0, 0]


def test_shows_and_clicks_become_a_rate():
    x = np.array([[3.0, 1.0, 7.0]])
    assert with_click_rate(x, False).tolist() == [[7.0]]
    np.testing.assert_allclose(with_click_rate(x, True), [[np.log(4), np.log(2) - np.log(4), 7]])


def test_fc_keeps_the_first_axes(run_op: Any) -> None:
    x, w = np.ones((2, 3, 2, 2), "f4"), np.ones((4, 5), "f4")
    got = run_op("fc", {"Input": x, "W": w}, {"in_num_col_dims": 2})["Out"]
    assert got.shape == (2, 3, 5) and (got == 4).all()
    with pytest.raises(ArgumentError, match="in_num_col_dims"):
        run_op("fc", {"Input": x, "W": w}, {"in_num_col_dims": 4})


def test_two_functors_must_be_a_binary_and_a_unary_one(run_op: Any) -> None:
    x = np.array([1.0, -2.0], "f4")
    attrs = {"functor_list": ["relu", "elementwise_add"]}
    got = run_op("fused_elemwise_activation", {"X": x, "Y": x}, attrs)["Out"]
    assert got.tolist() == [2.0, 0.0]
    with pytest.raises(ArgumentError, match="functor_list"):
        run_op("fused_elemwise_activation", {"X": x, "Y": x}, {"functor_list": ["relu", "relu"]})
