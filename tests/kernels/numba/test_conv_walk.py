"""How blocks and panels are shared, and how large blocks are."""

import numpy as np

from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_pixels import COLUMNS, Pixels
from noria.kernels.numba.conv_sizes import PIXELS
from noria.kernels.numba.conv_walk import BLOCK, most_pixels, shares
from noria.kernels.numba.tile_sizes import WIDTH


def test_threads_share_blocks_of_about_the_same_cost():
    blocks = np.zeros((10, COLUMNS), np.int64)
    blocks[:, 3], blocks[:, 6], blocks[:, 7] = 6, 100, 1
    pixels = Pixels(np.zeros((6, 2), np.int64), blocks)
    assert shares(pixels, 4, 2, False) == [0, 5, 0, 4, 5, 10, 0, 4]
    assert shares(pixels, 5, 2, True) == [0, 10, 0, 2, 0, 10, 2, 5]


def test_blocks_are_whole_tiles_and_small_images_share_a_list():
    panel = Panel(2 * WIDTH, 3, 3, 64, 4, 1)
    for images, each in ((1, 1), (16, 49), (2, 12544)):
        together, pixels = most_pixels(images, each, 64, panel, 2)
        assert pixels % PIXELS[2] == 0 and 2 * PIXELS[2] <= pixels <= max(BLOCK, 2 * PIXELS[2])
        assert together * each >= 768
