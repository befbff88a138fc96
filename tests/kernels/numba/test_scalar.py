"""Every elementwise op beside its reference: all dtypes, special values, odd sizes."""

import numpy as np
import pytest

from noria.core.dtypes import to_numpy
from noria.kernels.numba.elementwise import Elementwise, Prelu
from noria.kernels.numba.scalar import COST, RULES
from noria.ops.fused import ELEMENTWISE, UPDATES
from tests.kernels.numba.running import compute, operator, reference, same_bits

FLOATS = ["float32", "float64", "bfloat16", "float16"]
WHOLE = ["int8", "uint8", "int32", "int64", "uint64"]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.5, np.inf, -np.inf, np.nan, 1e-30, -90.0, 100.0, 1e30]
KERNEL = Elementwise()

EXACT = [
    "add",
    "sub",
    "mul",
    "maximum",
    "minimum",
    "neg",
    "abs",
    "sign",
    "square",
    "floor",
    "ceil",
    "round",
    "relu",
]
BOTH = ["floor_divide", "remainder"]
TESTS = ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
BINARY = {*["add", "sub", "mul", "div", "pow", "maximum", "minimum"], *BOTH, *TESTS}
CLOSE = [
    "div",
    "sqrt",
    "reciprocal",
    "rsqrt",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sin",
    "cos",
    "tanh",
    "erf",
    "sigmoid",
    "silu",
    "pow",
    "mish",
    "hard_swish",
]
WITH_ATTRIBUTES = [
    ("clip", {"low": -0.7, "high": 1.1}),
    ("clip", {"low": 0.3}),
    ("clip", {"high": 0.1}),
    ("leaky_relu", {"negative_slope": 0.1}),
    ("hard_sigmoid", {"slope": 0.3, "offset": 0.4}),
    ("elu", {"alpha": 1.7}),
    ("gelu", {"approximate": "none"}),
    ("gelu", {"approximate": "tanh"}),
    ("softplus", {"beta": 2.0, "threshold": 3.0}),
]
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
# Differences allowed, relative to the result or to 1: in units of the last place of the dtype.
ULPS = {"pow": 32, "gelu": 16, "sin": 8, "mish": 8}


def numbers(dtype, seed, count=1000):
    """Special values against each other and random ones."""
    rng = np.random.default_rng(seed)
    if dtype in WHOLE:
        limits = np.iinfo(dtype)
        edges = [limits.min, limits.max, 0, 1, limits.max - 1]
        edges += [-1] if limits.min else []
        wide = rng.integers(limits.min, limits.max, count, dtype=dtype, endpoint=True)
        near = rng.integers(0, 5, count).astype(dtype)
        return rng.permutation(np.concatenate([np.array(edges * 8, dtype), wide, near]))
    values = np.concatenate([SPECIAL * 8, rng.uniform(-5, 5, count)])
    with np.errstate(over="ignore"):
        return rng.permutation(values).astype(to_numpy(dtype))


def check(name, inputs, ulps=None, **attrs):
    op = operator(name, inputs, **attrs)
    for got, want in zip(compute(KERNEL, op, inputs), reference(op, inputs), strict=True):
        if ulps is None:
            assert same_bits(got, want)
        else:
            assert_close(got, want, ulps)


def assert_close(got, want, ulps):
    eps = EPSILON[want.dtype.name]
    a, b = got.astype(np.float64), want.astype(np.float64)
    largest = 65504 if want.dtype == np.float16 else 3.38e38
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(invalid="ignore"):
        near_overflow = (np.abs(np.where(finite, b, a)) > 0.99 * largest) & ~np.isnan(a + b)
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | near_overflow
        near = np.abs(a - b) <= ulps * eps * np.maximum(np.abs(b), 1)
    bad = np.flatnonzero(~np.where(finite, near, same))
    assert bad.size == 0, (got[bad[:5]], want[bad[:5]])


def test_every_op_that_may_be_fused_has_a_rule():
    assert set(RULES) >= ELEMENTWISE | UPDATES
    assert set(COST) <= set(RULES)


@pytest.mark.parametrize("dtype", FLOATS + WHOLE)
@pytest.mark.parametrize("name", EXACT)
def test_arithmetic_is_exact(name, dtype):
    if dtype in WHOLE and name in ("floor", "ceil", "round"):
        pytest.skip("for floats only")
    count = 2 if name in BINARY else 1
    inputs = [numbers(dtype, seed) for seed in range(count)]
    if name in ("maximum", "minimum", "relu", "sign"):  # of two zeros NumPy takes either
        inputs = [np.where(x == 0, np.zeros_like(x), x) for x in inputs]
    check(name, inputs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", CLOSE)
def test_functions_are_within_some_units_of_the_last_place(name, dtype):
    inputs = [numbers(dtype, seed) for seed in range(2 if name in BINARY else 1)]
    check(name, inputs, ulps=ULPS.get(name, 4))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "attrs"), WITH_ATTRIBUTES)
