from noria.kernels.numba.spread_sizes import MOST_ROWS, SUMS, vectors_of
from noria.kernels.numba.tile_sizes import VECTORS


def test_the_sums_of_a_tile_fit_the_registers():
    for rows in range(1, MOST_ROWS + 1):
        vectors = vectors_of(rows)
        assert 1 < vectors <= VECTORS and rows * vectors <= SUMS
