import importlib

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr
from noria.testing.check import check_case

norm = importlib.import_module("noria.ops.norm")  # noria.ops.norm is also a function
ROWS = {0: {0: "N"}}


def layers(axes=-1, epsilon=1e-5):
    axes = axes if isinstance(axes, tuple) else (axes,)

    def apply(x, scale=None, bias=None):
        x = x.astype(np.float64)
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        out = (x - mean) / np.sqrt(var + epsilon)
        out = out if scale is None else out * scale
        return out if bias is None else out + bias, mean, 1 / np.sqrt(var + epsilon)

    return apply


def layer_grads(x, mean, inv_std, grad, scale=None):
    """Over the last axis, with the Jacobian of each row written out."""
    n = x.shape[-1]
    hat = (x - mean) * inv_std
    gx = np.zeros(x.shape)
    for i in np.ndindex(x.shape[:-1]):
        jacobian = inv_std[i] * (np.eye(n) - 1 / n - np.outer(hat[i], hat[i]) / n)
        gx[i] = jacobian @ (grad[i] * (1 if scale is None else scale))
    if scale is None:
        return gx
    rows = tuple(range(x.ndim - 1))
    return gx, (grad * hat).sum(rows), grad.sum(rows)


def groups(groups, epsilon=1e-5):
    def apply(x, scale=None, bias=None):
        out = np.zeros(x.shape)
        size = x.shape[1] // groups
        for n in range(x.shape[0]):
            for g in range(groups):
                part = x[n, g * size : (g + 1) * size].astype(np.float64)
                part = (part - part.mean()) / np.sqrt(part.var() + epsilon)
                out[n, g * size : (g + 1) * size] = part
        shape = (-1, *(1,) * (x.ndim - 2))
        out = out if scale is None else out * scale.reshape(shape)
        return out if bias is None else out + bias.reshape(shape)

    return apply


