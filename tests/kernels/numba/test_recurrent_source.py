import ast

import pytest

from noria.kernels.numba import recurrent_cells as cells
from noria.kernels.numba.recurrent_source import (
    NUMBERS,
    arrays_of,
    private_bytes,
    source,
    tile_columns,
    units_of,
)
from noria.kernels.numba.tile_sizes import PANEL, WIDTH

CELLS = {"lstm": cells.lstm(), "gru": cells.gru(), "rnn": cells.rnn("tanh")}


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_a_source_is_one_function_that_reads_its_whole_table(name, backward):
    cell = CELLS[name]
    tree = ast.parse(source(cell, backward, "int64"))
    (function,) = tree.body
    names = [*arrays_of(cell.backward if backward else cell.forward), *NUMBERS]
    assert isinstance(function, ast.FunctionDef) and len(set(names)) == len(names)
    loads = [ast.unparse(s) for s in function.body[: len(names)]]
    assert loads == [f"{n} = load_int64(args, {i})" for i, n in enumerate(names)]


@pytest.mark.parametrize("name", CELLS)
def test_blocks_are_whole_vectors_in_whole_panels(name):
    cell = CELLS[name]
    assert units_of(cell) % WIDTH == 0 and tile_columns(cell) % PANEL == 0
    assert tile_columns(cell) >= cell.gates * units_of(cell)


@pytest.mark.parametrize("name", CELLS)
def test_threads_share_no_line_of_private_memory(name):
    cell = CELLS[name]
    assert private_bytes(cell, cell.forward) % 64 == private_bytes(cell, cell.backward) % 64 == 0


def test_the_dtype_of_the_splits_is_in_the_text():
    text = source(cells.lstm(), False, "int32")
    assert "load_int32(splits" in text and "SPLITS" not in text
