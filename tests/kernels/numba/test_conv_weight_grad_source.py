"""The tiles of the gradient by the weight hold their sums in registers."""

import ast

import pytest

from noria.kernels.numba import lower
from noria.kernels.numba.conv_weight_grad_source import FIELDS, multiply, source, table_bytes
from noria.kernels.numba.tile_sizes import PAIRS, ROWS, VECTORS

DTYPES = ["float32", *["bfloat16"] * PAIRS]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_text_is_one_function_of_a_table(dtype):
    for text, name in ((source(dtype), "weight_grad"), (multiply(dtype), "multiply")):
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef) and function.name == name
        assert [a.arg for a in function.args.args] == ["args"]
        assert ast.unparse(function.body[-1]) == "return 0"


def test_the_table_of_a_panel_fills_whole_lines_of_memory():
    assert FIELDS * 8 % 64 == 0
    assert table_bytes("float32", 65, 3) % 64 == table_bytes("bfloat16", 65, 3) % 64 == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_loop_of_whole_tiles_stores(dtype):
    """The sums of ROWS rows stay in registers while pixels are added (a spill costs ten times)."""
    loops: list[list[str]] = []
    block: list[str] = []
    for line in lower.assembly(multiply(dtype), "multiply").splitlines():
        if line.startswith(".LBB"):
            block = []
            loops.append(block)
        block.append(line)
    whole = [b for b in loops if not any("vmaskmov" in x for x in b)]  # where masks are vectors too
    sums = [b for b in whole if sum("vfmadd" in x or "vdpbf16" in x for x in b) >= ROWS * VECTORS]
    assert sums
    assert not any("vmov" in x and x.rstrip().endswith("(%rsp)") for b in sums for x in b)
