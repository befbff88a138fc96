import math

import numpy as np
import pytest

import noria.ops.reduce as reduce
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, M = symbol("N"), symbol("M")
ROWS = {0: {0: "N"}}
NAN, INF = math.nan, math.inf


def over(fn, dtype, axis=None, keepdims=False):
    """fn(list of numbers) for the numbers along the axes, one list at a time, in float64."""

    def apply(x):
        axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
        axes = sorted(a % x.ndim for a in axes)
        kept = [a for a in range(x.ndim) if a not in axes]
        shape = [x.shape[a] for a in kept]
        lists = x.astype(np.float64).transpose([*kept, *axes])
        lists = lists.reshape(math.prod(shape), math.prod(x.shape[a] for a in axes))
        out = np.array([fn(row.tolist()) for row in lists], dtype).reshape(shape)
        return np.expand_dims(out, tuple(axes)) if keepdims else out

    return apply


def reduction(name, fn, distinct=False, of_nothing=None, **more):
    """The usual cases of a reduction of floats. of_nothing: what it gives then, None: an error."""

    def case(x, symbolic=None, **attrs):
        expect = over(fn, float, attrs.get("axis"), attrs.get("keepdims", False))
        return Case(name, [x], attrs, expect=expect, symbolic=symbolic, **more)

    def empty(x, **attrs):  # what is not finite has no gradient to check
        expect = over(lambda _: of_nothing, float, **attrs)
        return Case(name, [x], attrs, expect=expect, grad=None if of_nothing in (0, 1) else False)

    def x(*shape, dtype="float32"):
        return arr(*shape, dtype=dtype, distinct=distinct)

    return [
        case(x(3, 5), ROWS),
        case(x(3, 5), ROWS, axis=0),
        case(x(3, 5), ROWS, axis=-1, keepdims=True),
        case(x(2, 3, 4), {0: {1: "T"}}, axis=(0, -1)),
        case(x(2, 3, 4), {0: {1: "T"}}, axis=(2, 1), keepdims=True),
        case(x(3, 4), axis=()),
        case(x(7, 1), axis=1),
        case(x(5), axis=0),
        case(x(3, 5, dtype="float16"), axis=1),
        case(x(3, 5, dtype="bfloat16"), axis=0),
        case(arr()),
        case(x(0, 3), axis=1),
        *([] if of_nothing is None else [empty(x(0, 3), axis=0), empty(x(2, 0), keepdims=True)]),
    ]


def log_of_sum(values):
    with np.errstate(divide="ignore"):
        return float(np.logaddexp.reduce(values))


def mean(values):
    return math.fsum(values) / len(values)


def running(fn, axis):
    """fn(list) -> list, along one axis."""
    return lambda x: np.apply_along_axis(lambda v: np.array(fn(v.tolist())), axis, x)


def sums(values):
    return [math.fsum(values[: i + 1]) for i in range(len(values))]


def products(v):
    return [math.prod(v[: i + 1]) for i in range(len(v))]


def before(v):
    return [math.prod(v[:i]) for i in range(len(v))]


def sums_before(values):
    return [math.fsum(values[:i]) for i in range(len(values))]


def reverse(fn):
    return lambda values: fn(values[::-1])[::-1]


INTS = ints(3, 5, low=-9, dtype="int32")
FLAGS = ints(3, 4, high=2, dtype="bool")

