import ast

from noria.kernels.numba.attention_pairs import BACKWARD, FORWARD, block_bytes, pitch
from noria.kernels.numba.tile_sizes import WIDTH


def test_scratch_grows_with_the_heads_and_with_the_queries_of_a_gradient():
    assert block_bytes(64, 64, 0) < block_bytes(128, 64, 0) < block_bytes(128, 128, 0)
    assert block_bytes(64, 64, 1000) - block_bytes(64, 64, 0) == 4 * 64 * 1000
    assert block_bytes(6, 10, 7) % 64 == 0
    assert block_bytes(64, 64, 128) < 1 << 20  # all of it stays in the second cache


def test_rows_of_sums_are_whole_vectors():
    assert pitch(1) == pitch(WIDTH) == WIDTH and pitch(WIDTH + 1) == 2 * WIDTH


def test_the_sources_are_functions_of_a_table():
    for source in (FORWARD, BACKWARD):
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef) and function.name == "attend"
