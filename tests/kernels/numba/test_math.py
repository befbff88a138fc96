"""One name for every type: composites, float64, integers, selection."""

import numpy as np
import pytest
from scipy import special

from noria.core.errors import EngineError
from noria.kernels.numba import jit

UNARY = {
    "sigmoid": (special.expit, 3),
    "gate": (lambda x: special.expit(np.clip(x, -87, 87)), 3),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1.5),
    "sqrt": (np.sqrt, 0.5),
    "reciprocal": (lambda x: 1 / x, 0.5),
    "log2": (np.log2, 2),
    "log10": (np.log10, 2.5),
    "tan": (np.tan, 4),
    "softplus": (lambda x: np.logaddexp(0, x), 2),
    "floor": (np.floor, 0),
    "ceil": (np.ceil, 0),
    "trunc": (np.trunc, 0),
    "rint": (np.rint, 0),
    "sign": (np.sign, 0),
    "absolute": (np.abs, 0),
    "asin": (np.arcsin, 2),
    "acos": (np.arccos, 2),
    "atan": (np.arctan, 2),
    "sinh": (np.sinh, 3),
    "cosh": (np.cosh, 3),
    "asinh": (np.arcsinh, 3),
    "acosh": (np.arccosh, 3),
    "atanh": (np.arctanh, 3),
    "cbrt": (np.cbrt, 1.5),
    "erfc": (special.erfc, 4),
    "exp": (np.exp, 2),
    "exp2": (np.exp2, 2),
    "expm1": (np.expm1, 2),
    "log": (np.log, 2),
    "log1p": (np.log1p, 2),
    "tanh": (np.tanh, 3),
    "erf": (special.erf, 2),
    "sin": (np.sin, 2),
    "cos": (np.cos, 2),
}


@pytest.mark.parametrize("name", UNARY)
def test_float32_agrees_with_numpy_in_float64(name, elementwise, floats, ulps):
    reference, limit = UNARY[name]
    with np.errstate(all="ignore"):
        exact = reference(floats.astype(np.float64))
    if name == "sign":
        exact = np.where(floats == 0, floats, exact)  # the sign of a zero is kept
    error = ulps(elementwise(f"{name}(x)", floats), exact)
    assert error.max() <= limit, floats[np.argmax(error)]


