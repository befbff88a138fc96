import numpy as np
import pytest

import noria.ops.scatter as scatter
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N = symbol("N")
ROWS = {0: {0: "N"}}
COMBINE = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": np.maximum,
    "min": np.minimum,
}


def rows(*shape):
    def apply(ids, updates):
        out = np.zeros(shape)
        for i in np.ndindex(*ids.shape):
            out[ids[i]] += updates[i]
        return out

    return apply


def elements(axis=0, reduction="none"):
    def apply(x, ids, updates):
        out = x.astype(np.result_type(x, updates))
        for i in np.ndindex(*ids.shape):
            at = (*i[:axis], ids[i], *i[axis + 1 :])
            out[at] = COMBINE[reduction](out[at], updates[i])
        return out

    return apply


def nd(reduction="none"):
    def apply(x, ids, updates):
        out = x.copy()
        for i in np.ndindex(*ids.shape[:-1]):
            at = tuple(ids[i])
            out[at] = COMBINE[reduction](out[at], updates[i])
        return out

    return apply


def along(x, ids, updates, symbolic=None, grad2=False, **attrs):
    expect = elements(**attrs)
    inputs = [x, ids, updates]
    return Case("scatter_elements", inputs, attrs, expect=expect, symbolic=symbolic, grad2=grad2)


def at(x, ids, updates, symbolic=None, **attrs):
    return Case("scatter_nd", [x, ids, updates], attrs, expect=nd(**attrs), symbolic=symbolic)


APART = np.array([[3, 0, 1], [1, 4, -3]])  # no two of a column are the same
AGAIN = np.array([[3, 0, 1], [3, -5, 4]])
TOGETHER = {1: {0: "M"}, 2: {0: "M"}}
PAIRS = np.array([[0, 1], [2, 2], [0, 1], [-1, -3]])


def put(table, ids, new):
    out = table.copy()
    for i, row in zip(ids, new, strict=True):
        if i < len(table):
            out[i] = row
    return out


