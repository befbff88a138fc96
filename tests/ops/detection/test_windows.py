import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops.detection import windows


def test_linear_taps_interpolate_and_stop_one_beyond():
    line = np.array([10.0, 20.0, 40.0])
    place = np.array([-1.5, -1, -0.4, 0, 0.5, 1.25, 2.9, 3, 3.1])
    value = sum(line[i] * w for i, w in windows.linear_taps(place, 3))
    np.testing.assert_allclose(value, [0, 10, 10, 10, 15, 25, 40, 40, 0])


def test_weights_are_means():
    counts = windows.sample_counts(np.array([6.0, 4.0]), 2, 0)
    assert counts.tolist() == [3, 2]
    weights = windows.sampled_weights(np.array([0.0, 1.0]), np.array([6.0, 4.0]), 2, counts, 9)
    assert weights.shape == (2, 2, 9)
    np.testing.assert_allclose(weights.sum(-1), 1)
    np.testing.assert_allclose(weights @ np.arange(9), [[1.5, 4.5], [2, 4]])
    means = windows.mean_weights(np.array([[0.0, 3.0]]), np.array([[2.0, 3.0]]), 4)
    np.testing.assert_allclose(means, [[[0.5, 0.5, 0, 0], [0, 0, 0, 0]]])


def test_hat_is_the_slope_of_its_integral():
    place = np.linspace(-1.7, 1.7, 69) + 0.003
    step = 1e-6
    slope = (windows.hat_integral(place + step) - windows.hat_integral(place - step)) / (2 * step)
    np.testing.assert_allclose(slope, windows.hat(place), atol=1e-6)
    assert windows.hat_integral(np.array([9.0])) == 1


def test_pooling_and_its_transpose():
    rng = np.random.default_rng(0)
    x, batch = rng.normal(size=(2, 3, 5, 6)), np.array([1, 0, 1])
    rows, columns = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 4, 6))
    rows[:, :, 3:] = 0
    columns[1] = 0
    want = np.einsum("rchw,rph,rqw->rcpq", x[batch], rows, columns)
    np.testing.assert_allclose(windows.pool(x, batch, rows, columns), want)
    grad = rng.normal(size=want.shape)
    back = windows.unpool(grad, batch, rows, columns, x.shape)
    np.testing.assert_allclose(np.sum(back * x), np.sum(grad * want))


def test_bad_regions_are_refused():
    with pytest.raises(ArgumentError, match="not there"):
        windows.image_ids(np.array([0, 2]), 2)
    with pytest.raises(ArgumentError, match="finite"):
        windows.finite_regions(np.array([[0, 0, np.inf, 1]]))
    with pytest.raises(ArgumentError, match="too large"):
        windows.sample_counts(np.array([1e9]), 7, 0)
    with pytest.raises(ArgumentError, match="positive"):
        windows.pooled_size((0, 3))
    assert windows.round_away(np.array([0.5, -0.5, 1.4, 2.5])).tolist() == [1, -1, 1, 3]
