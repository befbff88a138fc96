import math

import numpy as np
import pytest

import noria
import noria.ops.create as create
from noria.core.dims import dim_max, symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, T = symbol("N"), symbol("T")
ROWS = {0: {0: "N"}}


def listed(values, dtype):
    return lambda *_: np.array(values, dtype)


def casts():
    """Between all kinds of dtypes, and towards zero."""
    floats = np.array([-2.7, -0.5, 0.0, 0.5, 2.7, 100.4], np.float32)
    return [
        Case("cast", [arr(3, 5)], {"dtype": "float64"}, expect=lambda x: x, symbolic=ROWS),
        Case("cast", [arr(3, 5)], {"dtype": "float32"}, expect=lambda x: x, id="same"),
        # not the gradient, which is rounded to bfloat16 on its way
        Case("cast", [arr(3, 5)], {"dtype": "bfloat16"}, expect=lambda x: x, tol=1e-2, grad=False),
        Case("cast", [arr(4, dtype="bfloat16")], {"dtype": "float32"}, expect=lambda x: x),
        Case("cast", [arr(4, dtype="float16")], {"dtype": "float64"}, expect=lambda x: x),
        Case("cast", [floats], {"dtype": "int32"}, expect=listed([-2, 0, 0, 0, 2, 100], int)),
        Case("cast", [floats], {"dtype": "bool"}, expect=listed([1, 1, 0, 1, 1, 1], bool)),
        Case("cast", [ints(2, 0)], {"dtype": "float32"}),
        Case("cast", [ints()], {"dtype": "float32"}, expect=float),
        Case("cast", [ints(5, dtype="bool", high=2)], {"dtype": "int8"}, expect=lambda x: x * 1),
    ]


CASES = [
    Case("fill", [], {"shape": (2, 3), "value": 1.5}, expect=listed([[1.5] * 3] * 2, float)),
    Case("fill", [], {"shape": (), "value": -1, "dtype": "int8"}, expect=listed(-1, int)),
    Case("fill", [], {"shape": (0, 2), "value": math.inf, "dtype": "float64"}),
    Case("fill", [], {"shape": (2,), "value": math.nan}, expect=listed([math.nan] * 2, float)),
    Case("fill", [], {"shape": 3, "value": 2, "dtype": "bool"}, expect=listed([True] * 3, bool)),
    Case("fill", [], {"shape": (4,), "value": 0.5, "dtype": "bfloat16"}),
    Case("constant", [], {"value": np.arange(6.0).reshape(2, 3)}),
    Case("constant", [], {"value": np.array([True, False])}),
    Case("constant", [], {"value": np.zeros((0, 3), np.int32)}),
    Case("constant", [], {"value": np.array(2.5, np.float32)}, expect=listed(2.5, float)),
    *casts(),
    Case("arange", [], {"stop": 5}, expect=listed(range(5), int)),
    Case("arange", [], {"start": 7, "stop": 0, "step": -3}, expect=listed([7, 4, 1], int)),
    Case("arange", [], {"start": 3, "stop": 1}, expect=listed([], int)),
    Case("arange", [], {"stop": 4, "dtype": "float32"}, expect=listed(range(4), float)),
    Case(
        "arange",
        [],
        {"start": 0.5, "stop": 2.0, "step": 0.25, "dtype": "float64"},
        expect=listed([0.5, 0.75, 1.0, 1.25, 1.5, 1.75], float),
    ),
    Case("eye", [], {"n": 3}, expect=listed([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float)),
    Case(
        "eye",
        [],
        {"n": 2, "m": 4, "k": 1, "dtype": "int64"},
        expect=listed([[0, 1, 0, 0], [0, 0, 1, 0]], int),
    ),
    Case("eye", [], {"n": 0, "dtype": "bfloat16"}),
    Case(
        "eye",
        [],
        {"n": 3, "m": 2, "k": -1, "dtype": "bool"},
        expect=lambda: np.array([[0, 0], [1, 0], [0, 1]], bool),
    ),
    Case("dim_from", [np.array(3)], {"size": "K"}, expect=lambda n: np.empty((3, 0)), jax=False),
    Case(
        "dim_from",
        [np.array(0, np.int32)],
        {"size": "K"},
        expect=lambda n: np.empty((0, 0)),
        jax=False,
    ),
    Case("dim_value", [], {"dim": 7}, expect=listed(7, int)),
    Case("dim_value", [], {"dim": 0}, expect=listed(0, int)),
    Case("identity", [arr(3, 2)], expect=lambda x: x, symbolic=ROWS),
    Case("identity", [ints()], expect=lambda x: x),
    Case("identity", [arr(0, 2, dtype="float16")]),
    Case("later", [arr(3, 2), arr(4)], expect=lambda x, after: x, symbolic=ROWS),
    Case("later", [ints(), arr()], expect=lambda x, after: x),
    Case("stop_gradient", [arr(3, 2)], expect=lambda x: x, symbolic=ROWS, grad=False),  # has none
    Case("stop_gradient", [arr()], expect=lambda x: x, grad=False),  # has none
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(create).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def with_sizes(fn, **sizes):
    """What fn(x) emits for x: float32[N, T], at these sizes."""
    program = Program()
    with Builder(program) as builder:
        program.outputs = {"out": fn(builder.input("x", (N, T)))}
    shape = (sizes["N"], sizes["T"])
    return run_program(program, {"x": np.ones(shape, np.float32)}, {})[0]["out"]


def test_attributes_may_hold_symbolic_sizes():
    sizes = {"N": 2, "T": 5}
    assert with_sizes(lambda x: create.fill(shape=(N, T + 1), value=1), **sizes).shape == (2, 6)
    assert with_sizes(lambda x: create.arange(start=N, stop=T), **sizes).tolist() == [2, 3, 4]
    assert with_sizes(lambda x: create.arange(stop=T, step=2), **sizes).tolist() == [0, 2, 4]
    assert with_sizes(lambda x: create.arange(start=T, stop=0, step=-2), **sizes).tolist() == [
        5,
        3,
        1,
    ]
    assert with_sizes(lambda x: create.eye(n=N, m=T), **sizes).tolist() == np.eye(2, 5).tolist()
    assert with_sizes(lambda x: create.dim_value(dim=2 * N + T), **sizes) == 9


def test_a_symbolic_range_may_turn_out_empty():
    assert with_sizes(lambda x: create.arange(start=N, stop=T), N=4, T=2).tolist() == []


def test_the_size_of_an_axis_is_a_value():
    assert with_sizes(lambda x: create.size_of(x, axis=-1), N=2, T=5) == 5
    assert create.size_of(np.zeros((3, 4)), axis=0) == 3
    with pytest.raises(ArgumentError, match="out of range"):
        create.size_of(np.zeros((3, 4)), axis=2)


def test_what_is_like_another_value_takes_its_shape_and_dtype_unless_one_is_given():
    x = np.ones((2, 3), np.float16)
    assert create.zeros_like(x).tolist() == [[0] * 3] * 2
    assert create.ones_like(x).dtype == np.float16
    assert create.full_like(x, 7, "int32").dtype == np.int32
    assert create.ones_like([1, 2]).tolist() == [1, 1]
    assert with_sizes(lambda x: create.full_like(x, 3.0), N=1, T=2).tolist() == [[3.0, 3.0]]


def test_no_gradient_passes_stop_gradient_but_it_passes_identity():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (2,))
        assert gradients(create.stop_gradient(x), [x]) == [None]
        assert gradients(create.identity(x), [x]) != [None]


def test_an_integer_that_is_cast_has_no_gradient():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (2,), "int64")
        assert gradients(create.cast(x, dtype="float32"), [x]) == [None]


