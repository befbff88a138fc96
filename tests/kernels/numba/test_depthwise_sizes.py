"""Fields of the table of a tile."""

from noria.kernels.numba import depthwise_sizes as sizes


def test_fields_fit_their_table_and_a_tile_shares_columns():
    assert sizes.LANES < sizes.FIELDS
    assert max(sizes.STRIDES) < sizes.TAPS
