"""One kernel for all convolutions, and a walk for each size of tile."""

import pytest

from noria.kernels.numba import lower
from noria.kernels.numba.conv_sizes import PIXELS
from noria.kernels.numba.conv_source import SOURCE, tiles


@pytest.mark.parametrize("vectors", PIXELS)
def test_a_walk_holds_one_tile(vectors):
    for pixels in (1, PIXELS[vectors]):
        text = tiles(pixels, vectors)
        assert text.count("pixel_tile_") == 1
        assert f"pixel_tile_{pixels}_{vectors}" in lower.NAMESPACE
        assert f"pixel_tile_{pixels}_{vectors}(" in text


def test_the_kernel_itself_holds_none_and_no_name_of_a_field_is_left():
    assert "tile_" not in SOURCE
    assert not any(word.isupper() for word in SOURCE.replace("(", " ").replace(",", " ").split())
