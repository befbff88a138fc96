import numpy as np
import pytest

import noria.ops.index as index
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, EngineError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N = symbol("N")
ROWS = {0: {0: "N"}}
IDS = {1: {0: "M"}}


def taken(axis):
    """Slice by slice."""

    def apply(x, ids):
        slices = np.moveaxis(x, axis, 0)
        rest = slices.shape[1:]
        out = np.array([slices[i] for i in ids.ravel()], x.dtype).reshape(*ids.shape, *rest)
        return np.moveaxis(out, range(ids.ndim), range(axis, axis + ids.ndim))

    return apply


def taken_nd(x, ids):
    m = ids.shape[-1]
    found = [x[tuple(i)] for i in ids.reshape(-1, m)]
    return np.array(found, x.dtype).reshape((*ids.shape[:-1], *x.shape[m:]))


def taken_along(axis):
    def apply(x, ids):
        out = np.zeros(ids.shape, x.dtype)
        for i in np.ndindex(*ids.shape):
            out[i] = x[(*i[:axis], ids[i], *i[axis + 1 :])]
        return out

    return apply


def hot(depth, axis=-1):
    def apply(ids):
        out = np.zeros((*ids.shape, depth))
        for i in np.ndindex(*ids.shape):
            if 0 <= ids[i] < depth:
                out[(*i, ids[i])] = 1
        return np.moveaxis(out, -1, axis)

    return apply


def positions(x):
    return np.array([i for i in np.ndindex(*x.shape) if x[i]], int).reshape(-1, x.ndim)


PAIRS = np.array([[0, 1], [2, 2], [0, 1], [-1, -3]])