def test_the_gradient_of_a_cast_comes_back_in_the_dtype_of_its_input():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (2,), "bfloat16")
        (g,) = gradients(create.cast(x, dtype="float32"), [x])
        assert g.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("value", "dtype"), [(0.5, "int64"), (300, "uint8"), (-1, "uint64"), (math.nan, "int32")]
)
def test_fill_refuses_what_the_dtype_cannot_hold(value, dtype):
    with pytest.raises(ArgumentError, match="cannot hold"):
        create.fill(shape=(2,), value=value, dtype=dtype)


def test_bad_attributes_are_refused():
    with pytest.raises(ArgumentError, match="number"):
        create.fill(shape=(2,), value="one")
    with pytest.raises(ShapeError):
        create.fill(shape=(-2,), value=1.0)
    with pytest.raises(ShapeError, match="sequence"):
        create.fill(shape=2.5, value=1.0)
    with pytest.raises(DTypeError, match="unknown dtype"):
        create.cast(np.ones(2), dtype="float33")
    with pytest.raises(ArgumentError, match="array"):
        create.constant(value=[1, 2])
    with pytest.raises(DTypeError):
        create.constant(value=np.array(["a"]))
    with pytest.raises(ArgumentError, match="k must"):
        create.eye(n=2, k=0.5)
    with pytest.raises(ArgumentError, match="size"):
        create.dim_value(dim=1.5)


def test_arange_refuses_a_step_of_zero_booleans_and_fractions_beside_symbols():
    with pytest.raises(ArgumentError, match="not 0"):
        create.arange(stop=3, step=0)
    with pytest.raises(ArgumentError, match="finite"):
        create.arange(stop=math.inf)
    with pytest.raises(DTypeError):
        create.arange(stop=3, dtype="bool")
    program = Program()
    with Builder(program):
        with pytest.raises(ArgumentError, match="whole"):
            create.arange(stop=N, step=0.5)
        assert create.arange(start=2, stop=N).shape == (dim_max(N - 2, 0),)


def test_numpy_dtypes_become_names_in_the_program():
    program = Program()
    with Builder(program) as builder:
        create.cast(builder.input("x", (2,)), dtype=np.float64)
    assert program.operators[-1].attrs == {"dtype": "float64"}


def test_a_size_that_data_tell_is_one_for_the_operators_behind_it():
    def step(x, n):
        told = create.dim_from(n, size="K")
        part = noria.ops.slice(x, axes=(0,), starts=(0,), stops=(told.shape[0],))
        return {"part": noria.ops.square(part), "count": create.dim_value(dim=told.shape[0])}

    program = noria.trace(step, x=noria.spec("N"), n=noria.spec(dtype="int64"))
    executor = noria.Executor(program)
    x = np.arange(5, dtype=np.float32)
    for n in (3, 0, 5, 3):
        got = executor.run({"x": x, "n": np.array(n)})
        assert got["part"].tolist() == [v * v for v in range(n)]
        assert got["count"] == n
    with pytest.raises(noria.NoriaError, match="negative"):
        executor.run({"x": x, "n": np.array(-1)})
