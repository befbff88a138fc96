"""One kernel for all convolutions, and a walk for each size of tile."""

from itertools import product

import pytest

from noria.kernels.numba import lower
from noria.kernels.numba.conv_sizes import PIXELS, tile_name
from noria.kernels.numba.conv_source import conv, tiles


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("vectors", PIXELS)
def test_a_walk_holds_one_tile(vectors, half):
    for pixels, cut in product((1, PIXELS[vectors]), (False, True)):
        text, name = tiles(pixels, vectors, cut, half), tile_name(pixels, vectors, cut, half)
        assert text.count("pixel_tile_") == 1
        assert name in lower.NAMESPACE and f" {name}(" in text


@pytest.mark.parametrize("half", [False, True])
def test_the_kernel_itself_holds_none_and_no_name_of_a_field_is_left(half):
    text = conv(half)
    assert "tile_" not in text
    assert not any(word.isupper() for word in text.replace("(", " ").replace(",", " ").split())
