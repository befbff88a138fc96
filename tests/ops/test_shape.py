import itertools

import numpy as np
import pytest

import noria.ops.shape as shape
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.core.shapes import Check
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef, collect_checks
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, M = symbol("N"), symbol("M")
ROWS = {0: {0: "N"}}


def placed(out_shape, source):
    """out[i] = x[source(i)], one element after the other."""

    def apply(x):
        size = out_shape(x.shape)
        out = np.zeros(size, x.dtype)
        for i in itertools.product(*map(range, size)):
            out[i] = x[source(i, x.shape)]
        return out

    return apply


def in_order(*sizes):
    """The numbers of x in row-major order, in another shape."""

    def apply(x):
        out = np.zeros(sizes, x.dtype)
        for i, number in zip(np.ndindex(*sizes), x.ravel().tolist(), strict=True):
            out[i] = number
        return out

    return apply


def permuted(*perm):
    def source(i, _):
        return tuple(i[perm.index(a)] for a in range(len(perm)))

    return placed(lambda s: [s[a] for a in perm], source)


def tiled(*repeats):
    def source(i, s):
        return tuple(a % n for a, n in zip(i, s, strict=True))

    return placed(lambda s: [r * n for r, n in zip(repeats, s, strict=True)], source)


def spread(*sizes):
    """Broadcasting, element by element."""

    def source(i, s):
        last = i[len(i) - len(s) :]
        return tuple(0 if n == 1 else a for a, n in zip(last, s, strict=True))

    return placed(lambda _: sizes, source)


