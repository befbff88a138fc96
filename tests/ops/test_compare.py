import math
import operator

import numpy as np
import pytest

import noria.ops.compare as compare
from noria.core.dims import symbol
from noria.core.errors import DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}}
BOTH = {0: {0: "N"}, 1: {0: "N"}}
NAN, INF = math.nan, math.inf
ODD = np.array([0.0, -0.0, 1.0, NAN, INF, -INF], np.float32)
SIGNED_ZERO = np.array([0.0, 0.0, NAN, NAN, INF, INF], np.float32)


def each(fn, dtype=bool):
    """A function of single numbers, applied one by one."""

    def apply(*arrays):
        whole = np.broadcast(*arrays)
        return np.array([fn(*numbers) for numbers in whole], dtype).reshape(whole.shape)

    return apply


def comparison(name, fn):
    return [
        Case(name, [ints(3, 5, high=3), ints(3, 5, high=3)], expect=each(fn), symbolic=BOTH),
        Case(name, [ints(3, 5, high=3), ints(5, high=3)], expect=each(fn), symbolic=ROWS),
        Case(name, [arr(2, 1, 3), arr(4, 1)], expect=each(fn)),
        Case(name, [arr(7, dtype="bfloat16"), 0.5], expect=each(fn)),
        Case(name, [ODD, SIGNED_ZERO], expect=each(fn)),
        Case(name, [ints(4, high=2), np.array([0.5, 1, 0, -1], np.float32)], expect=each(fn)),
        Case(name, [ints(4, high=2, dtype="bool"), ints(4, high=2, dtype="bool")], expect=each(fn)),
        Case(name, [ints(), ints()], expect=each(fn)),
        Case(name, [arr(0, 3), arr(3)]),
    ]


def flags(*shape):
    return ints(*shape, high=2, dtype="bool")


def logic(name, fn):
    return [
        Case(name, [flags(3, 5), flags(3, 5)], expect=each(fn), symbolic=BOTH),
        Case(name, [flags(4, 1), flags(3)], expect=each(fn)),
        Case(name, [flags(3), True], expect=each(fn)),
        Case(name, [flags(), flags(0)]),
    ]


def kind(name, fn):
    return [
        Case(name, [arr(3, 5)], expect=each(fn), symbolic=ROWS),
        Case(name, [ODD], expect=each(fn)),
        Case(name, [ODD.astype(np.float16)], expect=each(fn)),
        Case(name, [ints(3)], expect=each(fn)),
        Case(name, [arr(dtype="float64")], expect=each(fn)),
        Case(name, [arr(0, dtype="bfloat16")]),
    ]


def choose(c, x, y):
    return x if c else y


CASES = [
    *comparison("equal", operator.eq),
    *comparison("not_equal", operator.ne),
    *comparison("less", operator.lt),
    *comparison("less_equal", operator.le),
    *comparison("greater", operator.gt),
    *comparison("greater_equal", operator.ge),
    *logic("logical_and", lambda x, y: x and y),
    *logic("logical_or", lambda x, y: x or y),
    *logic("logical_xor", lambda x, y: x != y),
    Case("logical_not", [flags(3, 5)], expect=each(lambda x: not x), symbolic=ROWS),
    Case("logical_not", [flags()], expect=each(lambda x: not x)),
    Case("logical_not", [flags(0, 2)]),
    *kind("isnan", math.isnan),
    *kind("isinf", math.isinf),
    *kind("isfinite", math.isfinite),
    Case(
        "where",
        [flags(3, 5), arr(3, 5), arr(3, 5)],
        expect=each(choose, float),
        symbolic={0: {0: "N"}, 1: {0: "N"}, 2: {0: "N"}},
        grad2=True,
    ),
    Case("where", [flags(3, 1), arr(5), arr(2, 1, 1)], expect=each(choose, float)),
    Case("where", [flags(3), arr(3), 0.0], expect=each(choose, float)),
    Case(
        "where",
        [flags(3), 1.0, arr(3)],
        expect=each(choose, float),
        symbolic={0: {0: "N"}, 2: {0: "N"}},
    ),
    Case("where", [flags(3), arr(3, dtype="bfloat16"), 1.0], expect=each(choose, float)),
    Case("where", [flags(3), ints(3), ints(3)], expect=each(choose, int)),
    Case("where", [flags(3), ints(3), arr(3)], expect=each(choose, float)),
    Case("where", [flags(3), flags(3), flags(3)], expect=each(choose)),
    Case("where", [flags(), arr(), arr()], expect=each(choose, float)),
    Case("where", [flags(0, 3), arr(3), arr(1, 3)]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(compare).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def test_where_keeps_the_dtype_of_x_and_y_whatever_the_condition():
    mask = np.array([True, False])
    assert compare.where(mask, np.ones(2, np.int32), 0).dtype == np.int32
    assert compare.where(mask, np.ones(2, np.float16), 0.0).dtype == np.float16
    assert compare.where(mask, 1, 0).dtype == np.int64
    assert compare.where(mask, np.ones(2, np.float32), np.ones(2)).dtype == np.float64
    with Builder(Program()) as builder:
        c, x = builder.input("c", (2,), "bool"), builder.input("x", (2,), "bfloat16")
        assert compare.where(c, x, 0.0).dtype == "bfloat16"
        assert compare.where(c, 1.0, 0.0).dtype == "float32"
        assert compare.where(c, 1, 0).dtype == "int64"


def test_logic_and_conditions_take_booleans_only():
    for call in (
        lambda: compare.logical_and(np.ones(2, bool), np.ones(2)),
        lambda: compare.logical_not(np.ones(2, np.int64)),
        lambda: compare.where(np.ones(2), np.ones(2), np.ones(2)),
    ):
        with pytest.raises(DTypeError, match="booleans"):
            call()


def test_shapes_that_do_not_broadcast_are_refused():
    with pytest.raises(ShapeError):
        compare.less(np.ones(2), np.ones(3))
    with pytest.raises(ShapeError):
        compare.where(np.ones(2, bool), np.ones(3), np.ones(1))


def test_allclose_allows_for_rounding_and_knows_infinity_and_nan():
    x = np.array([1.0, -INF, 1e-9])
    assert compare.allclose(x, x * (1 + 1e-6))
    assert not compare.allclose(x, np.array([1.001, -INF, 1e-9]))
    assert compare.allclose(x, np.array([1.001, -INF, 0]), rtol=1e-2)
    assert not compare.allclose(np.array([INF]), np.array([-INF]))
    assert not compare.allclose(np.array([1.0]), np.array([INF]))
    assert not compare.allclose(np.array([NAN]), np.array([NAN]))
    assert compare.allclose(np.array([NAN]), np.array([NAN]), equal_nan=True)


def test_allclose_of_unsigned_integers_does_not_wrap_around():
    assert not compare.allclose(np.array([0], np.uint8), np.array([255], np.uint8), atol=2.0)
    assert compare.allclose(np.array([4], np.uint8), np.array([5], np.uint8), atol=1.0)


def test_allclose_can_be_part_of_a_program():
    program = Program()
    with Builder(program) as builder:
        program.outputs = {"out": compare.allclose(builder.input("x", (symbol("N"),)), 1.0)}
    for value, same in ((1.0, True), (1.1, False)):
        assert run_program(program, {"x": np.full(3, value, np.float32)}, {})[0]["out"] == same
