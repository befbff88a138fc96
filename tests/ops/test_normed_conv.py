"""Convolutions that normalise while they read, against batch norm, ReLU and convolution apart."""

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import DTypeError, ShapeError
from noria.ir.interpret import run_program
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.passes.for_test import for_test
from noria.testing.case import Case, arr
from noria.testing.check import check_case
from tests.ops.test_batch_norm import by_batch, vectors

ROWS = {0: {0: "N"}}


def factors(shape, **how):
    """Of batch_norm_factors."""
    inputs = [arr(*shape), *vectors(shape[how.get("axis", 1)])]

    def expect(x, scale, bias, mean, var):
        _, *rest = by_batch(x, scale, bias, mean, var, **how)
        return np.stack([scale * rest[1], bias]), *rest

    return Case("batch_norm_factors", inputs, how, expect=expect, symbolic=ROWS)


def normed(x, mean, rows):
    """What the convolution sees."""
    mean, factor, offset = (v[:, None, None] for v in (mean, *rows))
    return np.maximum((x - mean) * factor + offset, 0)


def forward(n, ins, outs, sizes, bias=False, **how):
    inputs = [arr(n, ins, *sizes), arr(outs, ins // how.get("groups", 1), 3, 2)]
    inputs += [arr(ins), arr(2, ins), *([arr(outs)] if bias else [])]

    def expect(x, weight, mean, rows, *bias):
        return np.asarray(lookup("conv2d")(normed(x, mean, rows), weight, *bias, **how))

    return Case("normed_conv2d", inputs, how, expect=expect, symbolic=ROWS)


def by_weight(n, ins, outs, sizes, windows, **how):
    inputs = [arr(n, ins, *sizes), arr(n, outs, *windows), arr(ins), arr(2, ins)]
    how = {"kernel": (3, 2), **how}

    def expect(x, grad, mean, rows):
        return np.asarray(lookup("conv2d_weight_grad")(normed(x, mean, rows), grad, **how))

    symbolic = {i: {0: "N"} for i in (0, 1)}
    return Case("normed_conv2d_weight_grad", inputs, how, expect=expect, symbolic=symbolic)


@pytest.mark.parametrize(
    "case",
    [
        factors((5, 3)),
        factors((4, 3, 5, 7), momentum=0.3, epsilon=1e-2),
        factors((4, 5, 3), axis=-1),
        forward(2, 3, 5, (4, 3)),
        forward(2, 4, 6, (5, 6), bias=True, padding=1, groups=2),
        forward(1, 2, 3, (7, 6), stride=2, dilation=(1, 2), padding=2),
        by_weight(2, 3, 5, (4, 3), (2, 2)),
        by_weight(2, 4, 3, (5, 6), (5, 7), padding=1),
    ],
    ids=str,
)
def test_case(case):
    check_case(case)


def test_factors_are_those_of_batch_norm():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, 5)).astype(np.float32) + 100
    scale, bias, mean, var = rng.standard_normal((4, 4)).astype(np.float32)
    want, *statistics = o.batch_norm(x, scale, bias, mean, var, training=True)
    rows, *found = o.batch_norm_factors(x, scale, bias, mean, var)
    one = np.eye(4, dtype=np.float32)[:, :, None, None]
    got = o.normed_conv2d(x, one, found[0], rows)
    np.testing.assert_allclose(got, np.maximum(want, 0), rtol=1e-5, atol=1e-5)
    for a, b in zip(found, statistics, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_gradient_takes_factors_in_the_place_of_out():
    rng = np.random.default_rng(0)
    x, grad, more = rng.standard_normal((3, 2, 5, 4, 3)).astype(np.float32)
    scale, bias, mean, var = rng.uniform(0.5, 1, (4, 5)).astype(np.float32)
    out, batch_mean, inv_std, _, _ = o.batch_norm_relu(x, scale, bias, mean, var)
    rows, *_ = o.batch_norm_factors(x, scale, bias, mean, var)
    want, got = (
        o.batch_norm_relu_grad(x, scale, batch_mean, inv_std, sign, grad, more, residual=True)
        for sign in (out, rows)
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_summed_in_float32(dtype):
    x = np.full((1, 300, 1, 1), 1, dtype)
    weight, mean = np.ones((1, 300, 1, 1), dtype), np.zeros(300, np.float32)
    rows = np.stack([mean + 2, mean + 1])
    out = o.normed_conv2d(x, weight, mean, rows)
    assert out.dtype == dtype and float(out.item()) == float(dtype(900))
    by_weight = o.normed_conv2d_weight_grad(x, x[:, :1], mean, rows, kernel=1, dtype="float32")
    assert by_weight.dtype == np.float32 and (by_weight == 3).all()


def test_at_test_time_the_running_statistics_serve():
    def step(x, v, w):
        rows, mean, *_ = o.batch_norm_factors(x, v, w, v, w)
        return {"rows": rows, "mean": mean}

    tested = for_test(trace(step, x=spec(2, 3), v=spec(3), w=spec(3)))
    x, v, w = np.ones((2, 3), np.float32), *np.full((2, 3), 4.0, np.float32)
    got = run_program(tested, {"x": x, "v": v, "w": w}, {})[0]
    np.testing.assert_allclose(got["rows"], [[2] * 3, [4] * 3], rtol=1e-4)
    np.testing.assert_array_equal(got["mean"], v)


def test_what_does_not_fit_is_told():
    x, weight, mean = (np.ones(s, np.float32) for s in ((2, 4, 3, 3), (5, 4, 1, 1), 4))
    rows = np.ones((2, 4), np.float32)
    with pytest.raises(ShapeError, match="mean"):
        o.normed_conv2d(x, weight, mean[1:], rows)
    with pytest.raises(ShapeError, match="factors"):
        o.normed_conv2d(x, weight, mean, rows[:1])
    with pytest.raises(DTypeError, match="float"):
        o.normed_conv2d(x, weight, mean, rows.astype(np.int32))
    with pytest.raises(ShapeError, match="factors"):
        o.normed_conv2d_weight_grad(x, x, mean, rows[:, 1:], kernel=1)
    with pytest.raises(ShapeError, match="factors"):
        o.batch_norm_relu_grad(x, mean, mean, mean, rows[:1], x)
