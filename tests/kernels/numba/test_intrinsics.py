"""Memory by address in every dtype, native calls, and in-place use."""

import ml_dtypes
import numpy as np
import pytest

from noria.core.dtypes import ALL, to_numpy
from noria.kernels.numba import jit

SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1001]


def samples(dtype, size=1001):
    """Random bit patterns of a dtype (NaN among them)."""
    kind = to_numpy(dtype)
    raw = np.random.default_rng(3).integers(0, 256, (size, kind.itemsize), dtype=np.uint8)
    return raw.view(kind).ravel() if dtype != "bool" else (raw > 99).ravel()


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("size", SIZES)
def test_a_copy_moves_every_element_and_no_more(dtype, size, elementwise):
    x = samples(dtype)[:size]
    y = elementwise("x", x, dtype=dtype)
    if dtype in ("float16", "bfloat16"):  # NaN stays NaN; its payload may not
        with np.errstate(invalid="ignore"):  # signalling ones
            nan = np.isnan(x)
        np.testing.assert_array_equal(np.isnan(y), nan)
        x, y = x[~nan], y[~nan]
    assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("dtype", ALL)
def test_elements_beyond_the_range_stay_as_they_were(dtype, source, table):
    out = samples(dtype, 200)
    before = out.tobytes()
    kernel = jit.compile_source(source("x", [dtype], dtype), "kernel")
    kernel(table(samples(dtype, 70), out[64:], 70).ctypes.data)
    size = out.itemsize
    assert out.tobytes()[: 64 * size] == before[: 64 * size]
    assert out.tobytes()[134 * size :] == before[134 * size :]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_round_to_nearest_even_as_numpy_does(dtype, elementwise, floats):
    step = 2**16 if dtype == "bfloat16" else 2**13
    ties = np.arange(step // 2, 2**32, step, dtype=np.uint64).astype(np.uint32)
    around = np.concatenate([ties - 1, ties, ties + 1]).view(np.float32)
    x = np.concatenate([floats, around])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(to_numpy(dtype))
    actual = elementwise("x", x, dtype=dtype)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(x))
    number = ~np.isnan(x)
    np.testing.assert_array_equal(actual.view("u2")[number], expected.view("u2")[number])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_floats_widen_exactly(dtype, elementwise):
    every = np.arange(2**16, dtype=np.uint16).view(to_numpy(dtype))
    np.testing.assert_array_equal(elementwise("x", every), every.astype(np.float32))


def test_arithmetic_on_bfloat16_happens_in_float32(elementwise):
    x = np.array([1, 256, 3e38], ml_dtypes.bfloat16)
    wide = elementwise("x + float32(0.5)", x)
    np.testing.assert_array_equal(wide, x.astype(np.float32) + np.float32(0.5))


def test_values_are_converted_to_what_the_store_holds(elementwise):
    x = np.array([1.9, -1.9, 100.5], np.float32)
    np.testing.assert_array_equal(elementwise("x", x, dtype="int32"), [1, -1, 100])
    np.testing.assert_array_equal(elementwise("x * 2", x, dtype="float64"), x.astype("f8") * 2)
    wide = np.array([300, -1], np.int64)
    np.testing.assert_array_equal(elementwise("x", wide, dtype="uint8"), [44, 255])


IN_PLACE = """
def kernel(args):
    a, b, c, d, n = (
        load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), load_int64(args, 3),
        load_int64(args, 4),
    )
    for i in range(n):
        independent()
        x = load_float32(a, i)
        y = load_float32(b, i)
        store_float32(c, i, x + float32(1))
        store_float32(d, i, x * y)
    return 0
"""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reused", ["a", "b", "crossed"])
def test_outputs_may_take_the_place_of_inputs(reused, size, table):
    """Also when an output does not depend on the input whose place it takes."""
    a, b = np.random.default_rng(size).uniform(1, 2, (2, size)).astype(np.float32)
    expected = a + np.float32(1), a * b
    c, d = np.zeros_like(a), np.zeros_like(a)
    c, d = {"a": (a, d), "b": (b, d), "crossed": (b, a)}[reused]
    kernel = jit.compile_source(IN_PLACE, "kernel")
    assert kernel(table(a, b, c, d, size).ctypes.data) == 0
    np.testing.assert_array_equal(c, expected[0])
    np.testing.assert_array_equal(d, expected[1])


