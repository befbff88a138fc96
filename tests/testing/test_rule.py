"""`check_rule` is only worth something if it fails: each test here plants one fault in a pass."""

import textwrap

import pytest

from noria.core.errors import ArgumentError, NoriaError
from noria.ir.opdef import vocabulary as o
from noria.ir.text import parse_program
from noria.passes.rule import Rule, rewrite
from noria.passes.simplify import simplify
from noria.testing.rule import check_rule, check_same_numbers, pictures

GIVEN = """
  program p {
    input x: float32[N, 3]
    input y: float32[N, 3]
    exp: float32[N, 3] = exp(x)
    exp_1: float32[N, 3] = exp(y)
    mul: float32[N, 3] = mul(exp, exp_1)
    output z = mul
  }
"""
RESULT = """
  program p {
    input x: float32[N, 3]
    input y: float32[N, 3]
    sum: float32[N, 3] = add(x, y)
    exp: float32[N, 3] = exp(sum)
    output z = exp
  }
"""
# exp(x) exp(y) = exp(x + y), and a wrong one
MERGE = Rule(lambda x, y: o.mul(o.exp(x), o.exp(y)), None, lambda x, y: o.exp(o.add(x, y)), "merge")
WRONG = Rule(lambda x, y: o.mul(o.exp(x), o.exp(y)), None, lambda x, y: o.exp(o.mul(x, y)), "wrong")


def test_a_right_rule_passes():
    check_rule(MERGE, GIVEN, RESULT)


def test_what_comes_out_must_be_the_picture():
    with pytest.raises(AssertionError, match=r"wrong: another Program comes out(.|\n)*mul"):
        check_rule(WRONG, GIVEN, RESULT)


def test_a_rule_that_does_not_fire_is_found():
    never = Rule(MERGE.pattern, lambda m: "not today", MERGE.replacement, "never")
    with pytest.raises(AssertionError, match="another Program comes out"):
        check_rule(never, GIVEN, RESULT)


def test_a_picture_that_computes_something_else_is_found():
    wrong = RESULT.replace("add(x, y)", "mul(x, y)")
    with pytest.raises(AssertionError, match="the result of the pass, z"):
        check_rule(WRONG, GIVEN, wrong)
    check_rule(WRONG, GIVEN, wrong, same_numbers=False)


def test_a_pass_that_changes_its_argument_is_found():
    def careless(program):
        after = MERGE(program)
        program.outputs.clear()
        return after

    with pytest.raises(AssertionError, match="careless changed the Program it was given"):
        check_rule(careless, GIVEN, RESULT)


def test_a_pass_whose_result_breaks_the_rules_of_the_ir_is_found():
    def backwards(program):
        out = MERGE(program).copy()
        out.block.operators.reverse()
        return out

    with pytest.raises(NoriaError, match="defined"):
        check_rule(backwards, GIVEN, RESULT)


def test_the_pictures_of_a_docstring_are_checked():
    def merge_exponentials(program):
        return rewrite(program, [MERGE], "merge_exponentials")

    given, result = (textwrap.indent(t.strip("\n"), "    ") for t in (GIVEN, RESULT))
    doc = f"One exponential.\n\nGiven:\n{given}\nResult:\n{result}\n\nThe end."
    merge_exponentials.__doc__ = doc
    check_rule(merge_exponentials)
    merge_exponentials.__doc__ = doc.replace("add(x", "sub(x")
    with pytest.raises(AssertionError, match="merge_exponentials: another Program"):
        check_rule(merge_exponentials)


@pytest.mark.parametrize("doc", [None, "No picture.", "Half of one.\n\nGiven:\n    program p {\n}"])
def test_a_pass_without_a_whole_picture_is_an_error(doc):
    def nothing(program):
        return program

    nothing.__doc__ = doc
    with pytest.raises(ArgumentError, match="nothing has no picture"):
        check_rule(nothing)
    with pytest.raises(ArgumentError, match="two texts"):
        check_rule(nothing, GIVEN)


def test_updates_and_sizes_are_compared_too():
    text = """
      program p {{
        input x: float32[2*K]
        state s: float32[4] = fill(value=0.0)
        reshape: float32[4] = reshape(x, shape=[4])
        add: float32[4] = {op}(s, reshape)
        output y = reshape
        update s = add
      }}
    """
    add, sub = (parse_program(text.format(op=op)) for op in ("add", "sub"))
    check_same_numbers(add, add, sizes={"K": 2})
    with pytest.raises(AssertionError, match="the result of the pass, s"):
        check_same_numbers(add, sub, sizes={"K": 2})


def test_an_input_that_a_pass_invents_is_found():
    before, after = parse_program(RESULT.replace("y", "w")), parse_program(RESULT)
    with pytest.raises(AssertionError, match="invents y"):
        check_same_numbers(before, after)


def test_a_pass_of_noria_does_what_its_pictures_show():
    assert len(pictures(simplify)) >= 2
    check_rule(simplify)
