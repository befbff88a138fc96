import math

import numpy as np
import pytest
from scipy import special

import noria.ops.elementwise as elementwise
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}}
BOTH = {0: {0: "N"}, 1: {0: "N"}}
NAN, INF = math.nan, math.inf
ODD = np.array([0.0, -0.0, 1.0, -1.0, NAN, INF, -INF, 0.5], np.float32)


def each(fn):
    """A function of one number, applied one by one in double precision."""

    def apply(*arrays):
        shape = np.broadcast_shapes(*(np.shape(a) for a in arrays))
        flat = [np.broadcast_to(a, shape).ravel().tolist() for a in arrays]
        return np.array([fn(*numbers) for numbers in zip(*flat, strict=True)]).reshape(shape)

    return apply


def plain(name, fn, low=-2.0, high=2.0, **more):
    """The usual cases of a function of one float array."""
    return [
        Case(name, [arr(3, 5, low=low, high=high)], expect=each(fn), symbolic=ROWS, **more),
        Case(name, [arr(low=low, high=high)], expect=each(fn), **more),
        Case(name, [arr(0, 3, low=low, high=high)], **more),
        Case(name, [arr(7, low=low, high=high, dtype="float64")], expect=each(fn), **more),
        Case(name, [arr(2, 3, low=low, high=high, dtype="bfloat16")], expect=each(fn), **more),
        Case(name, [arr(2, 3, low=low, high=high, dtype="float16")], expect=each(fn), **more),
    ]


def arithmetic(name, fn, low=-2.0, grad2=False):
    """The usual cases of a function of two arrays."""
    return [
        Case(name, [arr(3, 5, low=low), arr(3, 5)], expect=each(fn), symbolic=BOTH, grad2=grad2),
        Case(name, [arr(3, 5, low=low), arr(5)], expect=each(fn), symbolic=ROWS, grad2=grad2),
        Case(name, [arr(2, 1, 4, low=low), arr(3, 1)], expect=each(fn)),
        Case(name, [arr(3, low=low), 1.5], expect=each(fn)),
        Case(name, [arr(low=low), arr()], expect=each(fn)),
        Case(name, [arr(0, 3, low=low), arr(3)]),
        Case(name, [arr(4, dtype="float64", low=low), arr(4)], expect=each(fn), id="f64-f32"),
        Case(name, [arr(2, 3, low=low, dtype="bfloat16"), arr(3, dtype="bfloat16")]),
        Case(name, [ints(3, 4, low=1), ints(4, low=1)], expect=each(fn)),
    ]


