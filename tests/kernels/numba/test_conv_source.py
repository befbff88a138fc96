"""One kernel for all convolutions, and a walk for each size of tile."""

from itertools import product

import pytest

from noria.kernels.numba import lower
from noria.kernels.numba.conv_sizes import PIXELS
from noria.kernels.numba.conv_source import SOURCE, tiles


@pytest.mark.parametrize("vectors", PIXELS)
def test_a_walk_holds_one_tile(vectors):
    for pixels, (prefix, cut) in product((1, PIXELS[vectors]), (("", False), ("cut_", True))):
        text, name = tiles(pixels, vectors, cut), f"{prefix}pixel_tile_{pixels}_{vectors}"
        assert text.count("pixel_tile_") == 1
        assert name in lower.NAMESPACE and f" {name}(" in text


def test_the_kernel_itself_holds_none_and_no_name_of_a_field_is_left():
    assert "tile_" not in SOURCE
    assert not any(word.isupper() for word in SOURCE.replace("(", " ").replace(",", " ").split())
