"""The rules of the IR: what keeps them passes, each breach is told with its place."""

import time
from dataclasses import replace

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import DTypeError, ProgramError
from noria.core.shapes import Check
from noria.ir.emit import Builder
from noria.ir.literals import MAX_DEPTH
from noria.ir.opdef import collect_checks, note_checks, op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Block, Operator, Program, Spec, State, Value
from noria.ir.verify import verify
from noria.ops.control import cond
from tests.ir.programs import N, chain, emit_call, finish, layered, nested


def simple():
    """x, y -> add -> tanh, with state and an update."""
    program = Program("simple")
    with Builder(program) as b:
        x, y = b.input("x", (N, 3)), b.input("y", (3,))
        w = b.state("w", (3,))
        total = o.add(x, y)
        finish(program, out=o.tanh(total))
        b.update(w, o.mul(w, 0.5))
    return program


def changed(program, place, **fields):
    """The Program with one operator replaced by a copy that differs in some fields."""
    program.operators[place] = replace(program.operators[place], **fields)
    return program


def refused(program, match):
    with pytest.raises(ProgramError, match=match) as told:
        verify(program)
    return told.value


def test_sound_programs_pass(call_op):
    for program in (Program(), simple(), layered(), nested(4)):
        verify(program)


def test_a_value_must_be_defined_before_it_is_used():
    program = simple()
    program.operators[0], program.operators[1] = program.operators[1], program.operators[0]
    error = refused(program, "'add' is not defined before it is used")
    assert error.where.startswith("tanh at ") and "test_verify.py:" in error.where
    assert error.got.startswith("it is made only later, by add at ")


def test_a_value_of_another_program_is_not_defined_here():
    program, other = simple(), simple()
    changed(program, 1, inputs=other.operators[1].inputs)
    assert "another value has this name" in refused(program, "'add' is not defined").got
    changed(program, 1, inputs=(Value("far", (N, 3)),))
    assert "no operator, input or state" in refused(program, "'far' is not defined").got


def test_a_value_is_defined_once():
    program = simple()
    program.operators.append(program.operators[0])
    assert refused(program, "'add' is defined twice").where.startswith("add at ")


def test_names_are_unique_in_a_block():
    program = simple()
    old = program.operators[1]
    changed(program, 1, outputs=(Value("x", (N, 3)),))
    program.outputs["out"] = program.operators[1].outputs[0]
    assert refused(program, "two values are called 'x'").where == old.where()


@pytest.mark.parametrize("name", ["", "x" * 1001])
def test_names_are_neither_empty_nor_endless(name):
    program = Program()
    program.block.inputs.append(Value(name, ()))
    refused(program, "empty or too long")


def test_ops_are_known():
    program = changed(simple(), 1, type="tahn")
    error = refused(program, "unknown op 'tahn'")
    assert "'tanh'" in error.hint and error.where.startswith("tahn at ")


def test_inputs_follow_the_schema():
    program = simple()
    x, y = program.block.inputs
    for inputs in [(x,), (x, y, x), (x, None), ()]:
        error = refused(changed(simple_on(x, y), 0, inputs=inputs), "other inputs than its schema")
        assert error.expected == "add(x, y)"
    assert error.got == "no inputs"


def simple_on(x, y):
    program = simple()
    program.block.inputs[:] = [x, y]
    return program


def test_optional_inputs_may_be_absent_and_variadic_ones_may_not(own_ops):
    @op
    def test_inputs(x, w=None, *rest):
        return x

    program = Program()
    with Builder(program) as b:
        x = b.input("x", ())
        finish(program, out=test_inputs(x, None, x, x))
    verify(program)
    refused(changed(program, 0, inputs=(x, None, None)), "other inputs")
    refused(changed(program, 0, inputs=(x,)), "other inputs")


def test_attributes_are_those_of_the_schema():
    program = Program()
    with Builder(program) as b:
        finish(program, out=o.clip(b.input("x", ()), low=0.0))
    error = refused(changed(program, 0, attrs={"lo": 0.0}), "clip has no attribute 'lo'")
    assert "'low'" in error.hint
    error = refused(changed(program, 0, attrs={"low": 0.0}), "clip lacks the attribute 'high'")
    assert "bind_attrs" in error.hint


@pytest.mark.parametrize(
    "value", [[1], {1: 2}, np.float32(1), b"x", object(), (1, [2]), 2**64, ((2**65,),), Spec(())]
)
def test_attributes_are_plain_data(value):
    program = Program()
    with Builder(program) as b:
        finish(program, out=o.clip(b.input("x", ()), low=0.0))
    error = refused(changed(program, 0, attrs={"low": value, "high": None}), "plain|64 bits")
    assert error.where.startswith("attribute 'low' of clip")


def test_tuples_are_not_endlessly_deep():
    value = ()
    for _ in range(MAX_DEPTH + 1):
        value = (value,)
    program = Program()
    with Builder(program) as b:
        finish(program, out=o.clip(b.input("x", ())))
    refused(changed(program, 0, attrs={"low": value, "high": None}), "tuples are inside each")


