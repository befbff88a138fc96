import itertools

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.kernels.onednn.build_pointwise import (
    binary,
    eltwise_backward,
    eltwise_forward,
    reduction,
    reorder,
    softmax_backward,
    softmax_forward,
    sum_all,
)
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc

rng = np.random.default_rng(0)
ORDERS = list(itertools.product(itertools.permutations(range(3)), repeat=2))


def normal(*shape):
    return rng.standard_normal(shape).astype("f")


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("orders", ORDERS)
def test_reorder_between_any_two_layouts(arrays, orders, gap):
    x = arrays.lay(normal(3, 1, 5), orders[0], gap)
    out = arrays.lay(np.zeros((3, 1, 5), "f"), orders[1], gap)
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, x)


def test_reorder_leaves_the_gaps_alone(arrays):
    room = np.full((3, 8), 7, "f")
    x, out = normal(3, 5), room[:, :5]
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, x)
    assert (room[:, 5:] == 7).all()


@pytest.mark.parametrize(
    ("dtype", "want"),
    [
        ("int8", [-128, -2, 0, 2, 127]),
        ("uint8", [0, 0, 0, 2, 255]),
        ("int32", [-300, -2, 0, 2, 300]),
    ],
)
def test_reorder_to_integers_rounds_and_saturates(arrays, dtype, want):
    x, out = np.array([-300, -1.5, 0.5, 1.5, 300], "f"), np.zeros(5, dtype)
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, np.array(want, dtype))


def test_reorder_to_bfloat16_rounds_as_numpy_does(arrays):
    x, out = normal(1000), np.zeros(1000, ml_dtypes.bfloat16)
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, x.astype(ml_dtypes.bfloat16))


FUNCTIONS = {
    "relu": (0, 0, lambda x: np.maximum(x, 0), lambda x: x > 0),
    "tanh": (0, 0, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "elu": (0.5, 0, lambda x: np.where(x > 0, x, 0.5 * np.expm1(x)), None),
    "exp": (0, 0, np.exp, np.exp),
    "square": (0, 0, np.square, lambda x: 2 * x),
    "abs": (0, 0, np.abs, np.sign),
    "linear": (2.0, 3.0, lambda x: 2 * x + 3, lambda x: np.full_like(x, 2)),
    "clip_v2": (-0.5, 1.0, lambda x: np.clip(x, -0.5, 1), lambda x: (x > -0.5) & (x < 1)),
    "swish": (1.0, 0, lambda x: x / (1 + np.exp(-x)), None),
    "pow": (2.0, 3.0, lambda x: 2 * x**3, lambda x: 6 * x**2),
}


@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 17, 3, 5)])
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_eltwise_and_its_gradient(arrays, kind, shape):
    alpha, beta, function, derivative = FUNCTIONS[kind]
    x, out, g = normal(*shape), np.zeros(shape, "f"), normal(*shape)
    d = arrays.desc(x)
    arrays.execute(eltwise_forward(kind, d, d, alpha, beta), {ARG.SRC: x, ARG.DST: out})
    close(out, function(x))
    if derivative is not None:
        p = eltwise_backward(kind, d, d, d, alpha, beta)
        arrays.execute(p, {ARG.SRC: x, ARG.DIFF_DST: g, ARG.DIFF_SRC: out})
        close(out, g * derivative(x))


def test_eltwise_works_in_place(arrays):
    x = normal(3, 7)
    want, d = np.tanh(x), arrays.desc(x)
    arrays.execute(eltwise_forward("tanh", d, d), {ARG.SRC: x, ARG.DST: x})
    close(x, want)


def test_a_gradient_may_read_dst_instead_of_src(arrays):
    y, g = np.tanh(normal(3, 7)), normal(3, 7)
    dx, d = np.zeros_like(y), arrays.desc(y)
    p = eltwise_backward("tanh_use_dst_for_bwd", d, d, d)
    assert ARG.DST in p.descs and ARG.SRC not in p.descs
    arrays.execute(p, {ARG.DST: y, ARG.DIFF_DST: g, ARG.DIFF_SRC: dx})
    close(dx, g * (1 - y**2))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_and_its_gradient(arrays, axis, order, log):
    x, g = (arrays.lay(normal(3, 5, 17), order) for _ in range(2))
    out, dx = (arrays.lay(np.zeros((3, 5, 17), "f"), order) for _ in range(2))
    d = arrays.desc(x)
    e = np.exp(x.astype("d") - x.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)
    arrays.execute(softmax_forward(d, d, axis, log=log), {ARG.SRC: x, ARG.DST: out})
    close(out, np.log(y) if log else y)
    p = softmax_backward(d, d, d, axis, log=log)
    arrays.execute(p, {ARG.DST: out, ARG.DIFF_DST: g, ARG.DIFF_SRC: dx})
    total = (g * (1 if log else y)).sum(axis, keepdims=True)
    close(dx, g - y * total if log else y * (g - total))


BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "ge": np.greater_equal,
    "lt": np.less,
    "eq": np.equal,
}


@pytest.mark.parametrize("kind", BINARY)
def test_binary(arrays, kind):
    a, b, out = normal(3, 7), normal(3, 7), np.zeros((3, 7), "f")
    b[0] = a[0] + (kind == "div")
    d = arrays.desc(a)
    arrays.execute(binary(kind, d, d, d), {ARG.SRC_0: a, ARG.SRC_1: b, ARG.DST: out})
    close(out, BINARY[kind](a, b))


@pytest.mark.parametrize("shape", [(1, 7, 1, 1), (3, 1, 1, 1), (1, 1, 4, 5), (1, 1, 1, 1)])
@pytest.mark.parametrize("last", [False, True])
def test_binary_broadcasts(arrays, shape, last):
    place = arrays.last if last else arrays.lay
    a, b, out = place(normal(3, 7, 4, 5)), place(normal(*shape)), place(np.zeros((3, 7, 4, 5), "f"))
    p = binary("sub", arrays.desc(a), arrays.desc(b), arrays.desc(out))
    arrays.execute(p, {ARG.SRC_0: a, ARG.SRC_1: b, ARG.DST: out})
    close(out, a - b)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min", "mul"])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_reduction(arrays, kind, axes):
    x = normal(3, 5, 7)
    function = {"mul": np.prod}.get(kind) or getattr(np, kind)
    want = function(x.astype("d"), axis=axes, keepdims=True)
    out = np.zeros(want.shape, "f")
    arrays.execute(reduction(kind, arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    close(out, want)


def test_reduction_to_a_norm(arrays):
    x, out = normal(3, 5), np.zeros((3, 1), "f")
    p = reduction("norm_lp_sum", arrays.desc(x), arrays.desc(out), 2.0, 0.25)
    arrays.execute(p, {ARG.SRC: x, ARG.DST: out})
    close(out, np.sqrt((x.astype("d") ** 2).sum(1, keepdims=True) + 0.25))


def test_sum_of_several_sources_of_other_layouts(arrays):
    xs = [normal(2, 3, 4), arrays.last(normal(2, 3, 4)), normal(2, 3, 4)]
    out = np.zeros((2, 3, 4), "f")
    p = sum_all((1.0, -2.0, 0.5), [arrays.desc(x) for x in xs], arrays.desc(out))
    arrays.execute(p, {ARG.multiple_src(i): x for i, x in enumerate(xs)} | {ARG.DST: out})
    close(out, xs[0] - 2 * xs[1] + 0.5 * xs[2])


def test_unfit_arguments_are_refused():
    a, b = MemDesc((2, 3), "float32"), MemDesc((2, 4), "float32")
    for attempt in (
        lambda: reorder(a, b),
        lambda: reorder(a, MemDesc.any((2, 3), "float32")),
        lambda: eltwise_forward("relu", a, b),
        lambda: eltwise_backward("relu", a, a, b),
        lambda: binary("add", a, b, a),
        lambda: reduction("sum", a, b),
        lambda: sum_all((1.0, 1.0), (a, b), a),
        lambda: softmax_forward(a, a, 2),
        lambda: softmax_forward(a, a, -1),
        lambda: softmax_backward(a, a, a, 5),
    ):
        with pytest.raises(EngineError):
            attempt()
    for attempt in (
        lambda: eltwise_forward("rellu", a, a),
        lambda: eltwise_backward("rellu", a, a, a),
        lambda: binary("plus", a, a, a),
        lambda: reduction("total", a, a),
        lambda: sum_all((), (), a),
        lambda: sum_all((1.0,), (a, a), a),
    ):
        with pytest.raises(ArgumentError):
            attempt()
