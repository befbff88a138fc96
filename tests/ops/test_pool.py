import math

import numpy as np
import pytest

import noria.ops.pool as pool
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef, lookup
from noria.ir.program import Program
from noria.ops.window import slide
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}}


def windows_of(sizes, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    kernel = (kernel,) * len(sizes) if isinstance(kernel, int) else kernel
    return slide(sizes, kernel, stride or kernel, padding, dilation, ceil_mode)


def seen(window, w):
    """Positions a window sees, in row-major order, padding included."""
    axes = zip(window, w.stride, w.kernel, w.dilation, w.pads, strict=True)
    ranges = [[i * s - p[0] + k * d for k in range(n)] for i, s, n, d, p in axes]
    return np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(window)).tolist()


def inside(at, sizes):
    return all(0 <= a < n for a, n in zip(at, sizes, strict=True))


def largest(how):
    def apply(x):
        w = windows_of(x.shape[2:], **how)
        out = np.zeros((*x.shape[:2], *w.out), x.dtype)
        for i in np.ndindex(out.shape):
            kept = [x[(*i[:2], *at)] for at in seen(i[2:], w) if inside(at, x.shape[2:])]
            out[i] = max(kept)
        return out

    return apply


def winners(x, out, how):
    """(place in out, place in x of the first that is the largest)."""
    w = windows_of(x.shape[2:], **how)
    for i in np.ndindex(out.shape):
        places = [(*i[:2], *at) for at in seen(i[2:], w) if inside(at, x.shape[2:])]
        yield i, max(places, key=lambda at: x[at])  # max keeps the first of equals


def to_winners(how):
    def apply(x, out, grad):
        total = np.zeros(x.shape)
        for i, at in winners(x, out, how):
            total[at] += grad[i]
        return total

    return apply


def of_winners(how):
    def apply(x, out, values):
        picked = np.zeros(out.shape)
        for i, at in winners(x, out, how):
            picked[i] = values[at]
        return picked

    return apply


def shares(sizes, how):
    """(window, places it sees in x, what it divides by)."""
    include = how.get("count_include_pad", True)
    w = windows_of(sizes, **{k: v for k, v in how.items() if k != "count_include_pad"})
    for i in np.ndindex(w.out):
        kept = [tuple(at) for at in seen(i, w) if inside(at, sizes)]
        padded = [(-f, n + b) for n, (f, b) in zip(sizes, w.pads, strict=True)]
        counted = [
            at
            for at in seen(i, w)
            if all(low <= a < high for a, (low, high) in zip(at, padded, strict=True))
        ]
        yield i, kept, len(counted) if include else len(kept)


def mean(how):
    def apply(x):
        found = list(shares(x.shape[2:], how))
        counts = [1 + n for n in found[-1][0]]
        out = np.zeros((*x.shape[:2], *counts))
        for i, kept, count in found:
            for at in kept:
                out[(..., *i)] += x[(..., *at)].astype(np.float64) / count
        return out

    return apply


def to_means(sizes, how):
    def apply(grad):
        total = np.zeros((*grad.shape[:2], *sizes))
        for i, kept, count in shares(sizes, how):
            for at in kept:
                total[(..., *at)] += grad[(..., *i)].astype(np.float64) / count
        return total

    return apply


def max_cases(n, x, how, symbolic=None, **more):
    w = windows_of(x[2:], **how)
    out = (*x[:2], *w.out)
    values = np.random.default_rng(1).permutation(math.prod(x)).reshape(x).astype(np.float32)
    best = largest(how)(values) if math.prod(x) else np.zeros(out, np.float32)
    return [
        Case(
            f"max_pool{n}d",
            [arr(*x, distinct=True)],
            how,
            expect=largest(how),
            symbolic=symbolic,
            grad2=True,
            **more,
        ),
        # linear in the last input, and constant where x and out stay what they are to each other
        Case(
            f"max_pool{n}d_grad",
            [values, best, arr(*out)],
            how,
            expect=to_winners(how),
            grad=[2],
            grad2=True,
            **more,
        ),
        Case(
            f"max_pool{n}d_pick",
            [values, best, arr(*x)],
            how,
            expect=of_winners(how),
            grad=[2],
            grad2=True,
            **more,
        ),
    ]