CASES = [
    Case("put_rows", [arr(5, 2), np.array([4, 0, 5]), arr(3, 2)], expect=put),
    Case("put_rows", [arr(5, 2), np.array([5, 5, 9]), arr(3, 2)], expect=put, id="all beyond"),
    Case("put_rows", [arr(5, 2), np.zeros(0, np.int64), arr(0, 2)], expect=put, id="nothing"),
    Case(
        "scatter_rows",
        [ints(6, high=4), arr(6, 2)],
        {"shape": (4, 2)},
        expect=rows(4, 2),
        symbolic={0: {0: "M"}, 1: {0: "M"}},
        grad2=True,
    ),
    Case(
        "scatter_rows",
        [ints(2, 3, low=-4, high=4), arr(2, 3, 5)],
        {"shape": (4, 5)},
        expect=rows(4, 5),
    ),
    Case(
        "scatter_rows",
        [ints(high=3), arr(2)],
        {"shape": (3, N)},
        expect=rows(3, 2),
        symbolic={1: {0: "N"}},
    ),
    Case(
        "scatter_rows", [ints(3, high=2, dtype="uint64"), ints(3)], {"shape": (2,)}, expect=rows(2)
    ),
    Case(
        "scatter_rows",
        [ints(900, high=2), arr(900, dtype="float16", low=0.9, high=1.1)],
        {"shape": (2,)},
        expect=rows(2),
    ),
    Case("scatter_rows", [ints(0), arr(0, 3)], {"shape": (2, 3)}, expect=rows(2, 3)),
    along(arr(5, 3), APART, arr(2, 3), {0: {0: "N"}}, True),
    along(arr(3, 5), APART.T, arr(3, 2), ROWS, axis=1),
    along(arr(5, 4), APART, arr(2, 3), {0: {0: "N", 1: "M"}}),
    along(arr(5, 3), AGAIN, arr(2, 3), ROWS, True, reduction="add"),
    along(arr(3, 5), AGAIN.T, arr(3, 2), axis=1, reduction="add"),
    along(arr(5, 3), AGAIN, arr(2, 3), ROWS, True, reduction="mul"),
    along(
        arr(5, 3, distinct=True), AGAIN, arr(2, 3, low=-1.9, distinct=True), ROWS, reduction="max"
    ),
    along(arr(5, 3, distinct=True), AGAIN, arr(2, 3, low=-1.9, distinct=True), reduction="min"),
    along(ints(5), ints(4, high=5), ints(4), reduction="add"),
    along(ints(5), np.array([0]), arr(1)),
    along(arr(5), ints(4, high=5), 1.0 * np.arange(4), reduction="add"),
    along(arr(5, 3), ints(0, 3), arr(0, 3)),
    along(arr(3, dtype="bfloat16"), ints(300, high=3), arr(300, dtype="bfloat16"), reduction="add"),
    along(ints(3, high=2, dtype="bool"), np.array([1]), np.array([True])),
    at(arr(3, 4, 2), PAIRS[:2], arr(2, 2), ROWS),
    at(arr(3, 4), PAIRS[:2], arr(2)),
    at(arr(3, 4), PAIRS, arr(4), ROWS, reduction="add"),
    at(arr(3, 4), ints(2, 5, 1, high=3), arr(2, 5, 4), {1: {1: "M"}, 2: {1: "M"}}, reduction="add"),
    at(arr(3, 4), PAIRS, arr(4), ROWS, reduction="mul"),
    at(arr(3, 4, distinct=True), PAIRS, arr(4, distinct=True, low=-1.9), reduction="max"),
    at(arr(3, 4, distinct=True), PAIRS, arr(4, distinct=True, low=-1.9), reduction="min"),
    at(ints(3), np.array([1]), ints()),
    at(arr(3, 4), ints(0, 2), arr(0)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(scatter).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def updates_gradient(x, ids, updates, reduction):
    program = Program()
    with Builder(program) as builder:
        vx = builder.input("x", x.shape)
        vu = builder.input("u", updates.shape)
        out = scatter.scatter_elements(vx, ids, vu, reduction=reduction)
        gx, gu = gradients(out, [vx, vu])
        program.outputs = {"gx": gx, "gu": gu}
    feeds = {"x": x.astype(np.float32), "u": updates.astype(np.float32)}
    found = run_program(program, feeds, {})[0]
    return found["gx"].tolist(), found["gu"].tolist()


def test_what_is_replaced_has_gradient_zero():
    found = updates_gradient(np.ones(3), np.array([1]), np.ones(1), "none")
    assert found == ([1, 0, 1], [1])


def test_the_gradient_of_a_tie_is_shared_equally():
    x, updates = np.array([2.0, 1, 0]), np.array([2.0, 2, 0])
    found = updates_gradient(x, np.array([0, 0, 1]), updates, "max")
    assert found == ([pytest.approx(1 / 3), 1, 1], [pytest.approx(1 / 3), pytest.approx(1 / 3), 0])


def test_the_gradient_of_a_product_is_exact_at_zeros():
    x, updates = np.array([2.0, 3, 5]), np.array([0.0, 4, 0, 0])
    found = updates_gradient(x, np.array([0, 0, 1, 1]), updates, "mul")
    assert found == ([0, 0, 1], [8, 0, 0, 0])


def test_the_inputs_are_left_as_they_were():
    x = np.zeros(3)
    for reduction in scatter.REDUCTIONS:
        scatter.scatter_elements(x, np.array([0]), np.ones(1), reduction=reduction)
    assert x.tolist() == [0, 0, 0]


def test_an_id_out_of_range_is_an_error():
    bad = np.array([3])
    with pytest.raises(ArgumentError, match="out of range"):
        scatter.scatter_rows(bad, np.ones((1, 2)), shape=(3, 2))
    with pytest.raises(ArgumentError, match="out of range"):
        scatter.scatter_elements(np.ones(3), bad, np.ones(1))
    with pytest.raises(ArgumentError, match="out of range"):
        scatter.scatter_nd(np.ones(3), bad, np.float64(1))


def test_updates_and_ids_must_fit():
    x, ids = np.ones((3, 4)), np.zeros((2, 4), int)
    for call in (
        lambda: scatter.scatter_elements(x, ids, np.ones((2, 3))),
        lambda: scatter.scatter_elements(x, ids[0], np.ones(4)),
        lambda: scatter.scatter_elements(x, np.zeros((2, 5), int), np.ones((2, 5))),
        lambda: scatter.scatter_nd(x, ids[:, :1], np.ones((2, 3))),
        lambda: scatter.scatter_nd(x, ids[:, :1], np.ones(2)),
        lambda: scatter.scatter_nd(x, ids, np.ones(2)),
        lambda: scatter.scatter_rows(ids[:, 0], np.ones((3, 4)), shape=(5, 4)),
        lambda: scatter.scatter_rows(ids[:, 0], np.ones(2), shape=()),
    ):
        with pytest.raises(ShapeError):
            call()
    with pytest.raises(DTypeError):
        scatter.scatter_elements(x, ids * 0.5, np.ones((2, 4)))


def test_a_reduction_that_is_not_known_or_makes_no_sense_is_refused():
    with pytest.raises(ArgumentError, match="unknown reduction"):
        scatter.scatter_elements(np.ones(3), np.array([0]), np.ones(1), reduction="mean")
    with pytest.raises(ArgumentError, match="booleans"):
        flags = np.ones(1, bool)
        scatter.scatter_nd(flags, np.array([[0]]), flags, reduction="add")


def test_rows_that_do_not_fit_a_table_are_refused():
    table, row = np.zeros((3, 2), np.float32), np.zeros((1, 2), np.float32)
    with pytest.raises(ArgumentError, match="no row"):
        scatter.put_rows(table, np.array([-1]), row)
    with pytest.raises(ShapeError):
        scatter.put_rows(table, np.array([1, 2]), row)
    with pytest.raises(DTypeError):
        scatter.put_rows(table, np.array([1]), row.astype(np.float64))
