import operator

import numpy as np
import pytest
from scipy import special

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, NoriaError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.program import Program, Value
from noria.ir.trace import spec, trace
from noria.ops import methods
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case, check_program

N = symbol("N")
ROWS = {0: {0: "N"}}
BOTH = {0: {0: "N"}, 1: {0: "N"}}

BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


@pytest.mark.parametrize("name", BINARY)
def test_operators_are_those_of_numpy_on_either_side(name):
    fn = BINARY[name]
    other = np.array([0.5, -1.5, 2.5], np.float32)
    for call in (fn, lambda x, y: fn(x, 1.5), lambda x, y: fn(1.5, x), lambda x, y: fn(other, x)):
        case = Case(name, [arr(4, 3), arr(4, 3)], expect=call, symbolic=BOTH, grad=False)
        check_case(case, call)


def test_powers():
    for call in (operator.pow, lambda x, y: x**2.0, lambda x, y: 2.0**x):
        case = Case("pow", [arr(4, low=0.5), arr(4)], expect=call, symbolic=BOTH)
        check_case(case, call)


@pytest.mark.parametrize("fn", [operator.and_, operator.or_, operator.xor])
def test_logic_on_booleans(fn):
    flags = ints(5, high=2, dtype="bool")
    check_case(Case("logic", [flags, flags], expect=fn, symbolic=BOTH), fn)
    case = Case("logic", [flags], expect=lambda x: fn(True, ~x), symbolic=ROWS)
    check_case(case, lambda x: fn(True, ~x))


def test_matrix_products_on_either_side():
    w = np.arange(6, dtype=np.float32).reshape(2, 3)
    case = Case("matmul", [arr(3, 2)], expect=lambda x: x @ w @ x, symbolic=None)
    check_case(case, lambda x: x @ w @ x)
    case = Case("matmul", [arr(3, 2)], expect=lambda x: w @ x)
    check_case(case, lambda x: w @ x)


METHODS = {
    "neg": (lambda x: -x, lambda x: -x),
    "pos": (lambda x: +x, lambda x: x),
    "abs()": (abs, np.abs),
    "getitem": (lambda x: x[1:, -1], lambda x: x[1:, -1]),
    "sum": (lambda x: x.sum(1), lambda x: x.sum(1)),
    "mean": (lambda x: x.mean((0, 1), keepdims=True), lambda x: x.mean((0, 1), keepdims=True)),
    "max": (lambda x: x.max(), lambda x: x.max()),
    "min": (lambda x: x.min(axis=0), lambda x: x.min(0)),
    "prod": (lambda x: x.prod(1), lambda x: x.prod(1)),
    "all": (lambda x: (x > -1).all(1), lambda x: (x > -1).all(1)),
    "any": (lambda x: (x > 1).any(1), lambda x: (x > 1).any(1)),
    "var": (lambda x: x.var(1, correction=1), lambda x: x.var(1, ddof=1)),
    "std": (lambda x: x.std(0), lambda x: x.std(0)),
    "argmax": (lambda x: x.argmax(1), lambda x: x.argmax(1)),
    "argmin": (lambda x: x.argmin(), lambda x: x.argmin()),
    "cumsum": (lambda x: x.cumsum(0), lambda x: x.cumsum(0)),
    "split": (lambda x: x.split(sizes=(1, 3), axis=1), lambda x: (x[:, :1], x[:, 1:])),
    "reshape": (lambda x: x.reshape(-1, 2), lambda x: x.reshape(-1, 2)),
    "reshape tuple": (lambda x: x.reshape((x.shape[0], 2, 2)), lambda x: x.reshape(-1, 2, 2)),
    "flatten": (lambda x: x.flatten(), lambda x: x.ravel()),
    "squeeze": (lambda x: x.unsqueeze((0, -1)).squeeze(), lambda x: x),
    "squeeze one": (lambda x: x.unsqueeze((0, -1)).squeeze(0), lambda x: x[..., None]),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda x: x[..., None]),
    "transpose": (lambda x: x.transpose(), lambda x: x.T),
    "transpose list": (lambda x: x.transpose(1, 0), lambda x: x.T),
    "T": (lambda x: x.T, lambda x: x.T),
    "swapaxes": (lambda x: x.swapaxes(0, 1), lambda x: x.T),
    "expand": (lambda x: x.expand(2, -1, 4), lambda x: np.stack([x, x])),
    "astype": (lambda x: x.astype(float), lambda x: x.astype(np.float32)),
    "clip": (lambda x: x.clip(-1, 1), lambda x: x.clip(-1, 1)),
    "abs": (lambda x: x.abs(), np.abs),
    "square": (lambda x: x.square(), lambda x: x * x),
    "sqrt": (lambda x: x.square().sqrt(), np.abs),
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.exp().log(), lambda x: x),
    "sin": (lambda x: x.sin(), np.sin),
    "cos": (lambda x: x.cos(), np.cos),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "sigmoid": (lambda x: x.sigmoid(), special.expit),
    "relu": (lambda x: x.relu(), lambda x: np.maximum(x, 0)),
    "softmax": (lambda x: x.softmax(0), lambda x: special.softmax(x, 0)),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    fn, expect = METHODS[name]
    program = Program()
    with Builder(program) as builder:
        out = fn(builder.input("x", (N, 4)))
        program.outputs = {f"out{i}": v for i, v in enumerate(out if name == "split" else [out])}
    x = arr(3, 4, distinct=True).make([1])
    want = expect(x) if name == "split" else [expect(x)]
    check_program(program, {"x": x}, {f"out{i}": np.asarray(v) for i, v in enumerate(want)})