CASES = [
    *arithmetic("add", lambda x, y: x + y),
    Case("add", [ints(5, dtype="int32"), arr(5)], expect=each(lambda x, y: x + y)),
    *arithmetic("sub", lambda x, y: x - y),
    Case("sub", [ints(5, low=-9, dtype="int8"), 3], expect=each(lambda x, y: x - y)),
    *arithmetic("mul", lambda x, y: x * y, grad2=True),
    *arithmetic("div", lambda x, y: x / y, grad2=True),
    Case("div", [ODD, np.zeros(8, np.float32)], grad=False),  # not finite
    *arithmetic("pow", lambda x, y: x**y, low=0.2, grad2=True),
    Case("pow", [arr(9), 2.0], expect=each(lambda x, y: x**y), grad=[0], id="negative base"),
    Case("pow", [arr(9), 3.0], expect=each(lambda x, y: x**y), grad=[0], grad2=True, id="cube"),
    Case("pow", [ints(6, low=-3, high=4), ints(6, high=5)], expect=each(lambda x, y: x**y)),
    *arithmetic("maximum", max),
    *arithmetic("minimum", min),
    Case("maximum", [ODD, np.float32(0.25)], expect=np.maximum, grad=False),  # not finite
    Case("minimum", [ODD, np.float32(0.25)], expect=np.minimum, grad=False),  # not finite
    *arithmetic("floor_divide", lambda x, y: x // y),
    *arithmetic("remainder", lambda x, y: x % y),
    Case(
        "floor_divide",
        [ints(8, low=-9, dtype="int32"), np.int32(4)],
        expect=each(lambda x, y: x // y),
    ),
    Case(
        "remainder", [ints(8, low=-9, dtype="int8"), np.int8(-4)], expect=each(lambda x, y: x % y)
    ),
    *arithmetic("fmod", math.fmod),
    Case("fmod", [ints(8, low=-9, dtype="int8"), np.int8(-4)], expect=each(math.fmod)),
    Case("fmod", [ints(8, low=-9), np.int64(4)], expect=each(math.fmod)),
    *plain("neg", lambda x: -x),
    Case("neg", [ints(4, dtype="int32")], expect=each(lambda x: -x)),
    *plain("abs", abs),
    Case("abs", [ints(6, low=-9)], expect=each(abs)),
    *plain("sign", lambda x: (x > 0) - (x < 0)),
    Case("sign", [ODD], expect=np.sign, grad=False),  # not finite
    Case("sign", [ints(6, low=-2, high=2, dtype="int8")], expect=each(lambda x: (x > 0) - (x < 0))),
    *plain("square", lambda x: x * x, grad2=True),
    Case("square", [ints(6, low=-9)], expect=each(lambda x: x * x)),
    *plain("exp", math.exp, grad2=True),
    Case("exp", [np.array([-200.0, 200.0, -INF, NAN], np.float32)], grad=False),  # not finite
    *plain("expm1", math.expm1, grad2=True),
    Case("expm1", [np.array([1e-8, -1e-9])], expect=each(math.expm1), tol=1e-20, jax=False),
    *plain("log", math.log, low=0.2, grad2=True),
    Case("log", [ODD], grad=False),  # not finite
    *plain("log1p", math.log1p, low=-0.7, grad2=True),
    Case("log1p", [np.array([1e-8, -1e-9])], expect=each(math.log1p), tol=1e-20, jax=False),
    *plain("sqrt", math.sqrt, low=0.2, grad2=True),
    *plain("rsqrt", lambda x: 1 / math.sqrt(x), low=0.2, grad2=True),
    *plain("reciprocal", lambda x: 1 / x, low=0.2, grad2=True),
    Case("reciprocal", [ODD], grad=False),  # not finite
    *plain("sin", math.sin, grad2=True),
    *plain("cos", math.cos, grad2=True),
    *plain("tanh", math.tanh, grad2=True),
    *plain("erf", special.erf, grad2=True),
    *plain("floor", math.floor),
    *plain("ceil", math.ceil),
    *plain("round", round),
    Case(
        "round", [np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)], expect=each(round), grad=False
    ),
    Case("clip", [arr(3, 7)], {"low": -1.0, "high": 0.5}, expect=lambda x: np.clip(x, -1, 0.5)),
    Case("clip", [arr(3, 7)], {"low": 0.0}, expect=lambda x: np.where(x < 0, 0, x), symbolic=ROWS),
    Case("clip", [arr(7, dtype="bfloat16")], {"high": 0.0}, expect=lambda x: np.where(x > 0, 0, x)),
    Case("clip", [ints(9, low=-9)], {"low": -3, "high": 3}, expect=lambda x: np.clip(x, -3, 3)),
    Case(
        "clip", [ODD], {"low": 0.0, "high": 0.75}, expect=lambda x: np.clip(x, 0, 0.75), grad=False
    ),
    Case("clip", [arr(0, 2)], {"low": 0.0}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(elementwise).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def test_integers_divided_by_zero_give_zero():
    x = np.array([5, -5, 0])
    assert elementwise.floor_divide(x, 0).tolist() == [0, 0, 0]
    assert elementwise.remainder(x, 0).tolist() == [0, 0, 0]
    assert elementwise.fmod(x, 0).tolist() == [0, 0, 0]


def test_an_integer_with_a_float_gives_the_float_however_wide_the_integer():
    assert elementwise.add(np.ones(2, np.int64), np.ones(2, np.float32)).dtype == np.float32


def test_a_python_scalar_takes_the_dtype_of_the_array_beside_it():
    assert elementwise.mul(np.ones(2, np.float16), 2.5).dtype == np.float16
    assert elementwise.mul(np.ones(2, np.int32), 2).dtype == np.int32
    assert elementwise.mul(np.ones(2, np.int32), 2.5).dtype == np.float32


@pytest.mark.parametrize("name", ["add", "neg", "abs", "sign", "square", "clip", "maximum"])
def test_arithmetic_on_booleans_is_refused(name):
    definition = getattr(elementwise, name)
    flags = [np.ones(2, bool)] * len(definition.inputs)
    with pytest.raises(DTypeError, match="numbers"):
        definition(*flags)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "floor", "erf", "sqrt"])
def test_functions_of_floats_refuse_integers_and_say_how_to_cast(name):
    with pytest.raises(DTypeError, match="cast"):
        getattr(elementwise, name)(np.ones(2, np.int64))


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(ShapeError, match=r"\[2, 3\] with \[2\]"):
        elementwise.add(np.ones((2, 3)), np.ones(2))


def test_open_sizes_that_differ_at_run_time_are_found_when_the_program_is_traced():
    program = Program()
    with Builder(program) as builder, pytest.raises(ShapeError):
        elementwise.add(builder.input("x", ("N", 3)), builder.input("y", (2, 4)))


def test_clip_refuses_bounds_that_cross_and_fractions_for_integers():
    with pytest.raises(ArgumentError, match="low <= high"):
        elementwise.clip(np.ones(2), low=1.0, high=0.0)
    with pytest.raises(ArgumentError, match="whole"):
        elementwise.clip(np.ones(2, np.int64), low=0.5)


def test_the_gradient_of_a_tie_is_shared_equally():
    from noria.grad import gradients
    from noria.ir.interpret import run_program

    program = Program()
    with Builder(program) as builder:
        x, y = builder.input("x", (3,)), builder.input("y", (3,))
        gx, gy = gradients(elementwise.maximum(x, y), [x, y])
        program.outputs = {"gx": gx, "gy": gy}
    feeds = {"x": np.array([1, 2, 3], np.float32), "y": np.array([1, 3, 2], np.float32)}
    out, _ = run_program(program, feeds, {})
    assert out["gx"].tolist() == [0.5, 0, 1]
    assert out["gy"].tolist() == [0.5, 1, 0]


def test_the_gradient_of_x_to_the_power_zero_at_zero_is_zero():
    from noria.grad import gradients
    from noria.ir.interpret import run_program

    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (2,))
        program.outputs = {"g": gradients(elementwise.pow(x, 0.0), [x])[0]}
    out, _ = run_program(program, {"x": np.array([0, 2], np.float32)}, {})
    assert out["g"].tolist() == [0, 0]