@pytest.mark.parametrize("name", UNARY)
def test_float64_agrees_with_numpy_to_the_last_digits(name, elementwise):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-30, 30, 2000), rng.uniform(-1, 1, 2000), [0, np.inf, np.nan]])
    with np.errstate(all="ignore"):
        exact = UNARY[name][0](x)
        actual = elementwise(f"{name}(x)", x, dtype="float64")
    np.testing.assert_allclose(actual, exact, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("silu", lambda x: x * special.expit(x)),
        ("gelu", lambda x: x * special.ndtr(x)),
        ("gelu_tanh", lambda x: x * special.expit(1.5957691216057308 * (x + 0.044715 * x**3))),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gated_units_are_exact_relative_to_their_argument(name, reference, dtype, elementwise):
    x = np.concatenate([np.linspace(-110, 110, 200_001), [-1e30, 1e30, 0.0]]).astype(dtype)
    with np.errstate(over="ignore"):
        exact = reference(x.astype(np.float64))
    error = np.abs(elementwise(f"{name}(x)", x, dtype=dtype) - exact)
    assert np.all(error <= np.abs(x) * (2e-7 if dtype == "float32" else 1e-15))


def test_gated_units_follow_their_formula_at_infinity(elementwise):
    x = np.array([np.inf, -np.inf, np.nan, -0.0], np.float32)
    for name in ("silu", "gelu", "gelu_tanh"):
        y = elementwise(f"{name}(x)", x)
        assert y[0] == np.inf and np.isnan(y[1:3]).all() and y[3] == 0 and np.signbit(y[3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin", "copysign", "fmod"])
def test_functions_of_two_floats_are_numpys(name, dtype, elementwise, floats):
    x, y = (a.ravel() for a in np.meshgrid(floats[:40], floats[:40]))
    x, y = x.astype(dtype), y.astype(dtype)
    with np.errstate(invalid="ignore"):
        exact = getattr(np, name)(x, y)
    np.testing.assert_array_equal(elementwise(f"{name}(x, y)", x, y, dtype=dtype), exact)


def test_pow_and_atan2_of_float64_are_numpys(elementwise):
    x, y = np.random.default_rng(2).uniform(0.1, 9, (2, 500))
    np.testing.assert_allclose(elementwise("pow(x, y)", x, y, dtype="float64"), x**y, rtol=1e-14)
    actual = elementwise("atan2(x, -y)", x, y, dtype="float64")
    np.testing.assert_allclose(actual, np.arctan2(x, -y), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint32", "uint64"])
def test_integers_have_their_own_maximum_minimum_and_sign(dtype, elementwise):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 0, 1, 7, limits.max // 2 + 1], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    for name in ("maximum", "minimum"):
        actual = elementwise(f"{name}(x, y)", x, y, dtype=dtype)
        np.testing.assert_array_equal(actual, getattr(np, name)(x, y))
    np.testing.assert_array_equal(elementwise("sign(x)", x, dtype=dtype), np.sign(x))
    np.testing.assert_array_equal(elementwise("absolute(x)", x, dtype=dtype), np.abs(x))


def test_pythons_names_mean_ours(elementwise, floats):
    x = floats[:40]
    np.testing.assert_array_equal(elementwise("abs(x)", x), np.abs(x))
    np.testing.assert_array_equal(elementwise("max(x, float32(1))", x), np.maximum(x, 1))
    np.testing.assert_array_equal(elementwise("min(x, float32(1))", x), np.minimum(x, 1))
    np.testing.assert_array_equal(elementwise("round(x)", x), np.rint(x))


def test_where_selects_among_floats_integers_and_bools(elementwise):
    x = np.array([-2, -0.0, 3, np.nan], np.float32)
    np.testing.assert_array_equal(elementwise("where(x > 0, x, -1)", x), [-1, -1, 3, -1])
    counts = elementwise("where(x > 0, 5, int32(6))", x, dtype="int32")
    np.testing.assert_array_equal(counts, [6, 6, 5, 6])
    kept = elementwise("where(x > 0, x > 1, x < -1)", x, dtype="bool")
    np.testing.assert_array_equal(kept, [True, False, True, False])


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
def test_tests_for_nan_and_infinity_survive_optimisation(name, elementwise):
    x = np.array([1, np.nan, np.inf, -np.inf, 3e38, 0], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = getattr(np, name)(x * x / x)
    np.testing.assert_array_equal(elementwise(f"{name}(x * x / x)", x, dtype="bool"), exact)


def test_bit_patterns_go_both_ways(elementwise, floats):
    np.testing.assert_array_equal(elementwise("bits(x)", floats, dtype="int32"), floats.view("i4"))
    same = elementwise("from_bits(bits(x))", floats)
    np.testing.assert_array_equal(same.view("i4"), floats.view("i4"))


def test_fma_rounds_once(elementwise):
    x = np.array([1 + 2**-12], np.float32)
    exact = np.float32(float(x[0]) ** 2 - 1)
    assert elementwise("fma(x, x, float32(-1))", x)[0] == exact != x[0] * x[0] - np.float32(1)


def test_a_mix_of_widths_computes_in_the_wider(elementwise):
    x, y = np.array([1e300]), np.array([2.0], np.float32)
    assert elementwise("maximum(y, x)", x, y, dtype="float64")[0] == 1e300
    assert elementwise("maximum(x, 3)", y)[0] == 3


def test_an_integer_given_to_a_float_function_is_an_error(source):
    with pytest.raises(EngineError, match="cannot compile kernel"):
        jit.compile_source(source("exp(x)", ["int32"], "float32"), "kernel")
