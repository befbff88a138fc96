"""Calling ops: emitted on Values, computed at once on arrays."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ProgramError, ShapeError
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


def test_a_python_number_takes_the_dtype_of_the_value_beside_it(builder):
    half, whole = builder.input("h", (2,), "float16"), builder.input("i", (2,), "int32")
    assert o.add(half, 1).dtype == "float16"
    assert o.mul(2.5, half).dtype == "float16"
    assert o.add(whole, 1).dtype == "int32"
    assert o.add(whole, 1.5).dtype == "float32"


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


def test_an_array_of_a_symbolic_size_becomes_an_operator(builder):
    out = o.broadcast_to(np.ones((1, 1), bool), shape=(N, 2))
    assert (out.shape, out.dtype) == ((N, 2), "bool") and types(builder)[-1] == "broadcast_to"


def test_dtypes_are_promoted_by_casts(builder):
    x, y = builder.input("x", (2,), "float16"), builder.input("y", (2,), "float32")
    assert o.add(x, y).dtype == "float32"
    assert types(builder) == ["cast", "add"]
    assert builder.block.operators[1].inputs[1] is y


def test_inputs_may_be_given_by_name_and_optional_ones_left_out(builder, own_ops):
    @op
    def test_affine(x, w=None, b=None, *, k=1):
        return x

    x = builder.input("x", (2,))
    test_affine(x, b=x)
    assert builder.block.operators[0].inputs == (x, None, x)
    with pytest.raises(ArgumentError, match="needs the input 'x'"):
        test_affine(w=x)
    with pytest.raises(ArgumentError, match="at most 3 inputs") as told:
        test_affine(x, x, x, x)
    assert "k=1" in told.value.hint


def test_many_inputs_may_come_as_a_list(builder):
    x, y = builder.input("x", (N, 2)), builder.input("y", (N, 3))
    joined = o.concat([x, y], axis=1)
    assert joined.shape == (N, 5) and builder.block.operators[-1].inputs == (x, y)
    arrays = [np.zeros((2, 1)), np.ones((2, 2))]
    assert np.array_equal(o.concat(arrays, axis=1), o.concat(*arrays, axis=1))
    assert np.array_equal(o.concat([[1, 2]], [[3]], axis=1), [[1, 2, 3]])
    with pytest.raises(ArgumentError, match="one list of them") as error:
        o.concat([x, y], 1)
    assert "axis" in str(error.value)


def test_an_error_tells_the_op_and_the_line(builder):
    x = builder.input("x", (2, 3))
    with pytest.raises(ShapeError, match="do not broadcast") as told:
        o.add(x, builder.input("y", (4,)))
    assert told.value.where.startswith("add at ") and "test_emit.py:" in told.value.where
    assert types(builder) == []


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


# ---- computing at once -------------------------------------------------------------------------


def test_a_call_on_arrays_computes():
    got = o.add(np.array([1, 2], np.float32), 1)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [2, 3])


def test_arrays_are_promoted_as_values_are():
    assert o.add(np.zeros(2, np.float16), np.zeros(2, np.float32)).dtype == np.float32
    assert o.add(np.zeros(2, np.int8), 1.5).dtype == np.float32


def test_arrays_are_checked_as_values_are():
    with pytest.raises(ShapeError, match="do not broadcast"):
        o.add(np.zeros((2, 3)), np.zeros(4))
    for wrong in ("text", object(), np.array(["a"])):
        with pytest.raises(DTypeError):
            o.neg(wrong)


def test_computing_raises_no_warnings():
    assert np.isnan(o.log(np.array(-1.0)))
    assert np.isinf(o.div(np.array(1.0), np.array(0.0)))
