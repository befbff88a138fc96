import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import noria.ops.slicing as slicing
from noria.core.dims import dim_max, evaluate, symbol
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, M = symbol("N"), symbol("M")
ROWS = {0: {0: "N"}}


def attrs_of(*cuts):
    """Attributes for cuts (axis, start, stop, step)."""
    axes, starts, stops, steps = zip(*cuts, strict=True) if cuts else ((),) * 4
    return {"axes": axes, "starts": starts, "stops": stops, "steps": steps}


def places(size, start, stop, step):
    return list(range(size))[start:stop:step]


def picked(*cuts):
    """x at the places each cut takes, by lists of positions."""

    def apply(x):
        for axis, *bounds in cuts:
            x = np.take(x, np.array(places(x.shape[axis], *bounds), int), axis)
        return x

    return apply


def cut(x, *cuts, symbolic=None, **more):
    return Case("slice", [x], attrs_of(*cuts), expect=picked(*cuts), symbolic=symbolic, **more)


def filled(shape, *cuts):
    """Zeros of `shape`, written one element after the other where the cuts point."""

    def apply(x):
        out = np.zeros(shape, x.dtype)
        bounds = {axis: (a, b, c) for axis, a, b, c in cuts}
        lists = [places(n, *bounds.get(i, (None, None, 1))) for i, n in enumerate(shape)]
        for here, there in zip(np.ndindex(*x.shape), itertools.product(*lists), strict=True):
            out[there] = x[here]
        return out

    return apply


def fill(x, shape, *cuts, symbolic=None, declared=None, **more):
    attrs = {"shape": declared or shape, **attrs_of(*cuts)}
    return Case("unslice", [x], attrs, expect=filled(shape, *cuts), symbolic=symbolic, **more)


def source(i, n, mode):
    """Where position i of a border comes from."""
    if mode == "edge":
        return min(max(i, 0), n - 1)
    return -i if i < 0 else 2 * (n - 1) - i if i >= n else i


def padded(pads, mode="constant", value=0.0):
    def apply(x):
        shape = [b + n + a for n, (b, a) in zip(x.shape, pads, strict=True)]
        out = np.full(shape, value, x.dtype)
        for i in np.ndindex(*shape):
            at = [j - b for j, (b, _) in zip(i, pads, strict=True)]
            inside = all(0 <= j < n for j, n in zip(at, x.shape, strict=True))
            if inside or mode != "constant":
                out[i] = x[tuple(source(j, n, mode) for j, n in zip(at, x.shape, strict=True))]
        return out

    return apply


def unpadded(pads, mode="constant"):
    def apply(x):
        shape = [n - b - a for n, (b, a) in zip(x.shape, pads, strict=True)]
        out = np.zeros(shape, np.float64)
        for i in np.ndindex(*x.shape):
            at = [j - b for j, (b, _) in zip(i, pads, strict=True)]
            inside = all(0 <= j < n for j, n in zip(at, shape, strict=True))
            if inside or mode != "constant":
                out[tuple(source(j, n, mode) for j, n in zip(at, shape, strict=True))] += x[i]
        return out

    return apply


def bordered(x, pads, symbolic=None, **attrs):
    expect = padded(pads, **attrs)
    return Case("pad", [x], {"pads": pads, **attrs}, expect=expect, symbolic=symbolic)


def stripped(x, pads, symbolic=None, **attrs):
    expect = unpadded(pads, **attrs)
    return Case("unpad", [x], {"pads": pads, **attrs}, expect=expect, symbolic=symbolic)


def moved(shift, axis):
    """Element by element, one axis after the other."""

    def apply(x):
        for s, a in zip(shift, axis, strict=True):
            slices = list(np.moveaxis(x, a, 0))
            n = len(slices)
            x = np.moveaxis(np.array([slices[(i - s) % n] for i in range(n)]), 0, a)
        return x

    return apply


