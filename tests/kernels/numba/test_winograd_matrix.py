"""F(m, r) computes the correlation, whatever its points."""

from fractions import Fraction

import numpy as np
import pytest

from noria.kernels.numba.winograd_matrix import OUTPUTS, SIDE, STANDARD, TAPS, filtering, transposed


@pytest.mark.parametrize("outputs, taps", [(2, 3), (4, 3), (2, 5), (3, 2)])
def test_it_is_the_correlation(outputs, taps):
    points = [Fraction(p, 2) for p in range(outputs + taps - 2)]
    f = filtering(points, outputs, taps)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(outputs + taps - 1), rng.standard_normal(taps)
    y = np.array(f.result) @ ((np.array(f.kernel) @ g) * (np.array(f.data) @ d))
    np.testing.assert_allclose(y, np.correlate(d, g), rtol=1e-9)


def test_sizes():
    assert np.shape(STANDARD.data) == (SIDE, SIDE)
    assert np.shape(STANDARD.kernel) == (SIDE, TAPS)
    assert (
        np.shape(STANDARD.result) == (OUTPUTS, SIDE) == np.shape(transposed(STANDARD.result))[::-1]
    )