CASES = [
    Case("layer_norm", [arr(4, 5), arr(5), arr(5)], expect=layers(), symbolic=ROWS, grad2=True),
    Case("layer_norm", [arr(4, 5)], expect=layers(), grad2=True),
    Case("layer_norm", [arr(4, 5), None, arr(5)], expect=layers(), symbolic=ROWS),
    Case("layer_norm", [arr(4, 5), arr(5), None], expect=layers()),
    Case(
        "layer_norm",
        [arr(2, 3, 4, 5), arr(4, 5), arr(4, 5)],
        {"axes": (-2, -1), "epsilon": 0.1},
        expect=layers((-2, -1), 0.1),
        symbolic={0: {0: "N", 1: "T"}},
        grad2=True,
    ),
    Case("layer_norm", [arr(6), arr(6), arr(6)], expect=layers(), id="all"),
    Case("layer_norm", [arr(0, 5), arr(5), arr(5)], id="no rows"),
    Case("layer_norm", [arr(4, 0), arr(0), arr(0)], id="no columns"),
    Case("layer_norm", [arr(4, 1), arr(1), arr(1)], expect=layers(), id="one column"),
    Case("layer_norm", [arr(3, 16, dtype="bfloat16"), arr(16), arr(16)], expect=layers()),
    Case("layer_norm", [arr(3, 16, dtype="float16"), *[arr(16, dtype="float16")] * 2]),
    Case("layer_norm", [arr(3, 7, dtype="float64")], expect=layers()),
    Case(
        "layer_norm_grad",
        [arr(4, 5), arr(4, 1), arr(4, 1), arr(4, 5), arr(5)],
        expect=layer_grads,
        symbolic={i: {0: "N"} for i in range(4)},
        grad2=True,
    ),
    Case(
        "layer_norm_grad",
        [arr(2, 3, 5), arr(2, 3, 1), arr(2, 3, 1), arr(2, 3, 5)],
        expect=layer_grads,
        grad2=True,
    ),
    Case(
        "layer_norm_grad",
        [arr(2, 3, 4), arr(2, 1, 1), arr(2, 1, 1), arr(2, 3, 4), arr(3, 4)],
        {"axes": (1, 2)},
    ),
    Case("layer_norm_grad", [arr(0, 5), arr(0, 1), arr(0, 1), arr(0, 5), arr(5)]),
    Case(
        "group_norm",
        [arr(2, 6, 3, 2), arr(6), arr(6)],
        {"groups": 3},
        expect=groups(3),
        symbolic={0: {0: "N", 2: "H"}},
        grad2=True,
    ),
    Case("group_norm", [arr(3, 4)], {"groups": 2, "epsilon": 0.1}, expect=groups(2, 0.1)),
    Case("group_norm", [arr(2, 4, 5), None, arr(4)], {"groups": 1}, expect=groups(1)),
    Case("group_norm", [arr(2, 4, 5), arr(4)], {"groups": 4}, expect=groups(4), symbolic=ROWS),
    Case("group_norm", [arr(0, 4, 5), arr(4), arr(4)], {"groups": 2}),
    Case("group_norm", [arr(2, 4, 9, dtype="bfloat16"), arr(4)], {"groups": 2}, expect=groups(2)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(norm).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


def rms(x, scale=None):
    out = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6)
    return out if scale is None else out * scale


def unit(x):
    return x / np.sqrt((x.astype(np.float64) ** 2).sum(1, keepdims=True))


def responses(x, size=3, alpha=0.3, beta=0.6, k=2.0):
    out = np.zeros(x.shape)
    channels = x.shape[1]
    for c in range(channels):
        window = range(c - size // 2, c - size // 2 + size)
        m = sum(x[:, i].astype(np.float64) ** 2 for i in window if 0 <= i < channels) / size
        out[:, c] = x[:, c] / (k + alpha * m) ** beta
    return out


COMPOSED = {
    "instance_norm": (norm.instance_norm, [arr(2, 3, 4, 2), arr(3), arr(3)], groups(3)),
    "instance_norm plain": (norm.instance_norm, [arr(2, 3, 4)], groups(3)),
    "rms_norm": (norm.rms_norm, [arr(3, 5), arr(5)], rms),
    "rms_norm plain": (norm.rms_norm, [arr(3, 2, 5)], rms),
    "rms_norm half": (norm.rms_norm, [arr(3, 9, dtype="bfloat16")], rms),
    "l2_normalize": (lambda x: norm.l2_normalize(x, axis=1), [arr(3, 5)], unit),
    "local_response_norm": (
        lambda x: norm.local_response_norm(x, 3, alpha=0.3, beta=0.6, k=2.0),
        [arr(2, 5, 3, 2)],
        responses,
    ),
    "local_response_norm even": (
        lambda x: norm.local_response_norm(x, 4, alpha=0.3, beta=0.6, k=2.0),
        [arr(2, 5)],
        lambda x: responses(x, 4),
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed(name):
    fn, inputs, expect = COMPOSED[name]
    check_case(Case(name, inputs, expect=expect, symbolic=ROWS), fn)


def test_a_vector_of_zeros_is_normalised_to_zeros():
    assert norm.l2_normalize(np.zeros((2, 3), np.float32)).tolist() == [[0] * 3] * 2


def test_the_gradient_of_layer_norm_is_one_operator():
    program = Program()
    with Builder(program) as builder:
        x, s, b = (builder.input(n, d) for n, d in (("x", (4, 3)), ("s", (3,)), ("b", (3,))))
        gradients(norm.layer_norm(x, s, b)[0], [x, s, b])
    assert [op.type for op in program.operators] == ["layer_norm", "fill", "layer_norm_grad"]


@pytest.mark.parametrize("axes", [0, (0, 1), (0, 2), ()])
def test_only_the_last_axes_are_normalised(axes):
    with pytest.raises(ArgumentError, match="last ones"):
        norm.layer_norm(np.ones((2, 3, 4)), axes=axes)


def test_shapes_that_do_not_fit_are_refused():
    x = np.ones((2, 4, 3))
    with pytest.raises(ShapeError, match="scale"):
        norm.layer_norm(x, np.ones(4))
    with pytest.raises(ShapeError, match="bias"):
        norm.layer_norm(x, None, np.ones((4, 3)))
    with pytest.raises(ShapeError, match="inv_std"):
        norm.layer_norm_grad(x, np.ones((2, 4, 1)), np.ones((2, 4)), x)
    with pytest.raises(ShapeError, match="groups"):
        norm.group_norm(x, groups=3)
    with pytest.raises(ShapeError, match="scale"):
        norm.group_norm(x, np.ones(3), groups=2)
    with pytest.raises(ShapeError):
        norm.group_norm(np.ones(4), groups=2)
    with pytest.raises(ShapeError):
        norm.instance_norm(np.ones((2, 4)))
    with pytest.raises(ArgumentError, match="groups"):
        norm.group_norm(x, groups=0)
    with pytest.raises(DTypeError):
        norm.layer_norm(np.ones((2, 3), int))