CASES = [
    Case("gather", [arr(5, 3), ints(4, high=5)], expect=taken(0), symbolic=ROWS | IDS, grad2=True),
    Case(
        "gather",
        [arr(2, 5, 3), ints(4, 2, high=5)],
        {"axis": 1},
        expect=taken(1),
        symbolic=ROWS | IDS,
        grad2=True,
    ),
    Case(
        "gather",
        [arr(2, 3, 5), ints(4, low=-5, high=5)],
        {"axis": -1},
        expect=taken(2),
        symbolic=ROWS,
    ),
    Case("gather", [arr(5, 3), ints(high=5)], expect=taken(0)),
    Case("gather", [arr(2, 5), ints(high=5, dtype="uint8")], {"axis": 1}, expect=taken(1)),
    Case("gather", [arr(5), ints(2, 3, high=5, dtype="uint64")], expect=taken(0)),
    Case("gather", [arr(2, dtype="float16"), ints(900, high=2)], expect=taken(0)),
    Case("gather", [arr(0, 3), ints(0)]),
    Case("gather", [ints(5, dtype="bool", high=2), ints(3, high=5)], expect=taken(0)),
    Case("gather_nd", [arr(3, 4, 2), PAIRS], expect=taken_nd, symbolic=ROWS, grad2=True),
    Case("gather_nd", [arr(3, 4), PAIRS], expect=taken_nd),
    Case("gather_nd", [arr(3, 4), ints(2, 5, 1, high=3)], expect=taken_nd, symbolic={1: {1: "M"}}),
    Case("gather_nd", [arr(3, 4), ints(2, high=3)], expect=taken_nd),
    Case("gather_nd", [arr(3, 4), ints(0, 2)]),
    Case(
        "take_along_axis",
        [arr(3, 5), ints(3, 4, high=5)],
        {"axis": 1},
        expect=taken_along(1),
        symbolic={0: {0: "N"}, 1: {0: "N"}},
        grad2=True,
    ),
    Case(
        "take_along_axis",
        [arr(5, 2, 3), ints(1, 2, 3, low=-5, high=5)],
        {"axis": 0},
        expect=taken_along(0),
        symbolic=ROWS,
    ),
    Case(
        "take_along_axis",
        [arr(5), ints(7, high=5, dtype="int32")],
        {"axis": -1},
        expect=taken_along(0),
    ),
    Case("take_along_axis", [arr(2, 3), ints(2, 0)], {"axis": 1}),
    Case("one_hot", [ints(3, 2, high=4)], {"depth": 4}, expect=hot(4), symbolic=ROWS),
    Case(
        "one_hot",
        [ints(5, low=-2, high=6)],
        {"depth": 3, "axis": 0, "dtype": "int64"},
        expect=hot(3, 0),
    ),
    Case(
        "one_hot",
        [ints(2, 3, high=4)],
        {"depth": 5, "axis": -2, "dtype": "bfloat16"},
        expect=hot(5, 1),
    ),
    Case("one_hot", [ints(3, high=3)], {"depth": N, "dtype": "bool"}, expect=hot(3), symbolic=ROWS),
    Case("one_hot", [ints(high=4)], {"depth": 4}, expect=hot(4)),
    Case("one_hot", [ints(0)], {"depth": 0}),
    # XLA has no sizes that depend on data
    Case(
        "nonzero", [ints(3, 4, high=2)], {"size": "K"}, expect=positions, symbolic=ROWS, jax=False
    ),
    Case("nonzero", [ints(5, high=2, dtype="bool")], {"size": "K"}, expect=positions, jax=False),
    Case(
        "nonzero",
        [np.array([0.0, -0.0, np.nan, 2])],
        {"size": "K"},
        expect=lambda _: np.array([[2], [3]]),
        jax=False,
    ),
    Case("nonzero", [np.zeros((2, 2))], {"size": "K"}, expect=positions, jax=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(index).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def test_an_id_out_of_range_is_an_error_that_names_it():
    x = np.ones((5, 3))
    for call in (
        lambda ids: index.gather(x, ids),
        lambda ids: index.gather_nd(x, ids[:, None]),
        lambda ids: index.take_along_axis(x[:, 0], ids, axis=0),
    ):
        for bad in (5, -6):
            with pytest.raises(ArgumentError, match=rf"{bad} at \[1\]"):
                call(np.array([0, bad]))


def test_also_when_a_program_is_run():
    program = Program()
    with Builder(program) as builder:
        ids = builder.input("ids", (N,), "int64")
        program.outputs = {"out": index.gather(np.ones((2, 2), np.float32), ids)}
    with pytest.raises(ArgumentError, match="gather at"):
        run_program(program, {"ids": np.array([2])}, {})


def test_nothing_can_be_taken_from_an_empty_axis():
    with pytest.raises(ArgumentError, match="nothing to take"):
        index.gather(np.ones((0, 3)), np.array([0]))


def test_ids_must_be_integers_of_a_fitting_shape():
    x = np.ones((3, 4))
    with pytest.raises(DTypeError):
        index.gather(x, np.array([0.0]))
    with pytest.raises(DTypeError):
        index.one_hot(np.array([True]), depth=2)
    with pytest.raises(ArgumentError, match="out of range"):
        index.gather(x, np.array([0]), axis=2)
    with pytest.raises(ShapeError, match="rank"):
        index.take_along_axis(x, np.array([0]), axis=0)
    with pytest.raises(ShapeError, match="axis 0"):
        index.take_along_axis(x, np.zeros((2, 4), int), axis=1)
    with pytest.raises(ShapeError, match="from 1 to 2"):
        index.gather_nd(x, np.zeros((5, 3), int))


def test_how_many_are_not_zero_is_a_new_size_that_later_ops_can_use():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (N, 2))
        found = index.nonzero(x, size="K")
        assert found.shape == (symbol("K"), 2)
        program.outputs = {"out": index.gather_nd(x, found)}
    feeds = {"x": np.array([[0, 1], [2, 0], [0, 3]], np.float32)}
    assert run_program(program, feeds, {})[0]["out"].tolist() == [1, 2, 3]


def test_nonzero_needs_a_name_and_cannot_be_compiled_by_xla():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(ArgumentError, match="name"):
        index.nonzero(np.ones(2), size=3)
    with pytest.raises(EngineError, match="XLA"):
        index.nonzero.run(jnp, [jnp.ones(2)], {"size": "K"})
