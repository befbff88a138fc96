import numpy as np
import pytest

import noria.ops.linalg as linalg
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

TX, TY = {"transpose_x": True}, {"transpose_y": True}
TXY = TX | TY


def product(*, transpose_x=False, transpose_y=False):
    """The sum written out, one number after the other."""

    def apply(x, y):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        vector_x, vector_y = x.ndim == 1, y.ndim == 1
        x = x[None] if vector_x else np.swapaxes(x, -1, -2) if transpose_x else x
        y = y[:, None] if vector_y else np.swapaxes(y, -1, -2) if transpose_y else y
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        x = np.broadcast_to(x, (*batch, *x.shape[-2:]))
        y = np.broadcast_to(y, (*batch, *y.shape[-2:]))
        out = (x[..., :, :, None] * y[..., None, :, :]).sum(-2)
        out = out[..., 0, :] if vector_x else out
        return out[..., 0] if vector_y else out

    return apply


def mm(x, y, attrs=None, symbolic=None, **more):
    attrs = attrs or {}
    return Case("matmul", [x, y], attrs, expect=product(**attrs), symbolic=symbolic, **more)


def affine(x, weight, bias=None):
    out = np.einsum("...i,oi->...o", x.astype(np.float64), weight.astype(np.float64))
    return out if bias is None else out + bias


