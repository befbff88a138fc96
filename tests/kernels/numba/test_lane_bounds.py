"""Activations as bounds."""

import numpy as np
import pytest

from noria.kernels.numba.lane_bounds import BOUNDS, bits


@pytest.mark.parametrize("x", [0.0, -0.0, 6.0, -1.5, np.inf, -np.inf])
def test_bits_are_those_of_a_float32(x):
    found = np.array([bits(x)], np.int64).view(np.float32)[0]
    assert found == x and np.signbit(found) == np.signbit(x)


def test_every_activation_is_what_its_bounds_leave():
    x = np.array([-np.inf, -7, -0.0, 0, 3, 7, np.inf], np.float32)
    wanted = {None: x, "relu": np.maximum(x, 0), "relu6": np.clip(x, 0, 6)}
    assert wanted.keys() == BOUNDS.keys()
    for act, (low, high) in BOUNDS.items():
        np.testing.assert_array_equal(np.clip(x, low, high), wanted[act])
