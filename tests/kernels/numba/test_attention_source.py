import ast

import pytest

from noria.kernels.numba.attention_source import (
    KEYS,
    PITCH,
    QUERIES,
    backward,
    block_bytes,
    forward,
)


def test_scratch_grows_with_the_heads_and_not_with_the_positions():
    small, long = block_bytes(64, 64, 0, False), block_bytes(64, 64, 1000, False)
    assert small < block_bytes(128, 64, 0, False) < block_bytes(128, 128, 0, False)
    assert small == long and small % 64 == 0
    scores = 2 * 4 * QUERIES * PITCH
    packed = 4 * 64 * (3 * KEYS + 2 * QUERIES)
    assert scores + packed < small < 1 << 20  # all of it stays in the second cache


def test_pairs_need_sums_for_all_queries_of_a_gradient():
    assert block_bytes(64, 64, 1000, True) - block_bytes(64, 64, 0, True) == 4 * 64 * 1000
    assert block_bytes(6, 10, 7, True) % 64 == 0
    assert block_bytes(64, 64, 128, True) < 1 << 20


def test_a_row_of_scores_is_no_power_of_two():
    assert PITCH >= KEYS and PITCH & (PITCH - 1)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("source", [forward, backward])
def test_the_sources_are_functions_of_a_table(source, pairs):
    (function,) = ast.parse(source(pairs)).body
    assert isinstance(function, ast.FunctionDef) and function.name == "attend"


def test_only_pairs_pack_rows_in_another_way():
    assert "row_packer" in backward(True) and "row_packer" not in backward(False)
    assert "bfloat16" in forward(True) and "bfloat16" not in forward(False)
