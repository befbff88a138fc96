import ast

from noria.kernels.numba.attention_source import (
    BACKWARD,
    FORWARD,
    KEYS,
    PITCH,
    QUERIES,
    block_bytes,
)


def test_scratch_grows_with_the_heads_and_not_with_the_positions():
    assert block_bytes(64, 64) < block_bytes(128, 64) < block_bytes(128, 128)
    assert block_bytes(64, 64) % 64 == 0
    scores = 2 * 4 * QUERIES * PITCH
    packed = 4 * 64 * (3 * KEYS + 2 * QUERIES)
    assert scores + packed < block_bytes(64, 64) < 1 << 20  # all of it stays in the second cache


def test_a_row_of_scores_is_no_power_of_two():
    assert PITCH >= KEYS and PITCH & (PITCH - 1)


def test_the_sources_are_functions_of_a_table():
    for source in (FORWARD, BACKWARD):
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef) and function.name == "attend"
