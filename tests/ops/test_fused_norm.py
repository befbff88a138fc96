import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.passes.for_test import for_test
from noria.testing.case import Case, arr
from noria.testing.check import check_case
from tests.ops.test_batch_norm import by_batch, vectors

ROWS = {0: {0: "N"}, 5: {0: "N"}}


def normed(x, scale, bias, mean, var, residual=None, **how):
    out, *rest = by_batch(x, scale, bias, mean, var, **how)
    return np.maximum(out if residual is None else out + residual, 0), *rest


def gradients(x, scale, mean, inv_std, out, grad, more=None, axis=1, residual=False):
    masked = np.where(out > 0, grad if more is None else grad + more, 0)
    wide = np.moveaxis(x, axis, -1).astype(np.float64)
    g = np.moveaxis(masked, axis, -1).astype(np.float64)
    hat, others = (wide - mean) * inv_std, tuple(range(x.ndim - 1))
    gx = (g - g.mean(others) - hat * (g * hat).mean(others)) * scale * inv_std
    found = np.moveaxis(gx, -1, axis), (g * hat).sum(others), g.sum(others)
    return (*found, masked) if residual else found


def forward(shape, residual, symbolic=None, **how):
    inputs = [arr(*shape), *vectors(shape[how.get("axis", 1)])]
    inputs += [arr(*shape)] if residual else []
    expect = lambda *a: normed(*a, **how)  # noqa: E731
    return Case("batch_norm_relu", inputs, how, expect=expect, symbolic=symbolic)


def backward(shape, more, **how):
    c = shape[how.get("axis", 1)]
    statistics = [arr(c), arr(c), arr(c, low=0.5)]
    inputs = [arr(*shape), *statistics, *[arr(*shape)] * (3 if more else 2)]
    expect = lambda *a: gradients(*a, **how)  # noqa: E731
    return Case("batch_norm_relu_grad", inputs, how, expect=expect)


@pytest.mark.parametrize(
    "case",
    [
        forward((5, 3), False),
        forward((4, 3, 5, 7), True, ROWS),
        forward((4, 3, 5), True, axis=2, momentum=0.3, epsilon=1e-2),
        backward((6, 3), False),
        backward((4, 3, 2, 5), True, residual=True),
        backward((4, 3, 5), False, residual=True, axis=-1),
    ],
    ids=str,
)
def test_case(case):
    check_case(case)


def test_sizes_that_differ_are_told():
    x, v = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ShapeError, match="residual"):
        o.batch_norm_relu(x, v, v, v, v, np.ones((2, 1), np.float32))
    with pytest.raises(ShapeError, match="more"):
        o.batch_norm_relu_grad(x, v, v, v, x, x, x[:, :1])
    with pytest.raises(ArgumentError, match="residual is a flag"):
        o.batch_norm_relu_grad(x, v, v, v, x, x, residual=1)


def test_halves_are_rounded_once():
    x, v = (a.astype("float16") for a in (np.full((4, 3), 3.0), np.ones(3)))
    f = v.astype(np.float32)
    out, mean, *_ = o.batch_norm_relu(x, f, f, f, f, x)
    assert out.dtype == np.float16 and mean.dtype == np.float32
    np.testing.assert_array_equal(out, np.full((4, 3), 4.0))
    gx, *_, masked = o.batch_norm_relu_grad(x, f, f, f, out, x, residual=True)
    assert gx.dtype == masked.dtype == np.float16


def test_at_test_time_the_running_statistics_serve():
    def step(x, v, w, r):
        out, mean, *_ = o.batch_norm_relu(x, v, v, v, w, r)
        return {"y": out, "m": mean}

    program = trace(step, x=spec(2, 3), v=spec(3), w=spec(3), r=spec(2, 3))
    tested = for_test(program)
    x, v, w = np.ones((2, 3), np.float32), *np.full((2, 3), 4.0, np.float32)
    got = run_program(tested, {"x": x, "v": v, "w": w, "r": 3 * x}, {})[0]
    np.testing.assert_allclose(got["y"], np.full((2, 3), 1.0), rtol=1e-4)
    np.testing.assert_array_equal(got["m"], v)