def test_recorded_specs_are_those_of_inference():
    for wrong in (Value("add", (N, 4)), Value("add", (N, 3), "float64"), Value("add", (3,))):
        program = changed(simple(), 0, outputs=(wrong,))
        error = refused(program, "add gives other outputs than recorded")
        assert error.expected == "float32[N, 3]"
        assert error.got == f"add: {wrong}"
    program = changed(simple(), 0, outputs=(Value("a", (N, 3)), Value("b", ())))
    refused(program, "other outputs than recorded")


def test_sizes_that_may_be_equal_are_let_pass():
    program = simple()
    wider = Value("add", (symbol("M"), 3))
    changed(program, 0, outputs=(wider,))
    changed(program, 1, inputs=(wider,), outputs=(Value("tanh", (N, 3)),))
    finish(program, out=program.operators[1].outputs[0])
    verify(program)
    changed(program, 1, outputs=(Value("tanh", (symbol("M") + 1, 3)),))
    refused(program, "tanh gives other outputs")


def test_what_inference_refuses_is_told():
    program = simple()
    x = program.block.inputs[0]
    wrong = Value("wrong", (4,))
    program.block.inputs.append(wrong)
    error = refused(changed(program, 0, inputs=(x, wrong)), "add does not fit: shapes do not")
    assert error.where.startswith("add at ")


def test_inference_that_breaks_is_no_crash(own_ops):
    @op
    def test_breaks(x, *, k=1):
        return Spec((1 // k,))

    program = Program()
    with Builder(program) as b:
        finish(program, out=test_breaks(b.input("x", ())))
    error = refused(changed(program, 0, attrs={"k": 0}), "test_breaks cannot be inferred")
    assert error.got.startswith("ZeroDivisionError")
    refused(changed(program, 0, attrs={"k": "one"}), "cannot be inferred")


def test_checks_of_inference_do_not_leak(own_ops):
    @op
    def test_checked(x):
        note_checks([Check(1, 1)])
        return x

    program = Program()
    with Builder(program) as b:
        finish(program, out=test_checked(b.input("x", ())))
    with collect_checks([]) as collected:
        verify(program)
    assert collected == []


def test_outputs_and_updates_exist():
    program = simple()
    program.outputs["lost"] = Value("lost", ())
    assert refused(program, "'lost' is not defined").where == "output 'lost'"
    program = simple()
    program.updates["v"] = program.operators[0].outputs[0]
    assert refused(program, "'v' is updated but is not a state").hint == "one of w"


def test_an_update_has_the_spec_of_its_state():
    program = simple()
    program.updates["w"] = program.outputs["out"]
    error = refused(program, "updated with a value of another kind")
    assert (error.expected, error.got) == ("float32[3]", "tanh: float32[N, 3]")


def test_state_is_sound():
    program = simple()
    value = program.state["w"].value
    program.state["w"] = State(value, ("fil", {}))
    assert refused(program, "unknown op 'fil'").where == "initialiser of state 'w'"
    program.state["w"] = State(value, ("fill", {"valeu": 0}))
    assert "'value'" in refused(program, "fill has no attribute 'valeu'").hint
    program.state["w"] = State(value, ("fill", {"value": np.float32(0)}))
    refused(program, "not plain data")
    program.state["w"] = State(Value("v", (3,)))
    refused(program, "a state has two names")


# ---- nested blocks -----------------------------------------------------------------------------


def test_a_block_is_closed(call_op):
    program = Program()
    with Builder(program) as b:
        x = b.input("x", (2,))
        finish(program, out=emit_call(o.tanh, x))
    body = program.operators[0].blocks["body"]
    body.operators[0] = replace(body.operators[0], inputs=(x,))
    assert refused(program, "'x' is not defined").where.startswith("tanh at ")


def test_blocks_follow_the_schema(call_op):
    program = Program()
    with Builder(program) as b:
        finish(program, out=emit_call(o.tanh, b.input("x", (2,))))
    body = program.operators[0].blocks["body"]
    refused(changed(program, 0, blocks={}), "test_call has other blocks than its schema")
    refused(changed(program, 0, blocks={"body": body, "more": body}), "other blocks")
    refused(changed(simple(), 0, blocks={"body": body}), "add has other blocks")


def test_control_flow_checks_what_goes_into_its_blocks():
    program = Program()
    with Builder(program) as b:
        x, p = b.input("x", (2,)), b.input("p", (), "bool")
        finish(program, out=cond(p, lambda: o.tanh(x), lambda: x))
    verify(program)
    operator = program.operators[0]
    refused(changed(program, 0, inputs=operator.inputs[:1]), "cond does not fit")


def test_a_block_that_holds_itself_is_refused(call_op):
    program = Program()
    block = Block()
    block.operators.append(Operator("test_call", (), (), {}, {"body": block}))
    program.block.operators.append(block.operators[0])
    refused(program, f"more than {MAX_DEPTH} blocks")


def test_an_error_of_inference_is_kept_as_the_cause():
    program = simple()
    flag = Value("flag", (3,), "bool")
    program.block.inputs.append(flag)
    error = refused(changed(program, 0, inputs=(flag, flag)), "add does not fit")
    assert isinstance(error.__cause__, DTypeError)


def test_four_thousand_operators_take_less_than_half_a_second():
    program = chain(4000)
    start = time.perf_counter()
    verify(program)
    assert time.perf_counter() - start < 0.5
