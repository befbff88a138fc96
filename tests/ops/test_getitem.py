import numpy as np
import pytest

from noria.core.dims import evaluate, symbol
from noria.core.errors import ArgumentError, NoriaError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.program import Program
from noria.ops.getitem import getitem
from noria.testing.case import Case, arr
from noria.testing.check import check_case, load_ops

N = symbol("N")
load_ops()

KEYS = [
    np.s_[0],
    np.s_[-1],
    np.s_[2, -2],
    np.s_[1, 2, 3],
    np.s_[-3, :, 0],
    np.s_[1:],
    np.s_[:-1, 1::2],
    np.s_[::-1, ..., -2:],
    np.s_[...],
    np.s_[..., 0],
    np.s_[None],
    np.s_[:, None, 0],
    np.s_[0, None, ..., None],
    np.s_[..., None, 1:3, None],
    np.s_[[2, 0, 2]],
    np.s_[:, [0, -1]],
    np.s_[:, np.array([[0, 1], [2, 3]]), ::-1],
    np.s_[0, [1, 2]],
    np.s_[:, [3, 1], 2],
    np.s_[None, [1], ..., None],
    np.s_[[]],
    np.s_[np.int64(1), np.array(2)],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_that_of_numpy(key):
    for symbolic in (None, {0: {0: "N", 2: "T"}}):
        case = Case("getitem", [arr(3, 4, 5)], expect=lambda x: x[key], symbolic=symbolic)
        check_case(case, lambda x: getitem(x, key))


def test_a_value_of_integers_gathers():
    inputs, open_sizes = [arr(4, 3), np.array([3, 0, -1])], {0: {0: "N"}, 1: {0: "M"}}
    case = Case("x", inputs, expect=lambda x, ids: x[ids, 1:], symbolic=open_sizes)
    check_case(case, lambda x, ids: getitem(x, (ids, slice(1, None))))


def test_a_key_that_takes_everything_emits_nothing():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (N, 3))
        assert getitem(x, ...) is x
        assert getitem(x, slice(None)) is x
    assert program.operators == []


def test_a_symbolic_size_can_be_a_position():
    with Builder(Program()) as builder:
        x = builder.input("x", (2 * N, 3))
        half = getitem(x, slice(N, None))
        assert evaluate(half.shape[0], {"N": 4}) == 4
        assert getitem(x, N).shape == (3,)


def test_an_index_beyond_a_symbolic_size_is_found_when_the_program_is_run():
    program = Program()
    with Builder(program) as builder:
        program.outputs = {"out": getitem(builder.input("x", (N,)), 2)}
    assert run_program(program, {"x": np.arange(3, dtype=np.float32)}, {})[0]["out"] == 2
    with pytest.raises(NoriaError):
        run_program(program, {"x": np.ones(2, np.float32)}, {})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, "out of range"),
        (-4, "out of range"),
        ((0, 0, 0), "too many"),
        ((..., ...), "too many"),
        (True, "cannot index"),
        (0.5, "cannot index"),
        ("a", "cannot index"),
        (np.array([True, False, True]), "mask"),
        (np.array([0.5]), "integers"),
        (([0], [1]), "gather_nd"),
        ((slice(0, 1, 0),), "step"),
        ((slice(0.5, None),), "position"),
    ],
    ids=str,
)
def test_bad_keys_are_refused(key, message):
    with Builder(Program()) as builder, pytest.raises(ArgumentError, match=message):
        getitem(builder.input("x", (3, 2)), key)


def test_an_array_apart_from_a_number_is_refused_for_numpy_moves_its_axis():
    with Builder(Program()) as builder, pytest.raises(ArgumentError, match="twice"):
        getitem(builder.input("x", (3, 4, 5)), (0, slice(None), [1]))


def test_a_scalar_has_no_elements():
    with Builder(Program()) as builder:
        x = builder.input("x", ())
        assert getitem(x, ()) is x
        with pytest.raises((ArgumentError, ShapeError)):
            getitem(x, 0)