def test_a_loop_that_depends_on_its_past_is_right_when_it_is_not_marked(table):
    text = """
def kernel(args):
    x, n = load_int64(args, 0), load_int64(args, 1)
    for i in range(1, n):
        store_float32(x, i, load_float32(x, i) + load_float32(x, i - 1))
    return 0
"""
    x = np.arange(200, dtype=np.float32)
    expected = np.cumsum(x, dtype=np.float32)
    jit.compile_source(text, "kernel")(table(x, 200).ctypes.data)
    np.testing.assert_array_equal(x, expected)


def test_overlapping_pointers_are_right_when_the_loop_is_not_marked(table):
    text = """
def kernel(args):
    x, y, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for i in range(n):
        store_float32(y, i, load_float32(x, i) + float32(1))
    return 0
"""
    x = np.zeros(101, np.float32)
    jit.compile_source(text, "kernel")(table(x, x[1:], 100).ctypes.data)
    np.testing.assert_array_equal(x, np.arange(101))


def test_kernels_call_native_functions_by_address(table):
    add = """
def add(args):
    return load_int64(args, 0) + load_int64(args, 1)
"""
    twice = """
def twice(args):
    return 2 * call1(load_int64(args, 0), load_int64(args, 1))
"""
    one = jit.compile_source(add, "add")
    inner = table(20, 1)
    outer = table(one.address, inner)
    assert jit.compile_source(twice, "twice")(outer.ctypes.data) == 42


def test_outside_a_team_the_thread_is_the_first_of_one():
    text = "def kernel(args):\n    return 10 * thread_id() + team_size()\n"
    assert jit.compile_source(text, "kernel")(0) == 1


def test_the_clock_goes_forward_in_nanoseconds():
    text = """
def kernel(args):
    start, times = now(), 0
    while now() - start < 2000000:
        times += 1
    return where(times > 10, 0, 1)
"""
    assert jit.compile_source(text, "kernel")(0) == 0


def test_bytes_are_copied_and_filled(table):
    text = """
def kernel(args):
    to = load_int64(args, 0)
    copy_bytes(to, load_int64(args, 1), 5)
    fill_bytes(to + 6, 255, 2)
    return 0
"""
    to, source = np.zeros(10, np.uint8), np.arange(1, 11, dtype=np.uint8)
    jit.compile_source(text, "kernel")(table(to, source).ctypes.data)
    assert to.tolist() == [1, 2, 3, 4, 5, 0, 255, 255, 0, 0]


def test_memory_can_be_asked_for_at_any_address(table):
    source = """
def ask(args):
    prefetch(args)
    prefetch(load_int64(args, 0))
    prefetch_to_write(load_int64(args, 0))
    return 0
"""
    kernel = jit.compile_source(source, "ask")
    assert all(kernel(table(address).ctypes.data) == 0 for address in (0, -1, 1 << 60))


def test_unsigned_arithmetic_multiplies_to_64_bits(elementwise):
    """The step of counter-based random numbers (Salmon et al., 2011)."""
    x = np.random.default_rng(4).integers(0, 2**32, 100, dtype=np.uint32)
    expected = (x.astype(np.uint64) * 0xD2511F53) >> 32
    actual = elementwise("(uint64(x) * uint64(0xD2511F53)) >> uint64(32)", x, dtype="uint32")
    np.testing.assert_array_equal(actual, expected)


SIGNS = """
def kernel(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    for v in range(load_int64(args, 2)):
        store_uint16(out, v, positive_DTYPE(x, 16 * v))
    return 0
"""
BITS = """
def kernel(args):
    x = load_int64(args, 0)
    out = load_int64(args, 1)
    for v in range(load_int64(args, 2)):
        word = load_uint16(x, v)
        for k in range(16):
            together()
            store_bool(out, 16 * v + k, has_bit(word, k))
    return 0
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_positive_is_told_in_bits(dtype, table):
    special = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40]
    x = np.concatenate([samples(dtype, 1000), np.array(special, to_numpy(dtype))])
    out = np.zeros(63, np.uint16)
    kernel = jit.compile_source(SIGNS.replace("DTYPE", dtype), "kernel")
    assert kernel(table(x, out, 63).ctypes.data) == 0
    with np.errstate(invalid="ignore"):
        want = x.astype(np.float32) > 0
    np.testing.assert_array_equal(np.unpackbits(out.view(np.uint8), bitorder="little"), want)


def test_bits_of_a_word_are_told_apart(table):
    words = samples("uint16", 40)
    out = np.zeros(640, bool)
    assert jit.compile_source(BITS, "kernel")(table(words, out, 40).ctypes.data) == 0
    np.testing.assert_array_equal(out, np.unpackbits(words.view(np.uint8), bitorder="little"))
