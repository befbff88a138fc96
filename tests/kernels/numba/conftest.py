"""Kernels made of one expression, and what the tests count errors in."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from noria.core.dtypes import as_dtype, to_numpy
from noria.kernels.numba import jit

ELEMENTWISE = """
def kernel(args):
    out, n = load_int64(args, {k}), load_int64(args, {k} + 1)
    {pointers}
    for i in range(n):
        independent()
        {loads}
        store_{dtype}(out, i, {expression})
    return 0
"""


def elementwise_source(expression, inputs, dtype):
    """Source of a kernel over x, y, z (of dtypes `inputs`) into an array of `dtype`."""
    named = list(zip("xyz", inputs, strict=False))
    return ELEMENTWISE.format(
        k=len(inputs),
        pointers="; ".join(f"p{v} = load_int64(args, {j})" for j, (v, _) in enumerate(named)),
        loads="; ".join(f"{v} = load_{d}(p{v}, i)" for v, d in named),
        dtype=dtype,
        expression=expression,
    )


def table_of(*values):
    """The int64 table of a kernel; arrays stand for their addresses."""
    addresses = [v.ctypes.data if isinstance(v, np.ndarray) else v for v in values]
    return np.array(addresses, np.int64)


@pytest.fixture
def source():
    return elementwise_source


@pytest.fixture
def table():
    return table_of


@pytest.fixture
def elementwise():
    """elementwise("x + y", x, y, dtype="float32") computed by a compiled kernel."""

    def run(expression, *arrays, dtype="float32"):
        kinds = [as_dtype(a.dtype) for a in arrays]
        kernel = jit.compile_source(elementwise_source(expression, kinds, dtype), "kernel")
        arrays = [np.ascontiguousarray(a) for a in arrays]
        out = np.zeros(arrays[0].shape, to_numpy(dtype))
        arguments = table_of(*arrays, out, out.size)
        assert kernel(arguments.ctypes.data) == 0
        return out

    return run


@pytest.fixture
def floats():
    """float32 of every magnitude and sign, special values, and a dense grid around 0."""
    patterns = np.arange(0, 2**32, 4091, dtype=np.uint64).astype(np.uint32).view(np.float32)
    special = [0, 1, np.inf, np.nan, 1e-45, 1e-39, 1.1754942e-38, 1.1754944e-38, 3.4028235e38]
    special += [0.5, 0.92, 2 / 3, 4 / 3, 88.72, 88.73, 87.33, 103.9, 104.1, np.pi / 2, 2**24]
    special = np.array([*special, *np.negative(special)], np.float32)
    return np.concatenate([special, patterns, np.linspace(-20, 20, 100_003, dtype=np.float32)])


@pytest.fixture
def ulps():
    """Error of float32 results in units in the last place of the exact value.

    A result that is NaN or infinite where the exact one, rounded, is not (or the other way round)
    has an infinite error; so has a zero of the wrong sign.
    """

    def count(actual, exact):
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = exact.astype(np.float32)
            finite = np.isfinite(rounded) & np.isfinite(actual)
            unit = np.spacing(np.where(finite, np.abs(rounded), 1).astype(np.float64))
            unit = np.maximum(unit * 2.0**29, 2.0**-149)  # float32's
            error = np.abs(actual.astype(np.float64) - exact) / unit
        same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
        error = np.where(finite, error, np.where(same, 0, np.inf))
        zeros = (exact == 0) & (actual == 0)
        return np.where(zeros & (np.signbit(actual) != np.signbit(exact)), np.inf, error)

    return count


@pytest.fixture
def cold(monkeypatch, tmp_path):
    """An empty cache folder and nothing in memory; gives the folder the kernels go to."""
    monkeypatch.setenv("NORIA_CACHE", str(tmp_path))
    monkeypatch.setattr(jit, "_functions", {})
    return tmp_path / "kernels"


@pytest.fixture
def fresh_python():
    """fresh_python(code, VARIABLE="value"): what a new interpreter, warnings as errors, prints."""

    def run(code, **environment):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