CASES = [
    cut(arr(5, 4), (0, 1, 4, 1), symbolic=ROWS, grad2=True),
    cut(arr(5, 4), (0, None, -1, 1), (1, -3, None, 2), symbolic=ROWS),
    cut(arr(5, 7), (1, None, None, -2), symbolic=ROWS),
    cut(arr(2, 9), (-1, 7, 1, -3), symbolic={0: {1: "T"}}),
    cut(arr(5), (0, -100, 100, 1), symbolic=ROWS),
    cut(arr(5), (0, 4, 2, 1), symbolic=ROWS),
    cut(arr(5, 3), symbolic=ROWS),
    cut(arr(0, 3), (0, 1, None, 1), (1, 0, 2, 1)),
    cut(ints(6), (0, None, None, -1)),
    cut(arr(6, dtype="bfloat16"), (0, 1, None, 2)),
    Case(
        "slice",
        [arr(5, 4)],
        {"axes": (1,), "starts": (1,), "stops": (3,)},
        expect=lambda x: x[:, 1:3],
    ),
    Case(
        "slice",
        [arr(5)],
        {"axes": (0,), "starts": (0,), "stops": (N // 2,)},
        expect=lambda x: x[:2],
        symbolic=ROWS,
    ),
    fill(arr(3, 4), (5, 4), (0, 1, 4, 1), grad2=True),
    fill(arr(4, 2), (5, 4), (0, None, -1, 1), (1, -3, None, 2), declared=(N + 1, 4), symbolic=ROWS),
    fill(arr(2, 4), (2, 7), (1, None, None, -2), symbolic=ROWS, declared=(N, 7)),
    fill(arr(0, 3), (2, 3), (0, 5, None, 1)),
    fill(ints(2), (4,), (0, 1, None, 2)),
    bordered(arr(3, 4), ((1, 2), (0, 3)), ROWS),
    bordered(arr(3, 4), ((0, 0), (2, 1)), ROWS, value=-1.5),
    bordered(ints(3), ((1, 1),), value=7),
    bordered(arr(3, dtype="bfloat16"), ((1, 1),), value=0.5),
    bordered(arr(), ()),
    bordered(arr(0, 2), ((1, 0), (0, 1))),
    bordered(arr(4, 3), ((3, 1), (0, 2)), ROWS, mode="reflect"),
    bordered(arr(2, 3, 4), ((0, 0), (2, 2), (0, 3)), ROWS, mode="reflect"),
    bordered(arr(3, 2), ((2, 4), (0, 1)), ROWS, mode="edge"),
    bordered(arr(1), ((3, 0),), mode="edge"),
    bordered(arr(0, 2), ((0, 0), (1, 1)), mode="edge"),
    stripped(arr(6, 4), ((1, 2), (0, 3)), {0: {0: "N+3"}}),
    stripped(arr(8, 5), ((3, 1), (0, 2)), {0: {0: "N+4"}}, mode="reflect"),
    stripped(arr(9, 3), ((2, 4), (0, 1)), {0: {0: "N+6"}}, mode="edge"),
    stripped(arr(300, dtype="float16", low=0.9, high=1.1), ((299, 0),), mode="edge"),
    stripped(arr(0, 4), ((0, 0), (1, 1)), mode="edge"),
    stripped(arr(), ()),
    Case(
        "roll",
        [arr(5, 3)],
        {"shift": 2, "axis": 0},
        expect=moved([2], [0]),
        symbolic=ROWS,
        grad2=True,
    ),
    Case(
        "roll",
        [arr(5, 3)],
        {"shift": (-1, 7), "axis": (0, -1)},
        expect=moved([-1, 7], [0, 1]),
        symbolic=ROWS,
    ),
    Case(
        "roll", [arr(2, 3)], {"shift": 1}, expect=lambda x: moved([1], [0])(x.ravel()).reshape(2, 3)
    ),
    Case("roll", [ints(4)], {"shift": -9, "axis": 0}, expect=moved([-9], [0])),
    Case("roll", [arr(0, 2)], {"shift": 1, "axis": 0}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(slicing).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


@pytest.mark.parametrize("axis", [None, 0, (0, -1)])
def test_flip_turns_the_order_round(axis):
    case = Case("flip", [arr(3, 4)], expect=lambda x: np.flip(x, axis), symbolic=ROWS)
    check_case(case, lambda x: slicing.flip(x, axis=axis))


# ---- sizes of slices ---------------------------------------------------------------------------

position = st.none() | st.integers(-9, 9)
step = st.integers(-4, 4).filter(bool)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 8), position, position, step)
def test_the_size_of_a_slice_of_a_symbol_is_that_of_python(n, start, stop, by):
    size = slicing.sliced_size(N, start, stop, by)
    assert evaluate(size, {"N": n}) == len(range(n)[start:stop:by])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 8), st.integers(0, 9), st.integers(0, 9), step)