def test_equality_is_identity():
    with Builder(Program()) as builder:
        x, y = builder.input("x", (2,)), builder.input("y", (2,))
        assert x == x
        assert x != y
        assert x in [y, x]


def test_no_gradient_passes_detach():
    with Builder(Program()) as builder:
        x = builder.input("x", (2,))
        assert gradients(x.detach().sum(), [x]) == [None]


def test_a_value_is_a_sequence_of_its_slices_if_their_number_is_known():
    with Builder(Program()) as builder:
        x, y = builder.input("x", (3, N)), builder.input("y", (N, 3))
        first, *others = x
        assert first.shape == (N,)
        assert len(others) == 2
        assert len(x) == 3
        with pytest.raises(ShapeError):
            iter(y)
        with pytest.raises(ShapeError):
            len(y)


def test_squeeze_leaves_axes_that_only_happen_to_be_one():
    with Builder(Program()) as builder:
        assert builder.input("x", (N, 1, 2)).squeeze().shape == (N, 2)


def test_what_an_op_does_not_take_is_an_error_with_the_users_line():
    with Builder(Program()) as builder:
        x = builder.input("x", (2,))
        for call in (lambda: x + "a", lambda: x + None, lambda: x + object()):
            with pytest.raises(NoriaError, match=r"test_methods\.py"):
                call()
        with pytest.raises(DTypeError, match="booleans"):
            x & x
        with pytest.raises(ArgumentError, match="truth"):
            bool(x > 0)
        with pytest.raises(DTypeError, match="unknown dtype"):
            x.astype("float33")


def test_names_are_those_of_the_methods():
    assert {"__add__", "__getitem__", "mean", "astype"} <= set(methods.NAMES)
    assert "T" not in methods.NAMES  # a property
    assert all(callable(getattr(Value, name)) for name in methods.NAMES)


def test_every_method_is_tested():
    named = {n for n in methods.NAMES if not n.startswith("__")}
    assert named - {name.split()[0] for name in METHODS} == {"detach"}


def test_numpy_functions_of_a_value_are_a_clear_error() -> None:
    with pytest.raises(ArgumentError, match=r"numpy\.exp takes arrays.*\n.*noria\.ops"):
        trace(lambda x: np.exp(x), x=spec(3))


def test_array_operators_with_a_value_on_the_right_are_ops() -> None:
    ones = np.ones(3, np.float32)
    program = trace(lambda x: {"sum": ones + x, "less": ones > x, "half": ones / x}, x=spec(3))
    kinds = [op.type for op in program.operators if op.type != "constant"]
    assert kinds == ["add", "greater", "div"]
