"""The plain data of the IR."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, MissingError, ShapeError
from noria.core.trace import Source
from noria.ir.program import (
    Block,
    Operator,
    Program,
    Spec,
    State,
    Value,
    as_shape,
    needed,
    walk,
)

N = symbol("N")


def unary(name, x, **more):
    out = Value(name, x.shape, x.dtype)
    return Operator("relu", (x,), (out,), **more), out


def two_steps():
    """x -> a -> b, and c beside them."""
    x = Value("x", (N, 3))
    first, a = unary("a", x)
    second, b = unary("b", a)
    third, c = unary("c", x)
    return Block([x], [first, second, third], [b]), (x, a, b, c)


@pytest.mark.parametrize(
    ("given", "shape"),
    [(3, (3,)), (N, (N,)), ([2, N], (2, N)), ((), ()), ([np.int32(4)], (4,)), ({2: 0}, (2,))],
)
def test_a_shape_is_made_of_ints_and_symbols(given, shape):
    assert as_shape(given) == shape
    assert all(type(d) is int or d is N for d in as_shape(given))


@pytest.mark.parametrize("given", [[1.5], ["N"], [None], [-1], -1, 1.5, None])
def test_a_size_that_is_none_is_refused(given):
    with pytest.raises(ShapeError):
        as_shape(given)


def test_a_spec_prints_and_compares_by_dtype_and_shape():
    assert str(Spec((N, 3))) == "float32[N, 3]"
    assert repr(Spec(())) == "Spec(float32[])"
    assert Spec((N, 3)) == Spec([N, 3], np.float32)
    assert hash(Spec((N,))) == hash(Spec((N,)))
    assert Spec((N,)) != Spec((N,), "float64")
    assert Spec((2,)) != Value("x", (2,))
    with pytest.raises(DTypeError):
        Spec((), "float31")


def test_a_value_is_only_itself():
    a, b = Value("a", (2,)), Value("a", (2,))
    assert a == a and a != b
    assert len({a, b, a}) == 2
    assert repr(a) == "<a: float32[2]>"


def test_a_value_has_no_truth_and_no_numbers():
    v = Value("x", (2,))
    with pytest.raises(ArgumentError, match="truth of value 'x'"):
        bool(v)
    with pytest.raises(ArgumentError, match="no numbers"):
        np.asarray(v)


def test_operands_leave_out_absent_inputs():
    x = Value("x", ())
    assert Operator("conv", (x, None, x), ()).operands == (x, x)


def test_where_tells_the_op_the_line_and_the_pass():
    source = Source("model.py", 12, "forward")
    assert Operator("relu", (), ()).where() == "relu"
    assert Operator("relu", (), (), source=source).where() == "relu at model.py:12"
    operator = Operator("relu", (), (), source=source, made_by="grad")
    assert operator.where() == "relu at model.py:12, made by grad"


def test_inputs_are_replaced_in_a_new_operator():
    x, y, z = (Value(n, ()) for n in "xyz")
    operator = Operator("add", (x, None, y), (Value("out", ()),), {"k": 1})
    changed = operator.with_inputs({y: z})
    assert changed.inputs == (x, None, z) and operator.inputs == (x, None, y)
    assert changed.attrs == {"k": 1} and changed.outputs == operator.outputs
    assert operator.with_inputs({z: x}) is operator


def test_a_copied_program_shares_values_but_not_lists():
    block, (x, a, b, _) = two_steps()
    program = Program("p", block, outputs={"out": b})
    copy = program.copy()
    copy.block.operators.clear()
    copy.outputs["a"] = a
    copy.state["s"] = State(Value("s", ()))
    assert len(program.operators) == 3
    assert list(program.outputs) == ["out"] and not program.state
    assert copy.inputs == {"x": x}


def test_outputs_and_updates_are_the_roots():
    block, (_, a, b, _) = two_steps()
    state = State(Value("s", (N, 3)), trainable=True)
    program = Program("p", block, {"s": state}, {"out": b}, {"s": a})
    assert program.roots() == [b, a]
    assert program.parameters() == {"s": state}
    assert program.output("out") is b
    with pytest.raises(MissingError, match="did you mean 'out'"):
        program.output("ot")


def test_replaced_follows_values_in_outputs_and_updates():
    block, (x, a, b, _) = two_steps()
    program = Program("p", block, {"s": State(Value("s", (N, 3)))}, {"out": b}, {"s": a})
    operator, d = unary("d", x)
    new = program.replaced([operator], {b: d, a: d})
    assert new.operators == [operator]
    assert new.outputs == {"out": d} and new.updates == {"s": d} and new.block.outputs == [d]
    assert program.outputs == {"out": b}


def test_walk_gives_outer_operators_before_inner_ones():
    inner, _ = unary("i", Value("v", ()))
    block, _ = two_steps()
    outer = Operator("call", (), (), blocks={"body": Block([], [inner], [])})
    block.operators.insert(1, outer)
    assert list(walk(block)) == [block.operators[0], outer, inner, *block.operators[2:]]


def test_needed_drops_what_no_root_depends_on():
    block, (_, a, b, c) = two_steps()
    first, second, third = block.operators
    assert needed(block, [b]) == [first, second]
    assert needed(block, [a, c]) == [first, third]
    assert needed(block, []) == []
    assert needed(block, [], keep=lambda o: o is second) == [first, second]
