"""Comparing Programs, up to the names of inner values."""

from dataclasses import replace

import numpy as np
import pytest

from noria.ir.compare import MAX_DIFF, difference, normal_lines, same, structural_hash
from noria.ir.emit import Builder
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, State
from noria.ir.text import parse_program
from tests.ir.programs import N, chain, emit_call, finish, layered, nested


def small(name="p", low=0.0, k=3, order=("x", "y"), inner="x", constant=1.0, swapped=False):
    program = Program(name)
    with Builder(program) as b:
        values = {n: b.input(n, (N, 3)) for n in order}
        y = o.clip(values[inner], low=low)
        for _ in range(k):
            y = o.tanh(y)
        array = np.full((30,), constant, np.float32)
        pair = (y, o.neg(y)) if not swapped else (o.neg(y), y)
        finish(program, out=o.mul(*pair), c=b.constant(array))
    return program


def test_equal_programs_are_the_same():
    for make in (layered, lambda: nested_with_op(), small):
        a, b = make(), make()
        assert same(a, b) and difference(a, b) is None
        assert structural_hash(a) == structural_hash(b)


def nested_with_op():
    program = Program("p")
    with Builder(program) as b:
        finish(program, out=o.tanh(b.input("x", ())))
    return program


def test_names_of_inner_values_do_not_matter():
    a = parse_program(
        "program a { input x: float32[] u: float32[] = tanh(x) output out = u }",
    )
    b = parse_program(
        "program b { input x: float32[] tanh_7: float32[] = tanh(x) output out = tanh_7 }",
    )
    assert same(a, b) and structural_hash(a) == structural_hash(b)


def test_names_inside_blocks_do_not_matter(call_op):
    def text(v, y):
        return f"""program p {{ input x: float32[]
            {y}: float32[] = test_call(x) {{
              body({v}: float32[]) {{ return {v} }}
            }} output out = {y} }}"""

    assert same(parse_program(text("a", "b")), parse_program(text("c", "d")))


def test_the_order_of_declarations_and_the_origin_do_not_matter():
    assert same(small(), small(name="q", order=("y", "x")))
    program = small()
    program.operators[0] = replace(program.operators[0], source=None, made_by="pass")
    program.outputs = dict(reversed(program.outputs.items()))
    assert same(small(), program)


def test_an_attribute_that_has_its_default_is_as_good_as_absent(own_ops):
    program = nested_with_op()
    before = structural_hash(program)
    tanh = own_ops.pop("tanh")

    @op(name="tanh")
    def newer(x, *, precision="full"):
        return x

    program.operators[0] = replace(program.operators[0], attrs={"precision": "full"})
    assert structural_hash(program) == before
    assert own_ops["tanh"] is not tanh


CHANGES = {
    "attribute": small(low=0.5),
    "type of attribute": small(low=0),
    "operator": small(k=4),
    "operand": small(inner="y"),
    "order of operands": small(swapped=True),
    "input": small(order=("x", "y", "z")),
    "constant": small(constant=2.0),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_matters_is_found(kind):
    a, b = small(), CHANGES[kind]
    assert not same(a, b) and structural_hash(a) != structural_hash(b)
    assert difference(a, b) is not None


def test_state_outputs_and_updates_matter():
    a, b = layered(), layered()
    b.outputs["other"] = b.outputs.pop("out")
    assert "output other" in difference(a, b)
    b = layered()
    del b.updates["step"]
    told = difference(a, b)
    assert told.startswith("the Programs have the same operators") and "-  update step" in told
    b = layered()
    b.state["step"] = State(b.state["step"].value, ("fill", {"value": 1}))
    assert "-  state step: int64[] = fill(value=0)" in difference(a, b)
    b.state["step"] = State(b.state["step"].value, trainable=True)
    assert not same(a, b)


def test_a_difference_names_the_first_operator_as_each_program_writes_it():
    a, b = small("old"), small("new", low=0.5)
    lines = difference(a, b).splitlines()
    assert lines[0] == "the Programs first differ at operator 0:"
    assert lines[1].startswith("  old: clip: float32[N, 3] = clip(x, low=0.0)    # ")
    assert lines[2].startswith("  new: clip: float32[N, 3] = clip(x, low=0.5)    # ")
    assert lines[3:5] == ["--- old", "+++ new"]
    assert "-  %clip: float32[N, 3] = clip(x, low=0.0)" in lines


def test_an_added_operator_shows_as_one_line_and_its_use():
    a, b = small(), small()
    with Builder(b):
        y = b.operators[0].outputs[0]
        added = o.abs(y)
    b.operators.insert(1, b.operators.pop())
    b.operators[2] = b.operators[2].with_inputs({y: added})
    told = difference(a, b)
    assert "the Programs first differ at operator 1:" in told
    changes = [s for s in told.splitlines()[3:] if s[0] in "+-" and s[:3] not in ("+++", "---")]
    assert changes == [
        "-  %tanh: float32[N, 3] = tanh(%clip)",
        "+  %abs: float32[N, 3] = abs(%clip)",
        "+  %tanh: float32[N, 3] = tanh(%abs)",
    ]


def test_a_missing_operator_is_told():
    a, b = chain(3), chain(2)
    assert "(no operator)" in difference(a, b)


def test_a_long_difference_is_cut():
    told = difference(chain(400), small())
    assert told.splitlines()[-1].startswith("... and ")
    assert len(told.splitlines()) < MAX_DIFF + 10


def test_a_difference_inside_a_block_is_found(call_op):
    def make(fn):
        program = Program("p")
        with Builder(program) as b:
            finish(program, out=emit_call(fn, b.input("x", (N,))))
        return program

    told = difference(make(o.tanh), make(o.neg))
    assert "first differ at operator 0" in told and "+      %neg: float32[N] = neg(%body)" in told


def test_normal_names_cannot_be_confused(own_ops):
    @op(name="tanh#1")
    def odd(x):
        return x

    @op(name="tanh_1")
    def plain(x):
        return x

    program = Program("p")
    with Builder(program) as b:
        x = b.input("%tanh", ())
        finish(program, out=plain(odd(o.tanh(o.tanh(x)))))
    names = [s.split(":")[0].strip() for s in normal_lines(program)[2:-2]]
    assert names == ["%tanh", "%tanh#1", '%"tanh#1"', "%tanh_1"]
    assert normal_lines(program)[1] == '  input "%tanh": float32[]'


def test_a_program_that_breaks_the_rules_can_still_be_compared():
    program = chain(3)
    del program.operators[1]
    assert "%undefined tanh" in difference(program, chain(3))


def test_nested_programs_differ_by_depth(call_op):
    assert len({structural_hash(nested(k)) for k in (1, 2, 3)}) == 3