CASES = [
    Case("reshape", [arr(3, 4)], {"shape": (2, 6)}, expect=in_order(2, 6), grad2=True),
    Case("reshape", [arr(3, 4)], {"shape": (N, 2, 2)}, expect=in_order(3, 2, 2), symbolic=ROWS),
    Case("reshape", [arr(3, 4)], {"shape": (-1, 2)}, expect=in_order(6, 2), symbolic=ROWS),
    Case("reshape", [arr(6)], {"shape": (2, -1)}, expect=in_order(2, 3)),
    Case("reshape", [arr(2, 3)], {"shape": -1}, expect=in_order(6), symbolic=ROWS),
    Case("reshape", [arr(1, 1)], {"shape": ()}, expect=in_order()),
    Case("reshape", [arr()], {"shape": (1, -1)}, expect=in_order(1, 1)),
    Case("reshape", [arr(0, 4)], {"shape": (3, 0)}),
    Case("reshape", [arr(0, 4)], {"shape": (-1, 2)}),
    Case("reshape", [ints(4)], {"shape": (2, 2)}, expect=in_order(2, 2)),
    Case("flatten", [arr(2, 3, 4)], expect=in_order(24), symbolic=ROWS),
    Case("flatten", [arr(2, 3, 4)], {"start": 1}, expect=in_order(2, 12), symbolic={0: {1: "T"}}),
    Case("flatten", [arr(2, 3, 4)], {"start": -3, "end": 1}, expect=in_order(6, 4)),
    Case("flatten", [arr(2, 3)], {"start": 1, "end": 1}, expect=in_order(2, 3)),
    Case("flatten", [arr()], expect=in_order(1)),
    Case("flatten", [arr(0, 3)]),
    Case("squeeze", [arr(3, 1, 4)], {"axis": 1}, expect=in_order(3, 4), symbolic=ROWS),
    Case("squeeze", [arr(1, 3, 1)], {"axis": (-1, 0)}, expect=in_order(3), symbolic={0: {1: "N"}}),
    Case("squeeze", [arr(1, 1)], {"axis": (0, 1)}, expect=in_order()),
    Case("squeeze", [arr(1, 3)], {"axis": ()}, expect=in_order(1, 3)),
    Case("squeeze", [arr(1, 0)], {"axis": 0}),
    Case("unsqueeze", [arr(3, 4)], {"axis": 0}, expect=in_order(1, 3, 4), symbolic=ROWS),
    Case("unsqueeze", [arr(3, 4)], {"axis": (-1, 1)}, expect=in_order(3, 1, 4, 1), symbolic=ROWS),
    Case("unsqueeze", [arr()], {"axis": 0}, expect=in_order(1)),
    Case("unsqueeze", [ints(0, 2)], {"axis": 1}),
    Case("transpose", [arr(3, 5)], expect=permuted(1, 0), symbolic=ROWS, grad2=True),
    Case(
        "transpose",
        [arr(2, 3, 4)],
        {"perm": (2, 0, 1)},
        expect=permuted(2, 0, 1),
        symbolic={0: {2: "T"}},
    ),
    Case("transpose", [arr(2, 3, 4)], {"perm": (0, -1, 1)}, expect=permuted(0, 2, 1)),
    Case("transpose", [arr()], expect=permuted()),
    Case("transpose", [ints(0, 2, dtype="bool", high=2)]),
    Case("broadcast_to", [arr(3, 1)], {"shape": (3, 5)}, expect=spread(3, 5), grad2=True),
    Case("broadcast_to", [arr(3)], {"shape": (2, 4, N)}, expect=spread(2, 4, 3), symbolic=ROWS),
    Case("broadcast_to", [arr(3, 1)], {"shape": (N, N)}, expect=spread(3, 3), symbolic=ROWS),
    Case("broadcast_to", [arr()], {"shape": (2, 2)}, expect=spread(2, 2)),
    Case("broadcast_to", [arr(2, 3)], {"shape": (2, 3)}, expect=spread(2, 3)),
    Case("broadcast_to", [arr(1, 3)], {"shape": (0, 3)}),
    Case("tile", [arr(2, 3)], {"repeats": (3, 2)}, expect=tiled(3, 2), symbolic=ROWS, grad2=True),
    Case("tile", [arr(2, 3)], {"repeats": (1, N)}, expect=tiled(1, 2), symbolic=ROWS),
    Case("tile", [ints(4)], {"repeats": 3}, expect=tiled(3)),
    Case("tile", [arr(2, 3)], {"repeats": (0, 1)}),
    Case("tile", [arr()], {"repeats": ()}, expect=tiled()),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(shape).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


COMPOSED = [
    (lambda x: shape.swapaxes(x, 0, -1), permuted(2, 1, 0)),
    (lambda x: shape.expand(x, (5, -1, 3, 4)), spread(5, 2, 3, 4)),
    (
        lambda x: shape.repeat(x, 2, axis=1),
        placed(lambda s: (2, 6, 4), lambda i, _: (i[0], i[1] // 2, i[2])),
    ),
]


@pytest.mark.parametrize(("fn", "expect"), COMPOSED, ids=["swapaxes", "expand", "repeat"])
def test_composed(fn, expect):
    check_case(Case("composed", [arr(2, 3, 4)], expect=expect, symbolic=ROWS), fn)


def test_repeat_takes_a_symbolic_number_and_expand_new_leading_axes():
    with Builder(Program()) as builder:
        x = builder.input("x", (M, 1))
        assert shape.repeat(x, N, axis=0).shape == (M * N, 1)
        assert shape.expand(x, (2, -1, 3)).shape == (2, M, 3)


def inferred(fn, *sizes):
    """(shape of fn(x), the checks left for run time)."""
    found: list[Check] = []
    with Builder(Program()) as builder, collect_checks(found):
        return fn(builder.input("x", sizes)).shape, found


def test_what_remains_of_symbolic_sizes_is_worked_out():
    assert inferred(lambda x: shape.reshape(x, shape=(-1, 12)), N, 3, 4) == ((N, 12), [])
    assert inferred(lambda x: shape.reshape(x, shape=(N, -1)), N, M, 4) == ((N, 4 * M), [])
    assert inferred(lambda x: shape.flatten(x, start=1), N, M, 4) == ((N, 4 * M), [])


def test_sizes_that_cannot_be_compared_are_checked_when_they_are_bound():
    out, checks = inferred(lambda x: shape.reshape(x, shape=(-1, 8)), N, 4)
    assert out == (N // 2, 8)
    assert len(checks) == 1
    checks[0].verify({"N": 6})
    with pytest.raises(ShapeError):
        checks[0].verify({"N": 5})
    assert len(inferred(lambda x: shape.squeeze(x, axis=0), N, 4)[1]) == 1
    assert len(inferred(lambda x: shape.broadcast_to(x, shape=(M, 4)), N, 4)[1]) == 1


def test_only_axes_that_are_named_are_squeezed_even_if_a_symbol_turns_out_to_be_one():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (N, 1, 2))
        program.outputs = {"out": shape.squeeze(x, axis=1)}
    out = run_program(program, {"x": np.ones((1, 1, 2), np.float32)}, {})[0]["out"]
    assert out.shape == (1, 2)


def test_a_program_run_with_sizes_that_do_not_divide_says_so():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (N, 4))
        program.outputs = {"out": shape.reshape(x, shape=(-1, 8))}
    with pytest.raises((ShapeError, EngineError), match="reshape"):
        run_program(program, {"x": np.ones((3, 4), np.float32)}, {})


@pytest.mark.parametrize("target", [(5,), (-1, 4), (-1, -1), (2, -2), (0, -1)])
def test_reshape_refuses_a_shape_that_does_not_hold_the_elements(target):
    with pytest.raises(ShapeError):
        shape.reshape(np.ones((2, 3)), shape=target)


def test_a_size_of_zero_does_not_determine_what_remains():
    with pytest.raises(ShapeError, match="-1"):
        shape.reshape(np.ones((0, 3)), shape=(0, -1))


def test_bad_attributes_are_refused():
    x = np.ones((2, 3, 1))
    with pytest.raises(ShapeError, match="squeeze"):
        shape.squeeze(x, axis=0)
    with pytest.raises(ArgumentError, match="needs the attribute 'axis'"):
        shape.squeeze(x)
    with pytest.raises(ArgumentError, match="out of range"):
        shape.unsqueeze(x, axis=4)
    with pytest.raises(ArgumentError, match="twice"):
        shape.unsqueeze(x, axis=(0, -5))
    with pytest.raises(ArgumentError, match="behind"):
        shape.flatten(x, start=2, end=1)
    for perm in ((0, 1), (0, 0, 1), (0, 1, 3), 1):
        with pytest.raises(ArgumentError):
            shape.transpose(x, perm=perm)
    for target in ((3, 1), (2, 3), (2, 4, 1), ()):
        with pytest.raises(ShapeError):
            shape.broadcast_to(x, shape=target)
    with pytest.raises(ArgumentError, match="each axis"):
        shape.tile(x, repeats=(2, 2))
