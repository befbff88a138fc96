import math

import numpy as np
import pytest

import noria.ops.order as order
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, K = symbol("N"), symbol("K")
ROWS = {0: {0: "N"}}
NAN, INF = math.nan, math.inf
TIES = ints(4, 9, high=3)
ODD = np.array([[1.0, NAN, -INF, 1, INF, -0.0, NAN, 0]])


def along(fn, axis):
    """fn(list) -> number or list, for each list along the axis."""
    return lambda x: np.apply_along_axis(lambda v: np.array(fn(v.tolist())), axis, x)


def first(choose):
    return lambda v: v.index(choose(v))


def key(v):
    return (math.isnan(v), 0 if math.isnan(v) else v)


def ranked(v, descending=False):
    """Positions in order; sorted() keeps equal ones as they are, also when it is reversed."""
    return sorted(range(len(v)), key=lambda i: key(v[i]), reverse=descending)


def descending(v):
    return ranked(v, True)


def best(k, axis, largest=True):
    def apply(x):
        where = along(lambda v: ranked(v, largest)[:k], axis)(x).astype(int)
        return np.take_along_axis(x, where, axis), where

    return apply


def extremes(name, choose):
    return [
        Case(name, [arr(3, 5)], {"axis": 1}, expect=along(first(choose), 1), symbolic=ROWS),
        Case(
            name,
            [TIES],
            {"axis": 0, "keepdims": True},
            expect=lambda x: along(first(choose), 0)(x)[None],
            symbolic=ROWS,
        ),
        Case(name, [TIES], {"axis": -1}, expect=along(first(choose), 1)),
        Case(name, [arr(3, 5)], expect=lambda x: first(choose)(x.ravel().tolist()), symbolic=ROWS),
        Case(
            name,
            [arr(3, 5)],
            {"keepdims": True},
            expect=lambda x: np.array([[first(choose)(x.ravel().tolist())]]),
        ),
        Case(name, [arr(3, 5, dtype="bfloat16")], {"axis": 0}, expect=along(first(choose), 0)),
        Case(name, [ints(6, high=2, dtype="bool")], expect=along(first(choose), 0)),
        Case(name, [arr()], expect=lambda _: 0),
        Case(name, [arr(0, 3)], {"axis": 1}),
    ]


def top(x, k, axis=-1, largest=True, symbolic=None, **more):
    attrs = {"k": k, "axis": axis, "largest": largest}
    return Case("topk", [x], attrs, expect=best(k, axis, largest), symbolic=symbolic, **more)


def once(which, *, by_order=True):
    """Part `which` of what `unique` gives for a list, by a dictionary."""

    def apply(x):
        seen = {}
        for i, v in enumerate(x.ravel().tolist()):
            seen.setdefault(v, []).append(i)
        keys = sorted(seen) if by_order else list(seen)
        place = {v: i for i, v in enumerate(keys)}
        parts = (
            keys,
            [seen[v][0] for v in keys],
            [place[v] for v in x.ravel().tolist()],
            [len(seen[v]) for v in keys],
        )
        return np.array(parts[which])

    return apply


def every(**how):
    return lambda x: tuple(once(i, **how)(x) for i in range(4))


def unique_columns(x):
    columns = sorted({tuple(c) for c in x.T.tolist()})
    told = [tuple(c) for c in x.T.tolist()]
    inverse = [columns.index(c) for c in told]
    return (
        np.array(columns).T,
        np.array([told.index(c) for c in columns]),
        np.array(inverse),
        np.array([told.count(c) for c in columns]),
    )


CASES = [
    Case("unique", [ints(3, 5, high=6)], {"size": "K"}, expect=every(), jax=False),
    Case(
        "unique",
        [ints(9, high=6)],
        {"size": "K", "sorted": False},
        expect=every(by_order=False),
        jax=False,
    ),
    Case(
        "unique", [ints(2, 8, high=2)], {"size": "K", "axis": -1}, expect=unique_columns, jax=False
    ),
    Case("unique", [np.array([2.0, 1.0, 4.0, 3.0])], {"size": "K"}, expect=every(), jax=False),
    Case("unique", [ints(0)], {"size": "K"}, jax=False),
    *extremes("argmax", max),
    *extremes("argmin", min),
    Case("argsort", [arr(3, 5)], expect=along(ranked, 1), symbolic=ROWS),
    Case("argsort", [TIES], {"axis": 0}, expect=along(ranked, 0), symbolic=ROWS),
    Case("argsort", [TIES], {"descending": True}, expect=along(descending, 1), symbolic=ROWS),
    Case("argsort", [ODD], expect=along(ranked, 1)),
    Case("argsort", [ODD], {"descending": True}, expect=along(descending, 1)),
    Case("argsort", [ints(8, dtype="uint8")], {"descending": True}, expect=along(descending, 0)),
    Case("argsort", [arr(8, dtype="bfloat16")], expect=along(ranked, 0)),
    Case("argsort", [arr(2, 0)]),
    top(arr(3, 7, distinct=True), 3, symbolic=ROWS, grad2=True),
    top(arr(7, 3, distinct=True), 2, axis=0, largest=False, symbolic=ROWS),
    top(arr(2, 7, 3, distinct=True), 7, axis=1),
    top(TIES, 5),
    top(TIES, 5, largest=False),
    top(ODD, 6, grad=False),  # not finite
    top(arr(9, dtype="bfloat16"), 4, grad=False),  # ties, which make kinks
    Case(
        "topk",
        [arr(3, 4, distinct=True)],
        {"k": N, "sorted": True},
        expect=best(3, 1),
        symbolic=ROWS,
    ),
    Case("topk", [arr(3, 4)], {"k": 0}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(order).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


@pytest.mark.parametrize("turned", [False, True])
def test_sort_puts_numbers_in_order_and_has_a_gradient(turned):
    case = Case(
        "sort",
        [arr(5, 3, distinct=True)],
        expect=along(lambda v: sorted(v, reverse=turned), 0),
        symbolic=ROWS,
    )
    check_case(case, lambda x: order.sort(x, axis=0, descending=turned))


def test_nan_is_found_by_both_extremes():
    x = np.array([1.0, NAN, 5.0])
    assert order.argmax(x) == 1
    assert order.argmin(x) == 1


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_nothing_has_no_extreme(name):
    for shape, axis in (((0, 3), 0), ((2, 0), None)):
        with pytest.raises(ShapeError, match="nothing"):
            getattr(order, name)(np.ones(shape), axis=axis)
    program = Program()
    with Builder(program) as builder:
        program.outputs = {"out": getattr(order, name)(builder.input("x", (N,)))}
    with pytest.raises(ShapeError, match="nothing"):
        run_program(program, {"x": np.ones(0, np.float32)}, {})


@pytest.mark.parametrize("k", [4, -1, 1.5, True])
def test_a_number_to_choose_that_does_not_fit_is_refused(k):
    with pytest.raises(ArgumentError, match="bad number"):
        order.topk(np.ones((2, 3)), k=k)


def test_or_found_when_the_program_is_run():
    program = Program()
    with Builder(program) as builder:
        values, _ = order.topk(builder.input("x", (N,)), k=3)
        program.outputs = {"out": values}
    with pytest.raises(ArgumentError, match="bad number"):
        run_program(program, {"x": np.ones(2, np.float32)}, {})


def test_one_axis_at_a_time():
    for call in (order.argmax, order.argsort):
        with pytest.raises(ArgumentError):
            call(np.ones((2, 3)), axis=(0, 1))
        with pytest.raises(ArgumentError, match="out of range"):
            call(np.ones((2, 3)), axis=2)
