"""What the tests of passes share: Programs from text, the same numbers before and after."""

from __future__ import annotations

import zlib

import numpy as np

import noria.ops.activation
import noria.ops.compare
import noria.ops.control
import noria.ops.conv
import noria.ops.create
import noria.ops.elementwise
import noria.ops.fused
import noria.ops.linalg
import noria.ops.loops
import noria.ops.norm
import noria.ops.random
import noria.ops.reduce
import noria.ops.shape
import noria.ops.update  # noqa: F401  (importing a family registers its ops)
from noria.core.dims import evaluate
from noria.core.dtypes import is_float, to_numpy
from noria.ir.interpret import run_program
from noria.ir.text import parse_program
from noria.ir.verify import verify
from noria.passes.report import collect

SIZES = {"N": 3, "M": 4}


def program(lines):
    """The Program of these lines of IR text, checked."""
    parsed = parse_program("program p {\n" + lines + "\n}")
    verify(parsed)
    return parsed


def apply(transform, before, **more):
    """(the Program after a pass, what the pass reports), checked against the rules of the IR."""
    with collect() as reports:
        after = transform(before, **more)
    verify(after)
    return after, reports[-1]


def types(p):
    """The types of the operators of the main block, in order."""
    return [o.type for o in p.operators]


def reasons(report):
    return [reason for _, reason in report.declined]


def numbers(value, sizes):
    """The same numbers for the same name, whatever else the Program has."""
    rng = np.random.default_rng(zlib.crc32(value.name.encode()))
    shape = tuple(evaluate(d, sizes) for d in value.shape)
    if is_float(value.dtype):
        return rng.uniform(0.5, 1.5, shape).astype(to_numpy(value.dtype))
    return rng.integers(0, 2, shape).astype(to_numpy(value.dtype))


def results(p, sizes=SIZES, feeds=None):
    """(outputs, updates) of the Program by the interpreter."""
    given = {n: numbers(v, sizes) for n, v in p.inputs.items()} | (feeds or {})
    return run_program(p, given, {n: numbers(s.value, sizes) for n, s in p.state.items()})


def assert_same_numbers(before, after, *, exact=True, sizes=SIZES, feeds=None):
    """Both Programs give the same outputs and updates, to the last bit unless `exact` is False."""
    kept = {n: a for n, a in (feeds or {}).items() if n in after.inputs}
    pairs = zip(results(before, sizes, feeds), results(after, sizes, kept), strict=True)
    for want, got in pairs:
        assert got.keys() == want.keys()
        for name, array in want.items():
            assert got[name].dtype == array.dtype and got[name].shape == array.shape, name
            left, right = got[name].astype(np.float64), array.astype(np.float64)
            if exact:
                np.testing.assert_array_equal(left, right, err_msg=name)
                numbers_only = ~np.isnan(right)
                signs = np.signbit(left) == np.signbit(right)
                assert signs[numbers_only].all(), f"signs of {name}"
            else:
                np.testing.assert_allclose(left, right, rtol=2e-5, atol=1e-6, err_msg=name)
