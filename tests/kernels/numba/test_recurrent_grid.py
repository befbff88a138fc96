import pytest

from noria.kernels.numba.recurrent_grid import TAKEN, Grid, choose_grid


def block_bytes(size):
    """Of an LSTM's weight, for 16 units."""
    return 4 * 64 * size


@pytest.mark.parametrize(
    ("rows", "size", "threads", "grid"),
    [
        (20, 650, 2, Grid(1, 2)),  # each core reads half the weight
        (1, 650, 2, Grid(1, 2)),
        (128, 512, 2, Grid(1, 2)),
        (24, 16, 2, Grid(2, 1)),  # one block of units cannot be shared
        (1, 8, 2, Grid(1, 1)),
        (64, 128, 2, Grid(6, 1)),  # the weight stays in the second cache of each core
        (64, 256, 2, Grid(1, 2)),
        (60, 128, 2, Grid(1, 2)),  # too few rows to be taken in turns
        (64, 128, 1, Grid(1, 1)),
    ],
)
def test_every_core_has_work_and_reads_little(rows, size, threads, grid):
    assert choose_grid(rows, -(-size // 16), block_bytes(size), threads) == grid


@pytest.mark.parametrize("threads", [3, 16, 61])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_a_grid_fits_the_team_the_rows_and_the_units(rows, threads):
    grid = choose_grid(rows, 8, block_bytes(512), threads)
    assert grid.groups * grid.slices <= threads
    assert grid.groups <= rows and grid.slices <= 8


@pytest.mark.parametrize("rows", [300, 1000])
def test_many_rows_are_taken_by_whoever_is_free(rows):
    grid = choose_grid(rows, 8, block_bytes(128), 3)
    assert grid.slices == 1 and grid.groups > 6
    assert (grid.groups - 1) * TAKEN < rows <= grid.groups * TAKEN


def test_many_cores_share_rows_as_well():
    grid = choose_grid(256, 8, block_bytes(128), 16)
    assert grid.groups * grid.slices == 16 and grid.groups > 1
