"""How the work of a convolution is cut into panels, tiles and threads."""

import pytest

from noria.kernels.numba.conv_sizes import FIELDS, PIXELS, SHIFT, cost, shape, turns
from noria.kernels.numba.tile_sizes import WIDE, WIDTH


def test_the_sums_of_a_tile_fit_the_registers():
    registers = 32 if WIDE else 16
    for vectors, pixels in PIXELS.items():
        assert pixels * vectors + vectors + 1 <= registers
    assert SHIFT < FIELDS


def test_a_tile_costs_its_products_its_loads_or_its_latency():
    assert turns(6, 4) == 12 and turns(1, 2) == 4
    assert cost(13, 4) == 2 * turns(6, 4) + turns(1, 4) if WIDE else cost(13, 3) > 0
    assert cost(0, 2) == 0


@pytest.mark.skipif(not WIDE, reason="other panels")
@pytest.mark.parametrize(
    ("pixels", "channels", "vectors"),
    [(3136, 64, 4), (3136, 24, 2), (49, 160, 5), (49, 960, 5), (196, 96, 3), (12544, 144, 3)],
)
def test_panels_waste_little(pixels, channels, vectors):
    assert shape(pixels, channels, 2)[0] == vectors


def test_threads_share_panels_where_pixels_are_few():
    outs = 8 * 3 * WIDTH * max(PIXELS)
    assert shape(7, outs, 2)[1]
    assert not shape(100 * PIXELS[max(PIXELS)], max(PIXELS) * WIDTH, 2)[1]
    assert shape(49, outs, 1) in [(v, p) for v in PIXELS for p in (False, True)]