def avg_cases(n, x, how, symbolic=None, **more):
    plain = {k: v for k, v in how.items() if k != "count_include_pad"}
    out = (*x[:2], *windows_of(x[2:], **plain).out)
    return [
        Case(
            f"avg_pool{n}d",
            [arr(*x)],
            how,
            expect=mean(how),
            symbolic=symbolic,
            grad2=True,
            **more,
        ),
        Case(
            f"avg_pool{n}d_grad",
            [arr(*out)],
            how | {"sizes": x[2:]},
            expect=to_means(x[2:], how),
            symbolic=symbolic and {0: {0: "N"}},
            grad2=True,
            **more,
        ),
    ]


TIES = np.array([[[1, 1, 0, 2], [1, 1, 2, 2], [3, 0, 0, 0]]], np.float32)[None]
OUTSIDE = {"padding": (1, 0, 1, 1), "stride": 2}
CASES = [
    *max_cases(2, (2, 3, 6, 4), {"kernel": 2}, symbolic=ROWS),
    *max_cases(2, (2, 2, 7, 6), {"kernel": 3, "stride": 2, "padding": 1}, symbolic={0: {2: "H"}}),
    *max_cases(2, (1, 2, 5, 6), {"kernel": (3, 2), "stride": (1, 2), "dilation": (2, 1)}),
    *max_cases(2, (1, 1, 6, 5), {"kernel": 3, "stride": 2, "ceil_mode": True}, id="ceil"),
    *max_cases(2, (1, 1, 5, 6), {"kernel": (2, 3), **OUTSIDE}, id="four pads"),
    *max_cases(2, (1, 1, 5, 4), {"kernel": 3, "stride": 2, "padding": "same"}),
    *max_cases(1, (2, 3, 7), {"kernel": 3, "padding": 1}, symbolic=ROWS),
    *max_cases(3, (1, 2, 4, 5, 3), {"kernel": 2, "stride": (2, 1, 1)}, symbolic=ROWS),
    Case("max_pool2d", [arr(0, 2, 4, 4)], {"kernel": 2}),
    Case("max_pool2d", [ints(2, 1, 5, 5, low=-9)], {"kernel": 3, "padding": 1}),
    Case(
        "max_pool2d",
        [ints(1, 1, 4, 4, dtype="uint8")],
        {"kernel": 2, "stride": 1},
        expect=largest({"kernel": 2, "stride": 1}),
    ),
    Case(
        "max_pool2d",
        [arr(1, 1, 6, 4, dtype="bfloat16", distinct=True)],
        {"kernel": 2},
        expect=largest({"kernel": 2}),
        grad=False,  # bfloat16 numbers tie, and others are then the first
    ),
    Case("max_pool2d", [TIES], {"kernel": 2, "stride": 1}, grad=False, id="ties"),  # kinks
    Case(
        "max_pool2d_pick",
        [np.eye(4, dtype=np.uint8)[None, None], np.ones((1, 1, 2, 2), np.uint8), ints(1, 1, 4, 4)],
        {"kernel": 3, "stride": 1},
        grad=False,
        id="integers",
    ),
    Case(
        "max_pool2d_grad",
        [TIES, largest({"kernel": 2, "stride": 1})(TIES), arr(1, 1, 2, 3)],
        {"kernel": 2, "stride": 1},
        expect=to_winners({"kernel": 2, "stride": 1}),
        grad=[2],
        id="ties",
    ),
    *avg_cases(2, (2, 3, 6, 4), {"kernel": 2}, symbolic=ROWS),
    *avg_cases(2, (2, 2, 7, 6), {"kernel": 3, "stride": 2, "padding": 1}, symbolic=ROWS),
    *avg_cases(
        2, (1, 2, 7, 6), {"kernel": 3, "stride": 2, "padding": 1, "count_include_pad": False}
    ),
    *avg_cases(2, (1, 1, 6, 5), {"kernel": (2, 3), "stride": 3, "ceil_mode": True}, id="ceil"),
    *avg_cases(
        2,
        (1, 1, 6, 7),
        {"kernel": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        id="ceil and padding",
    ),
    *avg_cases(2, (1, 1, 5, 6), {"kernel": (2, 3), **OUTSIDE}, id="four pads"),
    *avg_cases(2, (1, 1, 5, 4), {"kernel": 3, "padding": "same", "count_include_pad": False}),
    *avg_cases(
        2,
        (1, 1, 8, 9),
        {"kernel": (2, 3), "dilation": (3, 2), "padding": 1, "stride": 2, "ceil_mode": True},
        id="dilation",
    ),
    *avg_cases(1, (2, 3, 7), {"kernel": 3, "stride": 2}, symbolic={0: {0: "N", 2: "T"}}),
    *avg_cases(3, (1, 2, 4, 5, 3), {"kernel": 2, "stride": (2, 1, 1)}, symbolic=ROWS),
    Case("avg_pool2d", [arr(0, 2, 4, 4)], {"kernel": 2}),
    Case(
        "avg_pool2d",
        [arr(2, 3, 4, 4)],
        {"kernel": 2, "divisor": 3},
        expect=lambda x: mean({"kernel": 2})(x) * 4 / 3,
        symbolic=ROWS,
        grad2=True,
    ),
    Case(
        "avg_pool2d", [arr(1, 1, 8, 8, dtype="float16")], {"kernel": 4}, expect=mean({"kernel": 4})
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(pool).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


def test_nan_is_the_largest_and_gets_the_gradient():
    x = np.array([[[1, np.nan, 3, 0]]], np.float32)
    out = pool.max_pool1d(x, kernel=2)
    assert np.isnan(out[0, 0, 0]) and out[0, 0, 1] == 3
    g = pool.max_pool1d_grad(x, out, np.ones_like(out), kernel=2)
    assert g.tolist() == [[[0, 1, 1, 0]]]


def test_padding_gets_no_gradient_even_beside_minus_infinity():
    x = np.full((1, 1, 3), -np.inf, np.float32)
    how = {"kernel": 3, "stride": 2, "padding": 1}
    out = pool.max_pool1d(x, **how)
    assert out.tolist() == [[[-np.inf, -np.inf]]]
    g = pool.max_pool1d_grad(x, out, np.array([[[5, 7]]], np.float32), **how)
    assert g.tolist() == [[[5, 7, 0]]]


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_gradients_of_gradients_reach_the_seed(name):
    """The gradient is linear in the seed, whose gradient is the pooling of the direction."""
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    program = Program()
    with Builder(program) as builder:
        value = builder.input("x", x.shape)
        seed = builder.input("seed", (1, 1, 2, 2))
        (g,) = gradients(lookup(name)(value, kernel=2), [value], [seed])
        (second,) = gradients(g, [seed], [value])
        program.outputs = {"second": second}
    out, _ = run_program(program, {"x": x, "seed": np.zeros((1, 1, 2, 2), np.float32)}, {})
    assert np.array_equal(out["second"], lookup(name)(x, kernel=2))


GLOBAL = [
    (pool.global_avg_pool, lambda x: x.mean((2, 3), keepdims=True)),
    (pool.global_max_pool, lambda x: x.max((2, 3), keepdims=True)),
]


@pytest.mark.parametrize(("fn", "expect"), GLOBAL)
def test_global_pools_see_everything(fn, expect):
    check_case(Case("global", [arr(2, 3, 4, 5, distinct=True)], expect=expect, symbolic=ROWS), fn)


@pytest.mark.parametrize(
    ("attrs", "error", "match"),
    [
        ({"kernel": 5}, ShapeError, "no window fits"),
        ({"kernel": 0}, ArgumentError, "kernel"),
        ({"kernel": (2, 2, 2)}, ArgumentError, "kernel"),
        ({"kernel": 2, "padding": 2}, ArgumentError, "see nothing"),
        ({"kernel": 2, "stride": 0}, ArgumentError, "stride"),
        ({}, ArgumentError, "kernel"),
    ],
)
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_bad_attributes_are_refused(name, attrs, error, match):
    with pytest.raises(error, match=match):
        lookup(name)(np.ones((1, 1, 4, 4)), **attrs)


def test_bad_inputs_are_refused():
    with pytest.raises(ShapeError, match="rank"):
        pool.max_pool2d(np.ones((1, 4, 4)), kernel=2)
    with pytest.raises(DTypeError, match="numbers"):
        pool.max_pool2d(np.ones((1, 1, 4, 4), bool), kernel=2)
    with pytest.raises(DTypeError, match="float"):
        pool.avg_pool2d(np.ones((1, 1, 4, 4), int), kernel=2)
    x = np.ones((1, 1, 4, 4))
    with pytest.raises(ShapeError, match="pooled"):
        pool.max_pool2d_grad(x, np.ones((1, 1, 3, 2)), np.ones((1, 1, 3, 2)), kernel=2)
    with pytest.raises(ShapeError, match="grad"):
        pool.avg_pool2d_grad(np.ones((1, 1, 3, 2)), sizes=(4, 4), kernel=2)


def test_a_divisor_is_positive():
    with pytest.raises(ArgumentError, match="divisor"):
        pool.avg_pool2d(np.ones((1, 1, 4, 4)), kernel=2, divisor=0)
