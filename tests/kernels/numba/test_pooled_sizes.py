import pytest

from noria.kernels.numba.pooled_sizes import MOST_ELEMENTS, SUMS, shape
from noria.kernels.numba.tile_sizes import VECTORS, WIDTH


@pytest.mark.parametrize("elements", range(1, MOST_ELEMENTS + 1))
@pytest.mark.parametrize("outs", [0, 1, WIDTH, WIDTH + 1, 50, 130])
def test_the_sums_of_a_tile_fit_the_registers(elements, outs):
    vectors, windows = shape(outs, elements)
    assert 1 <= vectors <= VECTORS and windows >= 1
    assert elements * vectors * windows <= SUMS


def test_panels_are_even():
    count = 2 * VECTORS - 1  # one panel and a bit: two of nearly the same width
    assert shape(count * WIDTH, 1)[0] == VECTORS
    assert shape((VECTORS + 1) * WIDTH, 1)[0] == (VECTORS + 2) // 2
