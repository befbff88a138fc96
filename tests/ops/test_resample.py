import numpy as np

from noria.ops.resample import Filter, cubic, taps

LINEAR = Filter("linear", "half_pixel", "floor", -0.75, False, False, False)


def test_weights_of_every_element_sum_to_one():
    for how in (LINEAR, LINEAR._replace(mode="cubic"), LINEAR._replace(antialias=True)):
        found = taps(7, 4, None, how, (0.0, 1.0))
        np.testing.assert_allclose(found.weights.sum(axis=1), 1)


def test_the_matrix_says_what_the_taps_say():
    found = taps(5, 8, None, LINEAR._replace(mode="cubic"), (0.0, 1.0))
    x = np.random.default_rng(0).normal(size=5)
    np.testing.assert_allclose(found.matrix(5) @ x, (x[found.ids] * found.weights).sum(axis=1))


def test_elements_beyond_a_part_are_made_of_nothing():
    how = LINEAR._replace(coordinates="tf_crop_and_resize")
    found = taps(4, 3, None, how, (-1.0, 1.0))
    assert found.beyond is not None
    assert found.beyond.tolist() == [True, False, False]
    assert found.matrix(4)[0].tolist() == [0, 0, 0, 0]


def test_an_element_on_another_is_that_element():
    how = LINEAR._replace(mode="cubic", coordinates="align_corners")
    np.testing.assert_allclose(taps(3, 5, None, how, (0.0, 1.0)).matrix(3)[::2], np.eye(3))


def test_the_cubic_filter_is_one_in_the_middle_and_zero_at_whole_distances():
    assert cubic(np.arange(4.0), -0.75).tolist() == [1, 0, 0, 0]


def test_positions_in_float32_choose_what_float32_chooses():
    how = Filter("nearest", "asymmetric", "floor", -0.75, False, False, False)
    exact, single = (taps(14, 46, None, how._replace(single=s), (0.0, 1.0)) for s in (False, True))
    step = np.float32(14 / 46)
    assert single.ids[:, 0].tolist() == [int(np.float32(y) * step) for y in range(46)]
    assert exact.ids[23, 0] == 7 != single.ids[23, 0]