def test_attributes_become_constants(name, attrs, dtype):
    check(name, [numbers(dtype, 1)], ulps=ULPS.get(name, 4), **attrs)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
def test_bounds_of_integers_are_whole(dtype):
    check("clip", [numbers(dtype, 1)], low=2.0, high=5)


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE])
@pytest.mark.parametrize("name", BOTH)
def test_division_with_remainder_is_numpys(name, dtype):
    check(name, [numbers(dtype, 1), numbers(dtype, 2)])


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("name", BOTH)
def test_the_integer_division_that_traps_wraps_instead(name, dtype):
    lowest = np.iinfo(dtype).min
    x, y = np.array([lowest, lowest, 7, 0], dtype), np.array([-1, 0, 0, -1], dtype)
    check(name, [x, y])


@pytest.mark.parametrize("dtype", WHOLE)
def test_integers_are_divided_as_float32(dtype):
    check("div", [numbers(dtype, 1), numbers(dtype, 2)])


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool"])
@pytest.mark.parametrize("name", TESTS)
def test_comparisons_give_bools(name, dtype):
    if dtype == "bool":
        rng = np.random.default_rng(1)
        inputs = [rng.integers(0, 2, 40).astype(bool) for _ in range(2)]
    else:
        inputs = [numbers(dtype, 1), numbers(dtype, 2)]
    check(name, inputs)


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "bool"])
def test_kinds_of_numbers(name, dtype):
    x = np.array([True, False]) if dtype == "bool" else numbers(dtype, 1)
    check(name, [x])


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor", "logical_not"])
def test_logic(name):
    x, y = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    check(name, [x] if name == "logical_not" else [x, y])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "uint8", "bool"])
def test_where_chooses_without_computing(dtype):
    rng = np.random.default_rng(1)
    x, y = (
        [rng.integers(0, 2, 1112).astype(bool) for _ in range(2)]
        if dtype == "bool"
        else [numbers(dtype, 1), numbers(dtype, 2)]
    )
    check("where", [rng.integers(0, 2, x.size).astype(bool), x, y])


@pytest.mark.parametrize("count", [1, 4])
def test_prelu_has_a_weight_for_each_channel(count):
    rng = np.random.default_rng(1)
    for shape in ((3, 4, 5), (3, 4, 5, 2), (7, 4), (4,)):
        x, w = rng.standard_normal(shape).astype("f"), rng.standard_normal(count).astype("f")
        op = operator("prelu", [x, w])
        (got,) = compute(Prelu(), op, [x, w])
        assert same_bits(got, reference(op, [x, w])[0])


# ---- updates -----------------------------------------------------------------------------------

RATE, STEP = np.array(0.01, np.float32), np.array(3)
UPDATE_CASES = [
    ("sgd_update", 0, {}),
    ("momentum_update", 1, {"momentum": 0.9}),
    ("momentum_update", 1, {"nesterov": True}),
    ("adagrad_update", 1, {"epsilon": 1e-6}),
    ("adam_update", 2, {"weight_decay": 0.1}),
    ("adam_update", 2, {"beta1": 0.5}),
    ("adam_update", 2, {"beta1": 0.0}),
    ("rmsprop_update", 3, {}),
    ("rmsprop_update", 3, {"momentum": 0.9, "centered": True}),
]


@pytest.mark.parametrize("dtypes", [("float32",) * 2, ("float64",) * 2, ("float32", "bfloat16")])
@pytest.mark.parametrize(("name", "states", "attrs"), UPDATE_CASES)
def test_updates_follow_their_formulas(name, states, attrs, dtypes):
    rng = np.random.default_rng(1)
    param, grad = (rng.standard_normal(333).astype(to_numpy(d)) for d in dtypes)
    kept = [rng.uniform(1, 2, 333).astype(dtypes[0]) for _ in range(states)]
    if attrs.get("centered"):
        kept[1] = kept[1] / 4  # the square of a mean is below the mean of squares
    inputs = [param, grad, *kept, RATE, *([STEP] if name == "adam_update" else [])]
    check(name, inputs, ulps=8, **attrs)


@pytest.mark.parametrize("step", [1, 2, 10, 1000, 10**6])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9999), (0.999999, 0.9999999)])
def test_the_corrections_of_adam_are_accurate_at_every_step(step, betas):
    rng = np.random.default_rng(step)
    param, grad, m = (rng.standard_normal(333).astype("f") for _ in range(3))
    v = rng.uniform(1, 2, 333).astype("f")
    inputs = [param, grad, m, v, RATE, np.array(step)]
    check("adam_update", inputs, ulps=4, beta1=betas[0], beta2=betas[1])


def test_updates_in_float32_are_the_references_to_the_last_bit():
    rng = np.random.default_rng(1)
    inputs = [*(rng.uniform(1, 2, 333).astype("f") for _ in range(4)), RATE, np.array(1)]
    check("adam_update", inputs, ulps=1)
    check("momentum_update", [*inputs[:3], RATE], nesterov=True)