def test_positions_may_be_symbols_too(n, a, b, by):
    start, stop = symbol("A"), symbol("B")
    bound = {"N": n, "A": a, "B": b}
    want = len(range(n)[a:b:by])
    for size, first, last in ((N, start, stop), (n, start, stop), (N, a, stop), (n, start, b)):
        assert evaluate(slicing.sliced_size(size, first, last, by), bound) == want


def test_common_slices_have_readable_sizes():
    sizes = {(None, None, 1): "N", (1, None, 1): "max(N-1, 0)", (None, -1, 1): "max(N-1, 0)"}
    sizes |= {(None, None, 2): "(N+1)//2", (-3, None, 1): "min(N, 3)", (None, None, -1): "N"}
    for bounds, text in sizes.items():
        assert str(slicing.sliced_size(N, *bounds)) == text


def test_a_symbolic_position_that_could_be_negative_is_refused():
    with Builder(Program()) as builder:
        x = builder.input("x", (N, 3))
        with pytest.raises(ArgumentError, match="dim_max"):
            slicing.slice(x, axes=(0,), starts=(N - 2,), stops=(None,))
        good = slicing.slice(x, axes=(0,), starts=(dim_max(N - 2, 0),), stops=(None,))
    assert evaluate(good.shape[0], {"N": 5}) == 2
    assert evaluate(good.shape[0], {"N": 1}) == 1


def test_bad_slices_are_refused():
    x = np.ones((4, 3))
    for bad in (
        {"axes": (0,), "starts": (0, 1), "stops": (2,)},
        {"axes": (0,), "starts": (0,), "stops": (2,), "steps": (0,)},
        {"axes": (0, 0), "starts": (0, 0), "stops": (2, 2)},
        {"axes": (2,), "starts": (0,), "stops": (2,)},
        {"axes": (0,), "starts": (0.5,), "stops": (2,)},
        {"axes": 0, "starts": 0, "stops": 2},
    ):
        with pytest.raises(ArgumentError):
            slicing.slice(x, **bad)


def test_unslice_refuses_what_is_not_the_shape_of_the_slice():
    where = {"shape": (5, 3), "axes": (0,), "starts": (1,), "stops": (3,)}
    for shape in ((3, 3), (2, 2), (2,)):
        with pytest.raises(ShapeError):
            slicing.unslice(np.ones(shape), **where)


# ---- borders -----------------------------------------------------------------------------------


def test_a_border_that_cannot_be_copied_is_refused_when_the_program_is_built():
    for x, attrs in (
        (np.ones(3), {"pads": ((3, 0),), "mode": "reflect"}),
        (np.ones(0), {"pads": ((1, 0),), "mode": "edge"}),
    ):
        with pytest.raises(ShapeError, match="too small"):
            slicing.pad(x, **attrs)


def test_or_when_it_is_run_if_the_size_is_symbolic():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (N,))
        program.outputs = {"out": slicing.pad(x, pads=((3, 0),), mode="reflect")}
    with pytest.raises(ShapeError, match="too small"):
        run_program(program, {"x": np.ones(3, np.float32)}, {})


def test_bad_pads_are_refused():
    x = np.ones((2, 3))
    for bad in (((1, 1),), ((1, 1), (1,)), (1, 1), 1):
        with pytest.raises((ArgumentError, ShapeError)):
            slicing.pad(x, pads=bad)
    with pytest.raises(ShapeError, match="negative"):
        slicing.pad(x, pads=((-1, 0), (0, 0)))
    with pytest.raises(ArgumentError, match="mode"):
        slicing.pad(x, pads=((1, 0), (0, 0)), mode="wrap")
    with pytest.raises(ArgumentError, match="mode"):
        slicing.unpad(x, pads=((1, 0), (0, 0)), mode="wrap")
    with pytest.raises(ArgumentError, match="cannot hold"):
        slicing.pad(np.ones(2, np.int8), pads=((1, 0),), value=0.5)
    with pytest.raises(ShapeError):
        slicing.unpad(x, pads=((2, 1), (0, 0)))


def test_pads_may_be_symbolic():
    with Builder(Program()) as builder:
        x = builder.input("x", (N, 3))
        assert slicing.pad(x, pads=[[M, 1], [0, 0]]).shape == (M + N + 1, 3)


def test_bad_shifts_are_refused():
    x = np.ones((2, 3))
    for shift, axis in ((1.5, 0), ((1, 2), 0), ((1, 2), None), (1, 2)):
        with pytest.raises(ArgumentError):
            slicing.roll(x, shift=shift, axis=axis)
