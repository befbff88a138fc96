import importlib

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.ops.batch_norm import batch_norm
from noria.testing.case import Case, arr
from noria.testing.check import check_case

family = importlib.import_module("noria.ops.batch_norm")  # the op has the name of its file
ROWS = {0: {0: "N"}}
TRAIN = {"training": True}


def spread(vector, x, axis):
    shape = [1] * x.ndim
    shape[axis] = -1
    return vector.reshape(shape).astype(np.float64)


def by_given(x, scale, bias, mean, var, axis=1, epsilon=1e-5, **_):
    s, b, m, v = (spread(a, x, axis) for a in (scale, bias, mean, var))
    return (x - m) / np.sqrt(v + epsilon) * s + b


def by_batch(x, scale, bias, mean, var, axis=1, epsilon=1e-5, momentum=0.1):
    channels = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).astype(np.float64)
    n = channels.shape[1]
    m, v = channels.mean(1), channels.var(1)
    out = by_given(x, scale, bias, m, v, axis, epsilon)
    unbiased = channels.var(1, ddof=1) if n > 1 else v
    new = [old * (1 - momentum) + momentum * b for old, b in ((mean, m), (var, unbiased))]
    return out, m, 1 / np.sqrt(v + epsilon), *new


def vectors(c, dtype="float32"):
    return [*[arr(c, dtype=dtype)] * 3, arr(c, dtype=dtype, low=0.5)]


def given(x, symbolic=None, dtype="float32", grad2=False, id="", **how):
    return Case(
        "batch_norm",
        [arr(*x, dtype=dtype), *vectors(x[how.get("axis", 1)], dtype)],
        how,
        expect=lambda *a: by_given(*a, **how),
        symbolic=symbolic,
        grad2=grad2,
        id=id,
    )


def trained(x, symbolic=None, dtype="float32", grad2=False, id="", stats="float32", **how):
    return Case(
        "batch_norm",
        [arr(*x, dtype=dtype), *vectors(x[how.get("axis", 1)], stats)],
        how | TRAIN,
        expect=lambda *a: by_batch(*a, **how),
        symbolic=symbolic,
        grad2=grad2,
        id=id,
    )


def written_out(x, scale, mean, inv_std, grad, axis=1):
    """The chain rule through mean and variance, term by term."""
    x, grad = (np.moveaxis(a, axis, 0).astype(np.float64) for a in (x, grad))
    gx, g_scale = np.zeros_like(x), np.zeros(len(x))
    for c, (xc, gc) in enumerate(zip(x, grad, strict=True)):
        d = xc - mean[c]
        g_scale[c] = (gc * d * inv_std[c]).sum()
        g_hat = gc * scale[c]
        g_var = (g_hat * d).sum() * -0.5 * inv_std[c] ** 3
        g_mean = -(g_hat * inv_std[c]).sum() + g_var * -2 * d.mean()
        gx[c] = g_hat * inv_std[c] + (g_var * 2 * d + g_mean) / d.size
    g_bias = grad.reshape(len(grad), -1).sum(1)
    return np.moveaxis(gx, 0, axis), g_scale, g_bias


def gradient(x, symbolic=None, axis=1, **more):
    """The gradient op where mean is what it claims to be, which makes terms vanish."""
    values = np.random.default_rng(3).normal(size=x).astype(np.float32)
    others = tuple(i for i in range(len(x)) if i != axis)
    c = x[axis]
    inputs = [values, arr(c), values.mean(others), arr(c, low=0.5), arr(*x)]
    return Case(
        "batch_norm_grad",
        inputs,
        {"axis": axis},
        expect=lambda *a: written_out(*a, axis=axis),
        **more,
    )


