"""Builders: what they append, what they declare, how blocks nest, and whose names are whose."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ProgramError
from noria.core.trace import Source
from noria.ir.emit import Builder, Names, building, current, inline, trace_block
from noria.ir.interpret import run_program
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Program, Spec
from noria.ir.verify import verify
from tests.ir.programs import N, emit_call, finish


@pytest.fixture
def builder():
    with Builder(Program("p")) as b:
        yield b


def types(builder):
    return [operator.type for operator in builder.block.operators]


# ---- names and builders ------------------------------------------------------------------------


def test_names_are_numbered_and_never_given_twice():
    names = Names(["relu_1"])
    assert [names.fresh("relu") for _ in range(3)] == ["relu", "relu_2", "relu_3"]
    assert names.claim("x") == "x"
    with pytest.raises(ArgumentError, match="'x' is already used"):
        names.claim("x")


def test_a_builder_is_current_only_inside_its_block():
    assert current() is None
    with Builder(Program()) as outer:
        with Builder(Program()) as inner:
            assert building() is inner
        assert building() is outer
    with pytest.raises(ProgramError, match="no Program is being built"):
        building()


def test_a_second_builder_continues_with_free_names(builder):
    o.tanh(builder.input("tanh_1", (2,)))
    with Builder(builder.program) as again:
        o.tanh(again.block.inputs[0])
    assert [v.outputs[0].name for v in builder.block.operators] == ["tanh", "tanh_2"]


def test_values_outside_a_builder_cannot_be_computed_with(builder):
    x = builder.input("x", (2,))
    with Builder(Program()), pytest.raises(ProgramError, match="belongs to another Program"):
        o.tanh(x)


# ---- emitting ----------------------------------------------------------------------------------


def test_a_call_on_values_appends_an_operator(builder):
    x = builder.input("x", (N, 3))
    y = o.clip(x, low=0.0)
    (operator,) = builder.block.operators
    assert operator.type == "clip" and operator.inputs == (x,) and operator.outputs == (y,)
    assert operator.attrs == {"low": 0.0, "high": None}
    assert (y.name, y.shape, y.dtype) == ("clip", (N, 3), "float32")


def test_operators_know_the_line_that_called_them(builder):
    o.tanh(builder.input("x", (2,)))
    source = builder.block.operators[0].source
    assert source.file == __file__
    assert source.function == "test_operators_know_the_line_that_called_them"


def test_an_operator_made_for_another_keeps_its_line(builder):
    x = builder.input("x", (2,))
    source = Source("model.py", 7, "forward")
    with builder.on_behalf_of(Operator("relu", (), (), source=source), "grad"):
        o.tanh(x)
    o.tanh(x)
    first, second = builder.block.operators
    assert (first.source, first.made_by) == (source, "grad")
    assert second.source.file == __file__ and second.made_by == ""


def test_outputs_are_named_after_the_op_and_themselves(builder, own_ops):
    @op(outputs=("out", "norm"))
    def test_pair(x):
        return x, Spec(()), Spec(())

    names = [v.name for v in test_pair(builder.input("x", (2,)))]
    assert names == ["test_pair", "test_pair.norm", "test_pair_1"]


def test_equal_numbers_are_one_constant(builder):
    x = builder.input("x", (2,))
    o.add(o.mul(x, 2.0), 2.0)
    assert types(builder).count("fill") == 1


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, 1.0), (True, 1)])
def test_numbers_that_only_compare_equal_are_two_constants(builder, one, other):
    a, b = builder.constant(one, "float32"), builder.constant(other, "float32")
    assert a is not b
    values = [operator.attrs["value"] for operator in builder.block.operators]
    assert list(map(repr, values)) == [repr(one), repr(other)]


def test_an_array_beside_a_value_becomes_a_constant_that_later_changes_do_not_reach(builder):
    x, given = builder.input("x", (2,)), np.array([1, 2], np.float32)
    o.add(x, given)
    given[:] = 9
    kept = builder.block.operators[0].attrs["value"]
    np.testing.assert_array_equal(kept, [1, 2])
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 3


# ---- state -------------------------------------------------------------------------------------


def test_state_is_declared_once_and_then_shared(builder):
    w = builder.state("w", (3,), trainable=True)
    assert builder.state("w", (3,)) is w
    with pytest.raises(ArgumentError, match="declared before with another spec"):
        builder.state("w", (4,))
    assert builder.program.state["w"].trainable


def test_an_update_has_the_spec_of_its_state(builder):
    w = builder.state("w", (3,))
    builder.update("w", o.mul(w, 0.5))
    assert builder.program.updates["w"].name == "mul"
    with pytest.raises(ProgramError, match="'v' is not a state"):
        builder.update("v", w)
    with pytest.raises(ProgramError, match="another spec"):
        builder.update(w, builder.input("x", (4,)))


# ---- nested blocks -----------------------------------------------------------------------------


def test_what_a_block_uses_from_outside_becomes_its_input(call_op):
    program = Program("p")
    with Builder(program) as b:
        x, y = b.input("x", (N,)), b.input("y", (N,))
        finish(program, out=emit_call(lambda v: o.add(o.add(v, y), y), x))
    operator = program.operators[0]
    body = operator.blocks["body"]
    assert operator.inputs == (x, y)
    assert len(body.inputs) == 2 and not {x, y} & set(body.inputs)
    verify(program)


def test_a_value_is_captured_through_every_block_between(call_op):
    program = Program("p")
    with Builder(program) as b:
        x, y = b.input("x", (2,)), b.input("y", (2,))
        deep = emit_call(lambda v: emit_call(lambda u: o.mul(u, y), o.neg(v)), x)
        finish(program, out=deep)
    verify(program)
    got, _ = run_program(program, {"x": np.array([1.0, 2]), "y": np.array([3.0, 5])}, {})
    np.testing.assert_array_equal(got["out"], [-3, -10])


def test_state_of_a_nested_block_belongs_to_the_program(call_op):
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (2,))
        finish(program, out=emit_call(lambda v: o.mul(v, building().state("w", (2,))), x))
    assert list(program.state) == ["w"]
    verify(program)


def test_state_is_not_updated_in_a_nested_block(builder, call_op):
    x, w = builder.input("x", (2,)), builder.state("w", (2,))

    def body(v):
        building().update(w, v)
        return v

    with pytest.raises(ProgramError, match="inside a nested block") as told:
        emit_call(body, x)
    assert "return the new value" in told.value.hint


def test_names_are_unique_across_blocks(builder, call_op):
    x = builder.input("x", (2,))
    block, _, _ = trace_block(o.tanh, [Spec((2,))], ["x"])
    assert block.inputs[0].name == "x_1"
    assert o.tanh(x).name == "tanh_1"


def test_inline_emits_the_operators_of_a_block_again(builder, call_op):
    x, y = builder.input("x", (2,)), builder.input("y", (2,))
    block, captured, result = trace_block(lambda v: o.add(o.tanh(v), y), [Spec((2,))], ["v"])
    block.outputs = [result]
    (out,) = inline(block, [x, *captured])
    assert types(builder) == ["tanh", "add"]
    assert builder.block.operators[0].inputs == (x,)
    assert builder.block.operators[1].inputs[1] is y
    assert out is builder.block.operators[1].outputs[0]