CASES = [
    *reduction("reduce_sum", math.fsum, of_nothing=0, grad2=True),
    Case("reduce_sum", [INTS], {"axis": 1}, expect=over(sum, int, 1)),
    Case("reduce_sum", [FLAGS], {"axis": 0}, expect=over(sum, int, 0)),
    Case("reduce_sum", [ints(300, low=200, high=256, dtype="uint8")], expect=over(sum, int)),
    *reduction("reduce_mean", mean, of_nothing=NAN, grad2=True),
    Case("reduce_mean", [INTS], {"axis": 1}, expect=over(mean, float, 1)),
    Case("reduce_mean", [FLAGS], expect=over(mean, float)),
    *reduction("reduce_max", max, distinct=True),
    Case("reduce_max", [INTS], {"axis": 1}, expect=over(max, int, 1)),
    Case("reduce_max", [FLAGS], {"axis": 1}, expect=over(max, bool, 1)),
    Case(
        "reduce_max",
        [np.array([[1, NAN], [-INF, -INF]])],
        {"axis": 1},
        expect=lambda _: np.array([NAN, -INF]),
        grad=False,
    ),  # not finite
    *reduction("reduce_min", min, distinct=True),
    Case("reduce_min", [INTS], {"axis": 1}, expect=over(min, int, 1)),
    Case("reduce_min", [ints(3, 2, dtype="uint8")], {"axis": 0}, expect=over(min, int, 0)),
    *reduction("reduce_prod", math.prod, of_nothing=1),
    Case(
        "reduce_prod",
        [np.array([[2.0, 0, 3], [0, 0, 5], [1, 2, 4]])],
        {"axis": 1},
        expect=over(math.prod, float, 1),
    ),
    Case(
        "reduce_prod",
        [ints(3, 4, low=-3, high=4, dtype="int8")],
        {"axis": 0},
        expect=over(math.prod, int, 0),
    ),
    *reduction("logsumexp", log_of_sum, of_nothing=-INF, grad2=True),
    Case(
        "logsumexp",
        [np.array([[-INF, -INF], [1000, 1001], [0, INF]])],
        {"axis": 1},
        expect=over(log_of_sum, float, 1),
        grad=False,
    ),  # not finite
    Case("reduce_all", [FLAGS], {"axis": 1}, expect=over(all, bool, 1), symbolic=ROWS),
    Case(
        "reduce_all", [ints(4, 3, high=2)], {"keepdims": True}, expect=over(all, bool, None, True)
    ),
    Case("reduce_all", [np.array([1.0, NAN])], expect=lambda _: np.True_),
    Case("reduce_all", [ints(2, 0, dtype="bool", high=2)], {"axis": 1}, expect=over(all, bool, 1)),
    Case("reduce_any", [FLAGS], {"axis": (0,)}, expect=over(any, bool, 0), symbolic=ROWS),
    Case(
        "reduce_any",
        [ints(4, 3, high=2)],
        {"axis": -1, "keepdims": True},
        expect=over(any, bool, 1, True),
    ),
    Case("reduce_any", [ints(2, 0, dtype="bool", high=2)], {"axis": 1}, expect=over(any, bool, 1)),
    Case("cumprod", [arr(3, 5)], {"axis": 1}, expect=running(products, 1), symbolic=ROWS),
    Case("cumprod", [arr(2, 4, 3)], {"axis": -2, "exclusive": True}, expect=running(before, 1)),
    Case(
        "cumprod",
        [np.array([[2.0, 0.0, 3.0, 4.0], [0.0, 1.0, 0.0, 5.0]])],
        {"axis": 1, "reverse": True},
        expect=running(reverse(products), 1),
    ),
    Case("cumprod", [ints(4, high=90, dtype="int8")], {"axis": 0}, expect=running(products, 0)),
    Case("cumprod", [arr(0, 3)], {"axis": 0, "exclusive": True}),
    Case(
        "cumprod_grad",
        [np.array([2.0, 0.0, 3.0]), np.array([1.0, 10.0, 100.0])],
        {"axis": 0},
        expect=lambda x, g: np.array([1.0, 620.0, 0.0]),
        grad=False,
    ),
    Case("cumsum", [arr(3, 5)], {"axis": 1}, expect=running(sums, 1), symbolic=ROWS, grad2=True),
    Case("cumsum", [arr(3, 5)], {"axis": 0}, expect=running(sums, 0), symbolic=ROWS),
    Case("cumsum", [arr(2, 4, 3)], {"axis": -2, "exclusive": True}, expect=running(sums_before, 1)),
    Case("cumsum", [arr(4, 2)], {"axis": 0, "reverse": True}, expect=running(reverse(sums), 0)),
    Case(
        "cumsum",
        [arr(4, 2)],
        {"axis": 0, "reverse": True, "exclusive": True},
        expect=running(reverse(sums_before), 0),
        symbolic=ROWS,
    ),
    Case("cumsum", [ints(4, low=100, high=128, dtype="int8")], {"axis": 0}, expect=np.cumsum),
    Case("cumsum", [FLAGS], {"axis": 1}, expect=running(sums, 1)),
    Case(
        "cumsum",
        [arr(200, dtype="bfloat16", low=0.9, high=1.1)],
        {"axis": 0},
        expect=lambda x: np.cumsum(x.astype(float)),
    ),
    Case("cumsum", [arr(0, 3)], {"axis": 0, "exclusive": True}),
    Case("cumsum", [arr(1, 3)], {"axis": 0, "exclusive": True}, expect=np.zeros_like),
    Case(
        "sum_to",
        [arr(3, 5)],
        {"shape": (5,)},
        expect=over(sum, float, 0),
        symbolic=ROWS,
        grad2=True,
    ),
    Case("sum_to", [arr(3, 5)], {"shape": (N, 1)}, expect=over(sum, float, 1, True), symbolic=ROWS),
    Case(
        "sum_to",
        [arr(2, 3, 4)],
        {"shape": (1, 4)},
        expect=lambda x: x.sum((0, 1))[None],
        symbolic=ROWS,
    ),
    Case("sum_to", [arr(3, 5)], {"shape": ()}, expect=over(sum, float)),
    Case("sum_to", [arr(2, 3, 1, 4)], {"shape": (3, 1, 4)}, expect=over(sum, float, 0)),
    Case(
        "sum_to",
        [arr(300, 2, dtype="float16", low=0.9, high=1.1)],
        {"shape": (2,)},
        expect=over(sum, float, 0),
    ),
    Case("sum_to", [ints(3, 2, dtype="int32")], {"shape": (1, 2)}, expect=over(sum, int, 0, True)),
    Case("sum_to", [arr(0, 3)], {"shape": (3,)}, expect=over(sum, float, 0)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(reduce).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


# ---- composed ----------------------------------------------------------------------------------


def composed(fn, name, expect, x, symbolic=None, **attrs):
    return (lambda v: fn(v, **attrs)), Case(name, [x], expect=expect, symbolic=symbolic)


COMPOSED = [
    composed(reduce.variance, "variance", lambda x: np.var(x, 0), arr(5, 3), ROWS, axis=0),
    composed(reduce.variance, "sample", lambda x: np.var(x, ddof=1), arr(5, 3), ROWS, correction=1),
    composed(reduce.variance, "ints", lambda x: np.var(x), ints(5, 3)),
    composed(
        reduce.variance,
        "half",
        lambda x: np.var(x.astype(float), 1),
        arr(3, 5, dtype="float16"),
        axis=1,
    ),
    composed(
        reduce.std,
        "std",
        lambda x: np.std(x, 1, keepdims=True),
        arr(5, 3),
        ROWS,
        axis=1,
        keepdims=True,
    ),
    composed(
        reduce.norm, "norm-1", lambda x: np.linalg.norm(x, 1, 0), arr(5, 3), ROWS, ord=1, axis=0
    ),
    composed(
        reduce.norm,
        "norm-2",
        lambda x: np.linalg.norm(x, 2, 1, keepdims=True),
        arr(5, 3),
        ROWS,
        axis=1,
        keepdims=True,
    ),
    composed(
        reduce.norm,
        "norm-all",
        lambda x: math.sqrt(math.fsum(v * v for v in x.flat)),
        arr(2, 3, 4),
        ROWS,
    ),
    composed(
        reduce.norm,
        "norm-inf",
        lambda x: np.linalg.norm(x, INF, 1),
        arr(3, 5, distinct=True),
        ROWS,
        ord=INF,
        axis=1,
    ),
]


@pytest.mark.parametrize(("fn", "case"), COMPOSED, ids=[c.op for _, c in COMPOSED])
def test_composed(fn, case):
    check_case(case, fn)


def gradient_of(fn, *arrays):
    """The gradients of the sum of fn(...)."""
    program = Program()
    with Builder(program) as builder:
        values = [builder.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
        found = gradients(fn(*values), values)
        program.outputs = {f"g{i}": g for i, g in enumerate(found)}
    out = run_program(program, {f"x{i}": a for i, a in enumerate(arrays)}, {})[0]
    return [out[f"g{i}"].tolist() for i in range(len(arrays))]


def test_the_gradient_of_a_norm_or_a_deviation_at_zero_is_zero():
    assert gradient_of(reduce.norm, np.zeros(3, np.float32)) == [[0, 0, 0]]
    assert gradient_of(reduce.std, np.ones(3, np.float32)) == [[0, 0, 0]]


def test_a_norm_of_large_halves_does_not_overflow():
    assert reduce.norm(np.full(4, 1000, np.float16)) == 2000


def test_norm_refuses_other_orders_and_integers():
    with pytest.raises(ArgumentError, match="1, 2 or inf"):
        reduce.norm(np.ones(2), ord=3)
    with pytest.raises(DTypeError):
        reduce.norm(np.ones(2, np.int64))


# ---- gradients ---------------------------------------------------------------------------------


def test_the_gradient_of_a_tie_is_shared_equally():
    x = np.array([[1, 3, 3], [2, 0, 1]], np.float32)
    assert gradient_of(lambda v: reduce.reduce_max(v, axis=1), x) == [[[0, 0.5, 0.5], [1, 0, 0]]]
    assert gradient_of(reduce.reduce_min, np.ones(4, np.float32)) == [[0.25] * 4]


def test_the_gradient_of_a_product_is_exact_at_zeros():
    x = np.array([[2, 0, 3], [0, 0, 5], [1, 2, 4]], np.float32)
    found = gradient_of(lambda v: reduce.reduce_prod(v, axis=1), x)
    assert found == [[[0, 6, 0], [0, 0, 0], [8, 4, 2]]]


def test_logsumexp_of_nothing_but_minus_infinity_has_gradient_zero():
    assert gradient_of(reduce.logsumexp, np.full(2, -INF, np.float32)) == [[0, 0]]


def test_the_gradient_of_a_mean_of_many_halves_is_not_lost():
    x = np.ones(70_000, np.float16)  # a count float16 cannot hold
    (g,) = gradient_of(reduce.reduce_mean, x)
    assert g[0] == pytest.approx(1 / 70_000, rel=0.01)


# ---- sum_to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "target"), [((2, 3), (2, 3)), ((N, 3), (N, 3)), ((N, 3), (M, 3)), ((), ())]
)
def test_sum_to_emits_nothing_where_nothing_is_to_be_summed(given, target):
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", given)
        assert reduce.sum_to(x, shape=target) is x
    assert program.operators == []


def test_a_literal_one_is_summed_to_even_from_a_symbol():
    with Builder(Program()) as builder:
        assert reduce.sum_to(builder.input("x", (N, 3)), shape=(1, 3)).shape == (1, 3)


def test_sum_to_refuses_a_shape_that_does_not_broadcast():
    with Builder(Program()) as builder, pytest.raises(ShapeError):
        reduce.sum_to(builder.input("x", (2, 3)), shape=(2, 4))
    for shape in ((4,), (2, 3, 1), (3, 2, 3), (5, 3)):
        with pytest.raises(ShapeError):
            reduce.sum_to(np.ones((2, 3)), shape=shape)
    with pytest.raises(ShapeError):
        reduce.sum_to(np.ones((1, 3)), shape=(2, 3))


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reduce_max", "reduce_min"])
def test_nothing_has_no_extreme(name):
    for shape, axis in (((0, 3), 0), ((2, 0), None), ((0, 0), 1)):
        with pytest.raises(ShapeError, match="nothing"):
            getattr(reduce, name)(np.ones(shape), axis=axis)


def test_nothing_has_no_extreme_when_a_symbolic_size_turns_out_to_be_zero():
    program = Program()
    with Builder(program) as builder:
        program.outputs = {"out": reduce.reduce_max(builder.input("x", (N,)))}
    with pytest.raises(ShapeError, match="nothing"):
        run_program(program, {"x": np.ones(0, np.float32)}, {})


def test_bad_axes_are_refused():
    for axis in (2, -3, (0, 0), (0, -2), 0.5, "0", True):
        with pytest.raises(ArgumentError):
            reduce.reduce_sum(np.ones((2, 3)), axis=axis)
    with pytest.raises(ArgumentError):
        reduce.cumsum(np.ones((2, 3)), axis=2)


def test_logsumexp_refuses_integers():
    with pytest.raises(DTypeError):
        reduce.logsumexp(np.ones(2, np.int64))


def test_lists_and_numpy_integers_are_good_axes():
    assert reduce.reduce_sum(np.ones((2, 3)), axis=[0, 1]) == 6
    assert reduce.reduce_sum(np.ones((2, 3)), axis=np.int64(1)).tolist() == [3, 3]
