"""The source of the kernel holds the tiles it needs, and no others."""

import pytest

from noria.kernels.numba.conv_sizes import PIXELS
from noria.kernels.numba.conv_source import source


@pytest.mark.parametrize("vectors", PIXELS)
def test_tiles_of_one_panel_and_one_activation(vectors):
    text = source(vectors, "relu6", False)
    assert f"pixel_tile_{PIXELS[vectors]}_{vectors}_relu6(" in text
    assert "cut_" not in text and "_none(" not in text
    assert f"cut_pixel_tile_1_{vectors}_relu6(" in source(vectors, "relu6", True)
