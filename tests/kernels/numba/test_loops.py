"""Which loops become parallel for LLVM."""

import re

import numpy as np
import pytest

from noria.kernels.numba import jit, lower

BODY = "store_float32(y, {at}, load_float32(x, {at}) + load_float32(z, {at}))"
HEAD = """
def kernel(args):
    x, y, z, n = (
        load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), load_int64(args, 3)
    )
"""


def ir(text):
    return str(lower.optimise(text, "kernel", "kernel"))


def checks(text):
    """Does LLVM compare pointers before it takes the vector loop?"""
    return re.search(r"memcheck|diff\.check", ir(text)) is not None


def loop(mark):
    return f"""{HEAD}
    for i in range(n):
        {mark}
        {BODY.format(at="i")}
    return 0
"""


def nest(outer, inner):
    return f"""{HEAD}
    for r in range(n):
        {outer}
        for j in range(n):
            {inner}
            {BODY.format(at="r * n + j")}
    return 0
"""


def test_a_marked_loop_needs_no_overlap_checks_and_an_unmarked_one_has_them():
    marked, plain = loop("independent()"), loop("pass")
    assert checks(plain) and not checks(marked)
    for text in (marked, plain):
        assert re.search(r"fadd [a-z ]*<\d+ x float>", ir(text))


def test_no_mark_is_left_behind():
    for text in (loop("independent()"), "def kernel(args):\n    independent()\n    return 0\n"):
        assert "noria.independent" not in ir(text)


def test_the_inner_loop_of_a_nest_is_the_one_that_is_marked():
    assert not checks(nest("pass", "independent()"))


def test_a_mark_on_an_outer_loop_promises_nothing_about_the_inner_one():
    assert checks(nest("independent()", "pass"))


@pytest.mark.parametrize("size", [0, 1, 5, 64, 100])
def test_loops_with_branches_and_early_continue_are_marked_too(size, table):
    text = """
def kernel(args):
    x, y, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    i = -1
    while i < n - 1:
        i += 1
        independent()
        v = load_float32(x, i)
        if v < 0:
            store_float32(y, i, float32(0))
            continue
        store_float32(y, i, v)
    return 0
"""
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    y = np.full(size, 9, np.float32)
    jit.compile_source(text, "kernel")(table(x, y, size).ctypes.data)
    np.testing.assert_array_equal(y, np.maximum(x, 0))


def test_two_loops_of_one_kernel_are_marked_apart(table):
    text = f"""{HEAD}
    for i in range(n):
        independent()
        {BODY.format(at="i")}
    for i in range(n):
        independent()
        store_float32(z, i, load_float32(y, i) * float32(2))
    return 0
"""
    assert not checks(text)
    x, z = np.random.default_rng(1).standard_normal((2, 77)).astype(np.float32)
    y, expected = np.zeros_like(x), 2 * (x + z)
    jit.compile_source(text, "kernel")(table(x, y, z, 77).ctypes.data)
    np.testing.assert_array_equal(z, expected)


def test_a_short_loop_marked_together_becomes_vectors():
    def text(mark):
        row = (
            HEAD
            + """
    for r in range(n):
        at = load_int64(z, r)
        for j in range(16):
            MARK
            store_float32(y, at * 16 + j, float32(1) / sqrt(load_float32(x, r * 16 + j)))
    return 0
"""
        )
        return row.replace("MARK", mark)

    assert re.search(r"call [a-z ]*<16 x float> @llvm.sqrt", ir(text("together()")))
    assert "noria.together" not in ir(text("together()"))
