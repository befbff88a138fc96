"""Terms written into a kernel and run: every operation is rounded by itself, as NumPy does it."""

import numpy as np
import pytest

from noria.core.dtypes import ALL, FLOATS, as_dtype, to_numpy
from noria.kernels.numba import jit
from noria.kernels.numba.term import Lines, Term, call, cast, literal, maximum, minimum, where
from tests.kernels.numba.running import same_bits

HALVES = ["bfloat16", "float16"]
SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-40, 3.4e38, 1.0000001, -7.25]


def evaluate(write, *arrays):
    """What `write` makes of Terms that stand for the elements of arrays."""
    lines = Lines()
    names = [
        lines.let(f"load_{as_dtype(a.dtype)}(p{k}, i)", as_dtype(a.dtype), 0)
        for k, a in enumerate(arrays)
    ]
    result = write(*names)
    source = "\n".join(
        [
            "def kernel(args):",
            *(f"    p{k} = load_int64(args, {k})" for k in range(len(arrays) + 1)),
            f"    for i in range({arrays[0].size}):",
            *(f"        {line}" for line in lines.levels[0]),
            f"        store_{result.dtype}(p{len(arrays)}, i, {result.text})",
            "    return 0",
        ]
    )
    out = np.zeros(arrays[0].size, to_numpy(result.dtype))
    table = np.array([a.ctypes.data for a in (*arrays, out)], np.int64)
    assert jit.compile_source(source, "kernel")(table.ctypes.data) == 0
    return out


def floats(dtype, count=2000, seed=0):
    """Special values and random ones of very different sizes."""
    rng = np.random.default_rng(seed)
    wide = rng.standard_normal(count) * 10.0 ** rng.integers(-12, 12, count)
    with np.errstate(over="ignore"):
        return rng.permutation(np.concatenate([SPECIAL, wide])).astype(to_numpy(dtype))


# ---- numbers -----------------------------------------------------------------------------------


def test_a_literal_is_rounded_to_its_dtype():
    assert literal(0.1, "float32") == "float32(0.10000000149011612)"
    assert literal(0.1, "float64") == "float64(0.1)"
    assert literal(0.1, "bfloat16") == "float32(0.10009765625)"
    assert literal(7.0, "int8") == "int8(7)"
    assert literal(1, "bool") == "True"


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
def test_infinities_and_nan_can_be_written(value):
    x = np.zeros(1, np.float32)
    got = evaluate(lambda x: x.lines.constant(value, "float32") + x, x)
    with np.errstate(over="ignore"):
        assert same_bits(got, np.array([value]).astype(np.float32))


@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1])
def test_the_widest_integers_can_be_written(value):
    got = evaluate(lambda x: x + value, np.zeros(1, np.int64))
    assert got[0] == value


# ---- arithmetic --------------------------------------------------------------------------------

FORMULAS = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "neg": lambda x, y: -x,
    "product, then sum": lambda x, y: x * y + x,
    "product, then difference": lambda x, y: x * x - y * y,
    "what cancels": lambda x, y: (x + y) - x,
    "what could be divided out": lambda x, y: (x * y) / y,
    "zero": lambda x, y: (x - x) + y * 0.0,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_floats_are_rounded_after_each_operation(formula, dtype):
    x, y = floats(dtype), floats(dtype, seed=1)
    write = FORMULAS[formula]
    with np.errstate(all="ignore"):
        assert same_bits(evaluate(write, x, y), write(x, y))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
