import numpy as np
import pytest

import noria.ops.join as join
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, M = symbol("N"), symbol("M")
ROWS = {0: {0: "N"}}


def joined(axis):
    """Slice after slice, moved to the front and back."""

    def apply(*xs):
        slices = [s for x in xs for s in np.moveaxis(x, axis, 0)]
        return np.moveaxis(np.array(slices), 0, axis)

    return apply


def parted(*sizes, axis=0):
    def apply(x):
        slices = list(np.moveaxis(x, axis, 0))
        parts = [[slices.pop(0) for _ in range(size)] for size in sizes]
        return tuple(np.moveaxis(np.array(p), 0, axis) for p in parts)

    return apply


CASES = [
    Case(
        "concat",
        [arr(3, 2), arr(1, 2), arr(2, 2)],
        expect=joined(0),
        symbolic={0: {0: "N"}, 2: {0: "M"}},
        grad2=True,
    ),
    Case(
        "concat",
        [arr(3, 2), arr(3, 4)],
        {"axis": -1},
        expect=joined(1),
        symbolic={0: {0: "N"}, 1: {0: "N", 1: "M"}},
    ),
    Case("concat", [arr(3)], expect=joined(0), symbolic=ROWS),
    Case("concat", [arr(2, 3, 1), arr(2, 3, 2)], {"axis": 2}, expect=joined(2)),
    Case("concat", [arr(2), ints(3)], expect=joined(0), id="promoted"),
    Case("concat", [arr(2, dtype="bfloat16"), arr(2, dtype="bfloat16")]),
    Case("concat", [arr(0, 3), arr(2, 3)], expect=lambda _, y: y),
    Case("concat", [arr(0, 3), arr(0, 3)]),
    Case("split", [arr(6, 2)], {"num": 3}, expect=parted(2, 2, 2), grad2=True),
    Case("split", [arr(4, 2)], {"num": 2}, expect=parted(2, 2), symbolic={0: {0: "2*N"}}),
    Case(
        "split",
        [arr(3, 6)],
        {"sizes": (1, 2, 3), "axis": 1},
        expect=parted(1, 2, 3, axis=1),
        symbolic=ROWS,
    ),
    Case("split", [arr(5, 2)], {"sizes": (N, 2)}, expect=parted(3, 2), symbolic={0: {0: "N+2"}}),
    Case("split", [arr(3, 2)], {"num": 1, "axis": -2}, expect=parted(3)),
    Case("split", [ints(2, 3)], {"sizes": [2, 0], "axis": 0}),
    Case("split", [arr(0, 2)], {"num": 2}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(join).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stack_makes_a_new_axis(axis):
    both = {0: {0: "N"}, 1: {0: "N"}}
    case = Case(
        "stack", [arr(3, 2), arr(3, 2)], expect=lambda x, y: np.stack([x, y], axis), symbolic=both
    )
    check_case(case, lambda x, y: join.stack(x, y, axis=axis))


def test_unstack_gives_the_slices_without_their_axis():
    case = Case("unstack", [arr(2, 3)], expect=lambda x: (x[:, 0], x[:, 1], x[:, 2]), symbolic=ROWS)
    check_case(case, lambda x: join.unstack(x, axis=1))
    assert join.unstack(np.ones((0, 2))) == []


def test_a_symbolic_number_of_slices_cannot_be_unstacked():
    with Builder(Program()) as builder, pytest.raises(ShapeError, match="symbolic"):
        join.unstack(builder.input("x", (N, 2)))


def test_a_part_that_is_not_used_has_gradient_zero():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (N, 2))
        used, _ = join.split(x, sizes=(1, 1), axis=1)
        program.outputs = {"g": gradients(used, [x])[0]}
    out = run_program(program, {"x": np.ones((3, 2), np.float32)}, {})[0]
    assert out["g"].tolist() == [[1, 0]] * 3


def test_concat_adds_sizes_and_prefers_numbers_to_symbols():
    with Builder(Program()) as builder:
        x, y = builder.input("x", (N, M)), builder.input("y", (M, 3))
        assert join.concat(x, y).shape == (M + N, 3)


def test_values_that_do_not_fit_are_refused():
    x = np.ones((2, 3))
    with pytest.raises(ShapeError, match="sizes of axis 1"):
        join.concat(x, np.ones((2, 4)))
    with pytest.raises(ShapeError, match="rank"):
        join.concat(x, np.ones(3))
    with pytest.raises(ArgumentError, match="one value or more"):
        join.concat()
    with pytest.raises(ArgumentError, match="one value or more"):
        join.concat(x, None)
    with pytest.raises(ArgumentError, match="out of range"):
        join.concat(np.float32(1), np.float32(2))


def test_parts_that_do_not_make_up_the_axis_are_refused():
    x = np.ones((4, 2))
    for bad in ({"num": 3}, {"sizes": (1, 2)}, {"sizes": (5, -1)}):
        with pytest.raises(ShapeError):
            join.split(x, **bad)
    for bad in ({}, {"num": 2, "sizes": (2, 2)}, {"num": 0}, {"num": 2.0}, {"sizes": ()}):
        with pytest.raises(ArgumentError):
            join.split(x, **bad)