CASES = [
    given((3, 4, 2, 2), symbolic=ROWS, grad2=True),
    given((3, 4), symbolic=ROWS, epsilon=0.1),
    given((2, 3, 4), axis=-1),
    given((2, 3, 2, 2, 2), dtype="float64"),
    given((4, 3), dtype="bfloat16"),
    given((0, 3, 2, 2)),
    trained((3, 4, 2, 2), symbolic=ROWS, grad2=True),
    trained((5, 4), symbolic=ROWS, momentum=0.3, epsilon=0.1),
    trained((2, 3, 4), axis=-1, grad2=True),
    trained((2, 3, 2, 2, 2), dtype="float64", stats="float64", symbolic={0: {0: "N", 2: "T"}}),
    trained((6, 3, 2), dtype="bfloat16"),
    trained((6, 3, 2), dtype="float16", stats="float16", id="all halves"),
    trained((1, 3), id="one example"),
    gradient((3, 4, 2, 2)),
    gradient((5, 3)),
    gradient((2, 3, 4), axis=2),
    Case(
        "batch_norm_grad",
        [arr(5, 3), arr(3), arr(3), arr(3), arr(5, 3)],
        symbolic={0: {0: "N"}, 4: {0: "N"}},
        grad2=True,
    ),
    Case("batch_norm_grad", [arr(0, 3), arr(3), arr(3), arr(3), arr(0, 3)]),
    Case("batch_norm_grad", [arr(4, 3, dtype="bfloat16"), arr(3), arr(3), arr(3), arr(4, 3)]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(family).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


def test_the_training_gradient_is_one_operator():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (4, 3, 2, 2))
        v = [builder.input(n, (3,)) for n in ("scale", "bias", "mean", "var")]
        out = batch_norm(x, *v, training=True)[0]
        gradients(out, [x, *v[:2]])
    assert [op.type for op in program.operators] == ["batch_norm", "fill", "batch_norm_grad"]


def test_gradients_through_the_statistics_are_counted():
    """d(sum of the running mean) / dx is momentum / n everywhere."""
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (4, 3))
        v = [builder.input(n, (3,)) for n in ("scale", "bias", "mean", "var")]
        outs = batch_norm(x, *v, training=True, momentum=0.2)
        program.outputs = dict(zip("gm", gradients(outs[3], [x, v[2]]), strict=True))
    feeds = {n: np.ones(3, np.float32) for n in ("scale", "bias", "mean", "var")}
    out, _ = run_program(program, feeds | {"x": np.ones((4, 3), np.float32)}, {})
    assert np.allclose(out["g"], 0.05) and np.allclose(out["m"], 0.8)


def test_an_empty_batch_changes_no_running_statistics():
    ones = np.ones(3, np.float32)
    *_, mean, var = batch_norm(np.ones((0, 3), np.float32), ones, ones, ones, ones, training=True)
    assert mean.tolist() == var.tolist() == [1, 1, 1]


def test_at_test_time_the_running_statistics_are_used_and_kept():
    x, *v = (np.random.default_rng(0).uniform(0.5, 1, s) for s in [(4, 3), *[(3,)] * 4])
    outs = batch_norm.for_test_fn(x, *v, training=True)
    trained_outs = batch_norm(x, *v, training=True)
    assert len(outs) == len(trained_outs)
    assert np.array_equal(outs[0], batch_norm(x, *v))
    assert outs[3] is v[2] and outs[4] is v[3]
    assert np.array_equal(batch_norm.for_test_fn(x, *v), outs[0])


def test_small_variance_beside_a_large_mean_survives():
    x = (1e4 + np.array([[0.0], [1.0]])).astype(np.float32)
    ones, zeros = np.ones(1, np.float32), np.zeros(1, np.float32)
    out = batch_norm(x, ones, zeros, zeros, ones, training=True)[0]
    assert np.allclose(out.ravel(), [-1, 1], atol=1e-3)


def test_vectors_of_another_length_are_refused():
    x, v = np.ones((4, 3, 2)), np.ones(3)
    for at, name in enumerate(("scale", "bias", "mean", "var")):
        wrong = [v] * 4
        wrong[at] = np.ones(2)
        with pytest.raises(ShapeError, match=name):
            batch_norm(x, *wrong)
    with pytest.raises(ArgumentError, match="axis"):
        batch_norm(x, v, v, v, v, axis=3)
    with pytest.raises(DTypeError):
        batch_norm(np.ones((4, 3), int), v, v, v, v)