def test_integers_wrap_around(dtype):
    limits = np.iinfo(dtype)
    x = np.array([limits.min, limits.max, 0, 1, limits.max // 2 + 1], dtype)
    y = np.array([limits.max, limits.max, 1, limits.max, 2], dtype)
    with np.errstate(over="ignore"):
        for write in (lambda x, y: x + y, lambda x, y: x - y, lambda x, y: x * y, lambda x, y: -x):
            assert same_bits(evaluate(write, x, y), write(x, y))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint64", "bool"])
def test_comparisons_are_numpys(dtype):
    rng = np.random.default_rng(2)
    x, y = (rng.integers(0, 3, 50).astype(dtype) for _ in range(2))
    if dtype.startswith("float"):
        x[:3], y[2:5] = np.nan, np.nan
    for write in (
        lambda x, y: x < y,
        lambda x, y: x <= y,
        lambda x, y: x > y,
        lambda x, y: x >= y,
    ):
        assert same_bits(evaluate(write, x, y), write(x, y))
    assert same_bits(evaluate(lambda x, y: x.equals(y), x, y), x == y)
    assert same_bits(evaluate(lambda x, y: x.differs(y), x, y), x != y)


def test_booleans_combine():
    x, y = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    for write in (lambda x, y: x & y, lambda x, y: x | y, lambda x, y: x ^ y, lambda x, y: ~x):
        assert same_bits(evaluate(write, x, y), write(x, y))


def test_extremes_hand_nan_on():
    x = np.array([1, np.nan, 2, np.inf, -1], np.float32)
    y = np.array([np.nan, 1, 3, -np.inf, -2], np.float32)
    assert same_bits(evaluate(maximum, x, y), np.maximum(x, y))
    assert same_bits(evaluate(minimum, x, y), np.minimum(x, y))


def test_where_takes_numbers_on_either_side():
    x = np.array([1, -2, 3], np.float32)
    assert evaluate(lambda x: where(x > 0, x, 7.0), x).tolist() == [1, 7, 3]
    assert evaluate(lambda x: where(x > 0, 7.0, x), x).tolist() == [7, -2, 7]
    assert evaluate(lambda x: where(x > 0, x > 2, x < 0), x).tolist() == [False, True, True]


# ---- casts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("dtype", ALL)
def test_casts_are_numpys(dtype, target):
    rng = np.random.default_rng(3)
    if dtype in FLOATS:
        x = np.concatenate([rng.uniform(0, 100, 300), [0.0, 0.5, 1.0, 99.75]])
        x = floats(dtype) if target in (*FLOATS, "bool") else x.astype(to_numpy(dtype))
    elif dtype == "bool":
        x = rng.integers(0, 2, 50).astype(bool)
    else:
        limits = np.iinfo(dtype)
        x = rng.integers(limits.min, limits.max, 300, dtype=dtype, endpoint=True)
    with np.errstate(all="ignore"):
        assert same_bits(evaluate(lambda x: cast(x, target), x), x.astype(to_numpy(target)))


@pytest.mark.parametrize("dtype", HALVES)
def test_a_cast_to_a_half_rounds_at_once(dtype):
    """Not only when it is stored: what is computed from it sees the rounded number."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(to_numpy(dtype)).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    up = np.nextafter(halves, np.float32(np.inf))
    ties = (np.sort(halves)[1:].astype(np.float64) + np.sort(halves)[:-1]) / 2
    x = np.concatenate(
        [halves, up, ties.astype(np.float32), floats("float32", 50_000), [65519.9, 65520]]
    )
    x = np.concatenate([x, -x]).astype(np.float32)
    got = evaluate(lambda x: cast(cast(x, dtype), "float32"), x)
    with np.errstate(all="ignore"):
        assert same_bits(got, x.astype(to_numpy(dtype)).astype(np.float32))


def test_a_float64_is_rounded_to_a_half_only_once():
    """1 + 2^-11 lies between two float16; a little more is lost if it goes by float32."""
    x = np.array([1 + 2.0**-11 + 2.0**-40, -1 - 2.0**-11 - 2.0**-40, 1 + 2.0**-11])
    got = evaluate(lambda x: cast(cast(x, "float16"), "float64"), x)
    assert got.tolist() == [1 + 2.0**-10, -1 - 2.0**-10, 1.0]


def test_a_half_keeps_float32_until_it_is_stored():
    x = np.array([1.0], to_numpy("bfloat16"))
    got = evaluate(lambda x: (x + 2.0**-10) * 2.0**10 - 2.0**10, x)
    assert got[0] == 1


# ---- where statements go -----------------------------------------------------------------------


def test_a_statement_goes_into_the_outermost_loop_that_knows_its_terms():
    lines = Lines(levels=3)
    outer, inner = Term(lines, "a", "float32", 1), Term(lines, "b", "float32", 2)
    constant = lines.constant(2.0, "float32")
    call("exp", constant)
    _ = outer * constant
    _ = inner * outer
    assert [len(level) for level in lines.levels] == [1, 1, 1]


def test_names_of_repeated_loops_have_a_suffix():
    lines = Lines(levels=3, suffix="u1", repeated=2)
    assert lines.let("load_float32(p, 0)", "float32", 1).text == "t1"
    assert lines.let("load_float32(p, i)", "float32", 2).text == "t2u1"
