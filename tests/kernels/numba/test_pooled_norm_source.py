"""Texts in which every name stands for something, and vectors of halves as wide as they can be."""

import ast
import re

import pytest

from noria.kernels.numba import lower
from noria.kernels.numba.loader import cpu
from noria.kernels.numba.pool_places import cell
from noria.kernels.numba.pooled_norm_source import backward, forward
from noria.ops.pool import pool_windows

STEM = pool_windows((9, 9), 3, 2, 1)
APART = pool_windows((9, 9), 2, 3, 0)
DTYPES = ("float32", "bfloat16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("windows", [STEM, APART])
def test_no_name_is_left_that_nothing_stands_for(windows, dtype):
    for text in (forward(dtype, windows.kernel), backward(dtype, windows)):
        names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
        assert not any(name.isupper() for name in names)
        assert "{" not in text


def test_elements_that_no_window_sees_are_written_and_not_summed():
    text = backward("float32", APART)
    assert len(cell(APART)) == 4
    assert text.count("s1 += g") == 2 * 4  # inside and at the border
    assert text.count("store_float32(a3") == 2 * 9


@pytest.mark.skipif("+avx512bw" not in cpu()[1], reason="vectors of another CPU")
def test_halves_are_compared_as_words_of_16_bits():
    code = lower.assembly(forward("bfloat16", STEM.kernel), "pool")
    assert re.search(r"vpmaxsw.*zmm|vpcmpgtw.*zmm", code)