CASES = [
    mm(arr(3, 4), arr(4, 5), symbolic={0: {0: "M"}}, grad2=True),
    mm(arr(4, 3), arr(4, 5), TX, symbolic={0: {1: "M"}}, grad2=True),
    mm(arr(3, 4), arr(5, 4), TY, symbolic={1: {0: "N"}}, grad2=True),
    mm(arr(4, 3), arr(5, 4), TXY, symbolic={0: {0: "K"}, 1: {1: "K"}}, grad2=True),
    mm(arr(2, 3, 4), arr(2, 4, 5), symbolic={0: {0: "B", 1: "M"}, 1: {0: "B"}}),
    mm(arr(2, 3, 4), arr(4, 5), symbolic={0: {0: "B"}}, grad2=True, id="flat"),
    mm(arr(2, 3, 4), arr(5, 4), TY, symbolic={0: {1: "T"}}, id="flat-ty"),
    mm(arr(2, 4, 3), arr(4, 5), TX, id="batch-tx"),
    mm(arr(3, 4), arr(2, 4, 5), id="batch in y"),
    mm(arr(2, 1, 3, 4), arr(3, 4, 2), symbolic={0: {0: "B"}}, grad2=True, id="broadcast"),
    mm(arr(1, 4, 3), arr(3, 5, 4), TXY, id="broadcast-txy"),
    mm(arr(4), arr(4), symbolic={0: {0: "K"}, 1: {0: "K"}}, grad2=True),
    mm(arr(4), arr(4, 5), grad2=True),
    mm(arr(4), arr(2, 5, 4), TY, id="row by batch"),
    mm(arr(3, 4), arr(4), symbolic={0: {0: "M"}}, grad2=True),
    mm(arr(2, 3, 4), arr(4), symbolic={0: {0: "B"}}, id="batch by column"),
    mm(arr(2, 4, 3), arr(4), TX, id="batch-tx by column"),
    mm(arr(0, 4), arr(4, 2), id="no rows"),
    mm(arr(3, 0), arr(0, 2), id="nothing to sum"),
    mm(arr(1, 1), arr(1, 1)),
    mm(arr(3, 4, dtype="float64"), arr(4, 2), id="f64-f32"),
    mm(arr(3, 40, dtype="bfloat16"), arr(40, 2, dtype="bfloat16")),
    mm(arr(3, 40, dtype="float16"), arr(40, 2, dtype="float16")),
    mm(ints(3, 4), ints(4, 2)),
    Case("linear", [arr(3, 4), arr(5, 4), arr(5)], expect=affine, symbolic={0: {0: "N"}}),
    Case("linear", [arr(3, 4), arr(5, 4)], expect=affine, grad2=True),
    Case("linear", [arr(3, 4), arr(5, 4), None], expect=affine, symbolic={0: {0: "N"}}),
    Case(
        "linear",
        [arr(2, 3, 4), arr(5, 4), arr(5)],
        expect=affine,
        symbolic={0: {0: "N", 1: "T"}},
        grad2=True,
        id="sequence",
    ),
    Case("linear", [arr(4), arr(5, 4), arr(5)], expect=affine, grad2=True, id="one"),
    Case("linear", [arr(0, 4), arr(5, 4), arr(5)], expect=affine, id="empty"),
    Case("linear", [arr(3, 7, dtype="bfloat16"), arr(2, 7, dtype="bfloat16")], expect=affine),
    Case("linear", [arr(3, 7, dtype="bfloat16"), arr(2, 7), arr(2)], expect=affine, id="mixed"),
    Case(
        "linear",
        [arr(3, 7, dtype="bfloat16"), arr(2, 7, dtype="bfloat16"), arr(2)],
        {"dtype": "float32"},
        expect=affine,
        id="wide",
        tol=1e-6,
    ),
    Case(
        "matmul",
        [arr(3, 7, dtype="bfloat16"), arr(7, 2, dtype="bfloat16")],
        {"dtype": "float32"},
        expect=product(),
        id="wide",
        tol=1e-6,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(linalg).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


COMPOSED = [
    (linalg.dot, Case("dot", [arr(4), arr(4)], expect=np.dot)),
    (linalg.bmm, Case("bmm", [arr(2, 3, 4), arr(2, 4, 5)], expect=product())),
    (
        linalg.outer,
        Case("outer", [arr(3), arr(4)], expect=np.multiply.outer, symbolic={0: {0: "M"}}),
    ),
]


@pytest.mark.parametrize(("fn", "case"), COMPOSED, ids=lambda p: getattr(p, "op", ""))
def test_composed(fn, case):
    check_case(case, fn)


def test_linear_decomposes_into_the_same_numbers():
    x, w, b = (np.random.default_rng(0).normal(size=s) for s in ((3, 4), (2, 4), (2,)))
    assert np.allclose(linalg.linear.decompose_fn(x, w, b), linalg.linear(x, w, b))


def test_a_long_sum_of_halves_is_accumulated_in_float32():
    ones = np.ones((1, 4096), np.float16)
    assert linalg.matmul(ones, ones, transpose_y=True) == 4096  # float16 stops counting at 2048
    assert linalg.linear(ones, ones) == 4096


@pytest.mark.parametrize(
    ("x", "y", "attrs", "error", "match"),
    [
        ((3, 4), (5, 2), {}, ShapeError, "inner sizes"),
        ((4,), (5, 2), {}, ShapeError, "inner sizes"),
        ((), (4, 2), {}, ShapeError, "at least one axis"),
        ((2, 3, 4), (3, 4, 5), {}, ShapeError, "broadcast"),
        ((4,), (4, 2), TX, ArgumentError, "vector"),
        ((4, 2), (2,), TY, ArgumentError, "vector"),
    ],
)
def test_products_that_do_not_fit_are_refused(x, y, attrs, error, match):
    with pytest.raises(error, match=match):
        linalg.matmul(np.ones(x), np.ones(y), **attrs)


def test_booleans_and_integers_are_refused_where_they_make_no_sense():
    with pytest.raises(DTypeError):
        linalg.matmul(np.ones((2, 2), bool), np.ones((2, 2), bool))
    with pytest.raises(DTypeError, match="float"):
        linalg.linear(np.ones((2, 2), int), np.ones((2, 2), int))


@pytest.mark.parametrize(
    "shapes", [((3, 4), (5, 3), (5,)), ((3, 4), (5, 4), (4,)), ((), (5, 4), (5,)), ((3, 4), (4,))]
)
def test_linear_names_the_sizes_that_differ(shapes):
    with pytest.raises(ShapeError):
        linalg.linear(*(np.ones(s) for s in shapes))


@pytest.mark.parametrize(
    ("fn", "shapes"),
    [
        (linalg.dot, ((2, 2), (2,))),
        (linalg.bmm, ((2, 2), (2, 2))),
        (linalg.bmm, ((1, 2, 2), (3, 2, 2))),
        (linalg.outer, ((2, 2), (2,))),
    ],
)
def test_named_products_check_ranks(fn, shapes):
    with pytest.raises(ShapeError):
        fn(*(np.ones(s) for s in shapes))


def test_gradients_of_a_dense_layer_are_flat_products_without_transposes():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (symbol("N"), symbol("T"), 4))
        w, b = builder.input("w", (5, 4)), builder.input("b", (5,))
        gw = gradients(linalg.linear(x, w, b), [w])[0]
        gm = gradients(linalg.matmul(x, w, transpose_y=True), [w])[0]
    kinds = [o.type for o in program.operators]
    assert gw.shape == gm.shape == (5, 4)
    assert "transpose" not in kinds and "sum_to" not in kinds
