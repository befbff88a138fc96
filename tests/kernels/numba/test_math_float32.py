"""float32 mathematics: errors in ulp over all magnitudes, special values, and vector code."""

import re

import numpy as np
import pytest
from scipy import special

from noria.kernels.numba import lower

# name: (float64 reference, largest error in ulp)
FUNCTIONS = {
    "exp": (np.exp, 1.2),
    "exp2": (np.exp2, 1.2),
    "expm1": (np.expm1, 2),
    "log": (np.log, 1),
    "log1p": (np.log1p, 2),
    "tanh": (np.tanh, 3),
    "erf": (special.erf, 1.5),
    "sin": (np.sin, 2),
    "cos": (np.cos, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_stay_within_a_few_ulps_over_the_whole_range(name, elementwise, floats, ulps):
    reference, limit = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        exact = reference(floats.astype(np.float64))
    error = ulps(elementwise(f"{name}(x)", floats), exact)
    worst = np.argmax(error)
    assert error[worst] <= limit, (name, floats[worst], error[worst])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loop_becomes_vector_code_without_calls_or_overlap_checks(name, source):
    text = source(f"{name}(x)", ["float32"], "float32")
    ir = str(lower.optimise(text, "kernel", "kernel"))
    assert re.search(r"fmul <\d+ x float>", ir) or re.search(r"@llvm.fma.v\d+f32", ir)
    assert not re.search(r"memcheck|diff\.check", ir)
    assert lower.compile_object(text, "kernel", "kernel").externals == ()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1000])
def test_vector_body_and_rest_of_a_loop_agree(size, elementwise):
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    whole = elementwise("tanh(x) + exp(x)", x)
    assert np.array_equal(elementwise("tanh(x) + exp(x)", x[:size]), whole[:size])


@pytest.fixture
def pairs(floats):
    """Bases and exponents: all pairs of special values, random bit patterns, ordinary numbers."""
    rng = np.random.default_rng(0)
    special_ = np.append(floats[:40], np.array([2, 3, -2, -3, 1e10, -1e10], np.float32))
    x, y = (a.ravel() for a in np.meshgrid(special_, special_))
    patterns = rng.integers(0, 2**32, (2, 200_000), dtype=np.uint32).view(np.float32)
    near = np.exp(rng.uniform(-5, 5, 200_000)), rng.uniform(-20, 20, 200_000)
    whole = rng.integers(-9, 9, 50_000), rng.integers(-30, 30, 50_000)
    return [
        np.concatenate([a, b, np.float32(c), np.float32(d)])
        for a, b, c, d in zip((x, y), patterns, near, whole, strict=True)
    ]


def test_pow_is_exact_to_an_ulp_and_keeps_the_special_cases_of_c(pairs, elementwise, ulps):
    x, y = pairs
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    error = ulps(elementwise("pow(x, y)", x, y), exact)
    worst = np.argmax(error)
    assert error[worst] <= 1, (x[worst], y[worst], exact[worst])


def test_sine_of_huge_arguments_is_reduced_exactly(elementwise):
    """The float32 nearest to a multiple of pi/2 (Kahan), and the largest numbers."""
    x = np.array([16367173 * 2.0**72, 3.4028235e38, 2.0**127, 12345678.0, -1e30], np.float32)
    exact = np.sin(x.astype(np.float64))
    assert np.allclose(elementwise("sin(x)", x), exact, rtol=2.5e-7, atol=0)
    assert abs(np.cos(float(x[0]))) < 1e-8
    assert np.allclose(elementwise("cos(x)", x), np.cos(x.astype(np.float64)), rtol=2.5e-7, atol=0)
