"""Blobs of Caffe2 made from arguments."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import ArgumentError, FormatError


def test_given_numbers_take_the_dtype_of_the_operator(run: Any) -> None:
    y = run("GivenTensorInt64Fill", values=[1, 2, 3, 4], shape=[2, 2])
    assert y.dtype == np.int64 and y.tolist() == [[1, 2], [3, 4]]


def test_numbers_that_do_not_fill_their_shape_are_refused(run: Any) -> None:
    with pytest.raises(FormatError, match="number of values"):
        run("GivenTensorFill", values=[1.0, 2.0], shape=[3])


@pytest.mark.parametrize("shape", [[1 << 62], [1 << 40, 1 << 40], [-3]])
def test_sizes_no_array_has_are_refused(run: Any, shape: list[int]) -> None:
    with pytest.raises(FormatError, match="no array has such sizes"):
        run("ConstantFill", shape=shape, value=1.0)


def test_a_constant_takes_the_shape_of_its_input_or_what_it_holds(run: Any) -> None:
    x = np.array([2, 3], np.int64)
    assert run("ConstantFill", x, value=2.5).tolist() == [2.5, 2.5]
    assert run("ConstantFill", x, value=7, dtype=2, input_as_shape=1, constant=(0,)).shape == (2, 3)


def test_random_fills_follow_their_fans(run: Any) -> None:
    y = run("XavierFill", shape=[64, 300])
    assert np.abs(y).max() <= np.sqrt(3 / 300) and np.isclose(y.std(), np.sqrt(1 / 300), rtol=0.05)
    z = run("MSRAFill", shape=[200, 100])
    assert np.isclose(z.std(), np.sqrt(2 / 200), rtol=0.05)


def test_the_diagonal_is_filled(run: Any) -> None:
    assert np.array_equal(run("DiagonalFill", shape=[3, 3], value=2.5), np.eye(3) * 2.5)


def test_chosen_integers_differ_and_keep_clear_of_some(run: Any) -> None:
    y = run("UniqueUniformFill", np.zeros((3, 3)), np.array([2, 3]), min=0, max=10, constant=(1,))
    assert sorted(y.ravel().tolist()) == [0, 1, 4, 5, 6, 7, 8, 9, 10]
    with pytest.raises(ArgumentError, match="fewer"):
        run("UniqueUniformFill", shape=[3], min=0, max=1)


def test_a_constant_is_of_the_kind_of_its_value(run: Any) -> None:
    assert run("ConstantFill", shape=[2], value=0.0).dtype == np.float32
    assert run("ConstantFill", shape=[2], value=0).dtype == np.int64
    assert run("ConstantFill", shape=[2]).dtype == np.float32


def test_halves_are_filled_in(run: Any) -> None:
    assert np.array_equal(run("Float16ConstantFill", shape=[2], value=1.5), np.float16([1.5, 1.5]))
    drawn = run("Float16UniformFill", shape=[500], min=2.0, max=4.0)
    assert drawn.dtype == np.float16 and drawn.min() >= 2 and abs(drawn.mean() - 3) < 0.2
