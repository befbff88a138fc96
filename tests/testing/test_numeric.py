import numpy as np
import pytest

from noria.testing.numeric import Rough, compare_directions, directional, weighted


def cube(arrays):
    return [arrays[0] ** 3 + arrays[1]]


POINT = [np.array([1.0, -2.0, 0.5]), np.array(3.0)]
WEIGHTS = [np.array([1.0, 2.0, -1.0])]


def test_outputs_are_weighed_and_their_size_is_known():
    assert weighted([np.array([2.0, -3.0])], [np.array([1.0, 1.0])]) == (-1.0, 5.0)


def test_a_directional_derivative_is_measured():
    along = {0: np.array([1.0, 1.0, 0.0])}
    slope, error = directional(cube, POINT, along, WEIGHTS, scale=1.0)
    assert abs(slope - (3 * 1 * 1 + 3 * 4 * 2)) < error < 1e-3


def test_a_kink_between_the_two_steps_is_noticed():
    def kink(arrays):
        return [np.abs(arrays[0] - 5e-6)]

    with pytest.raises(Rough):
        directional(kink, [np.zeros(1)], {0: np.ones(1)}, [np.ones(1)], scale=1.0)


def test_right_gradients_pass_and_wrong_ones_do_not():
    rng = np.random.default_rng(0)
    right = {0: 3 * POINT[0] ** 2 * WEIGHTS[0], 1: WEIGHTS[0].sum()}
    compare_directions(cube, POINT, {0: right[0]}, WEIGHTS, rng, "g")
    compare_directions(cube, POINT, right, WEIGHTS, rng, "g")
    for wrong in (right[0] * 1.001, right[0] + [0, 0, 1e-3], -right[0], right[0] * 0):
        with pytest.raises(AssertionError, match="g: the gradient along"):
            compare_directions(cube, POINT, {0: wrong}, WEIGHTS, rng, "g")


def test_inputs_without_a_gradient_stay_where_they_are():
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError):
        compare_directions(cube, POINT, {1: np.array(0.0)}, WEIGHTS, rng, "g")
    compare_directions(cube, POINT, {1: np.array(2.0)}, WEIGHTS, rng, "g")


def test_a_gradient_that_is_not_a_number_is_wrong():
    rng = np.random.default_rng(0)
    with pytest.raises(AssertionError):
        compare_directions(cube, POINT, {0: np.full(3, np.nan)}, WEIGHTS, rng, "g")
