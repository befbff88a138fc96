import time

import numpy as np
import pytest

from noria.core.errors import ProgramError
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.verify import verify
from noria.passes.pattern import ANY
from noria.passes.rule import Rule, rewrite
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

FUSE = Rule(
    lambda x, w, b: o.add(o.matmul(x, w, transpose_y=True), b),
    lambda m: None if m["b"].ndim == 1 else f"{m['b'].name} is not a vector",
    lambda x, w, b: o.linear(x, w, b),
    "product + bias",
)

TEXT = """
  input x: float32[N, 3]
  input w: float32[5, 3]
  input b: float32{bias}
  matmul: float32[N, 5] = matmul(x, w{how})    # model.py:7
  add: float32[N, 5] = add(matmul, b)    # model.py:8
  relu: float32[N, 5] = relu(add)
  {more}
  output y = relu
"""


def product(bias="[5]", how=", transpose_y=true", more=""):
    return program(TEXT.format(bias=bias, how=how, more=more))


def test_a_rule_replaces_what_it_matches():
    before = product()
    after, report = apply(FUSE, before)
    assert types(after) == ["linear", "relu"]
    assert report.fired == ["add at model.py:8 (product + bias)"] and not report.declined
    assert_same_numbers(before, after)
    assert types(before) == ["matmul", "add", "relu"]


def test_a_replacement_keeps_the_users_line_and_names_the_pass():
    after = rewrite(product(), [FUSE], "my_pass")
    assert after.operators[0].where() == "linear at model.py:8, made by my_pass"


def test_what_the_check_says_is_the_reason_for_declining():
    after, report = apply(FUSE, product(bias="[1, 5]"))
    assert types(after) == ["matmul", "add", "relu"]
    assert report.declined == [("add at model.py:8", "b is not a vector")]


@pytest.mark.parametrize(
    "more", ["exp: float32[N, 5] = exp(matmul)\n  output z = exp", "output z = matmul"]
)
def test_a_value_in_between_that_is_used_elsewhere_is_not_taken_away(more):
    after, report = apply(FUSE, product(more=more))
    assert types(after)[:2] == ["matmul", "add"]
    assert reasons(report) == ["value matmul is used elsewhere"]


def test_an_update_is_a_use():
    p = program("""
      input x: float32[2, 2]
      state s: float32[2, 2] = fill(value=0.0)
      input b: float32[2]
      matmul: float32[2, 2] = matmul(x, x, transpose_y=true)
      add: float32[2, 2] = add(matmul, b)
      output y = add
      update s = matmul
    """)
    assert reasons(apply(FUSE, p)[1]) == ["value matmul is used elsewhere"]


def test_a_near_match_tells_which_attribute_differs():
    p = program("""
      input x: float32[N, 3]
      input w: float32[3, 5]
      input b: float32[5]
      matmul: float32[N, 5] = matmul(x, w)
      add: float32[N, 5] = add(matmul, b)
      output y = add
    """)
    assert reasons(apply(FUSE, p)[1]) == ["transpose_y of matmul is False, not True"]


def test_an_operator_of_another_kind_is_no_near_match():
    p = program("""
      input x: float32[N]
      exp: float32[N] = exp(x)
      add: float32[N] = add(exp, x)
      output y = add
    """)
    assert not apply(FUSE, p)[1].declined


def test_a_reason_that_is_empty_is_not_told():
    quiet = Rule(FUSE.pattern, lambda m: "", FUSE.replacement)
    after, report = apply(quiet, product())
    assert len(after.operators) == 3 and not report.declined


def test_a_shared_rule_leaves_in_place_what_others_use():
    rule = Rule(
        lambda x: o.transpose(o.transpose(x, perm=(1, 0)), perm=(1, 0)),
        None,
        lambda x: x,
        shared=True,
    )
    before = program("""
      input x: float32[N, 3]
      transpose: float32[3, N] = transpose(x, perm=(1, 0))
      transpose_1: float32[N, 3] = transpose(transpose, perm=(1, 0))
      exp: float32[N, 3] = exp(transpose_1)
      output y = exp
      output z = transpose
    """)
    after, _ = apply(rule, before)
    assert types(after) == ["transpose", "exp"]
    assert_same_numbers(before, after)


def test_rules_apply_to_what_other_rules_made():
    activate = Rule(
        lambda x, w, b: o.relu(o.linear(x, w, b)),
        None,
        lambda x, w, b: o.fused_linear(x, w, b, activation="relu"),
    )
    before = product()
    after = rewrite(before, [activate, FUSE], "test")
    assert types(after) == ["fused_linear"]
    assert_same_numbers(before, after)


def test_an_output_can_become_an_input_of_the_program():
    rule = Rule(lambda x: o.neg(o.neg(x)), None, lambda x: x)
    p = program("""
      input x: float32[N]
      neg: float32[N] = neg(x)
      neg_1: float32[N] = neg(neg)
      neg_2: float32[N] = neg(neg_1)
      neg_3: float32[N] = neg(neg_2)
      output y = neg_3
    """)
    after, _ = apply(rule, p)
    assert not after.operators and after.outputs["y"] is after.inputs["x"]


def test_every_output_of_the_anchor_can_be_given():
    before = program("""
      input x: float32[N, 4]
      split, second: float32[N, 2], float32[N, 2] = split(x, num=2, axis=1)
      add: float32[N, 2] = add(split, second)
      output y = add
    """)

    def halves(x):
        return [o.slice(x, axes=(1,), starts=(i,), stops=(i + 2,)) for i in (0, 2)]

    def first(x):
        return halves(x)[0]

    def pattern(x, *, num):
        return o.split(x, num=num, axis=1)

    after, _ = apply(Rule(pattern, None, halves), before)
    assert types(after) == ["slice", "slice", "add"]
    assert_same_numbers(before, after)
    with pytest.raises(ProgramError, match="nothing for 'second'"):
        rewrite(before, [Rule(pattern, None, first)], "test")


COND = """
  input p: bool[]
  input x: float32[N, 3]
  input w: float32[5, 3]
  input b: float32[5]
  cond: float32[N, 5] = cond(p, x, w, b) {
    then(x_1: float32[N, 3], w_1: float32[5, 3], b_1: float32[5]) {
      matmul: float32[N, 5] = matmul(x_1, w_1, transpose_y=true)
      add: float32[N, 5] = add(matmul, b_1)
      return add
    }
    otherwise(x_2: float32[N, 3], w_2: float32[5, 3], b_2: float32[5]) {
      matmul_1: float32[N, 5] = matmul(x_2, w_2, transpose_y=true)
      return matmul_1
    }
  }
  output y = cond
"""


def test_rules_apply_inside_control_flow():
    before = program(COND)
    after, _ = apply(FUSE, before)
    (cond,) = after.operators
    assert [o.type for o in cond.blocks["then"].operators] == ["linear"]
    assert cond.blocks["otherwise"] is before.operators[0].blocks["otherwise"]
    for p in (0, 1):
        assert_same_numbers(before, after, feeds={"p": np.array(bool(p))})


def test_constants_of_a_replacement_inside_control_flow_are_made_there():
    rule = Rule(lambda x, w: o.matmul(x, w, transpose_y=True), None, _tripled_third, "thirds")
    after, report = apply(rule, program(COND))
    assert len(report.fired) == 2
    assert "fill" in [o.type for o in after.operators[0].blocks["then"].operators]


def _tripled_third(x, w):
    return o.mul(o.matmul(o.mul(x, 0.25), o.transpose(w)), 4.0)


def test_nothing_is_copied_when_no_rule_fires():
    before = product(bias="[1, 5]")
    after = rewrite(before, [FUSE], "test")
    assert after.operators == before.operators


def test_a_rule_that_changes_a_shape_or_dtype_is_an_error():
    wrong_shape = Rule(lambda x: o.relu(x), None, lambda x: o.reduce_sum(x), "wrong")
    wrong_dtype = Rule(lambda x: o.relu(x), None, lambda x: o.cast(x, dtype="float64"), "wrong")
    for rule in (wrong_shape, wrong_dtype):
        with pytest.raises(ProgramError, match="rule 'wrong' of pass 'test' changes a value"):
            rewrite(product(), [rule], "test")


def test_rules_that_never_end_are_an_error():
    endless = Rule(lambda x: o.relu(x), None, lambda x: o.relu(o.relu(x)), "endless")
    with pytest.raises(ProgramError, match="do not end"):
        rewrite(product(), [endless], "test")


def test_a_match_tells_numbers_and_what_no_step_changes():
    p = program("""
      input x: float32[N]
      state fixed: float32[] = fill(value=1.0)
      state moving: float32[] = fill(value=1.0)
      fill: float32[] = fill(shape=(), value=2.0)
      exp: float32[] = exp(fixed)
      mul: float32[N] = mul(x, fill)
      mul_1: float32[N] = mul(mul, exp)
      mul_2: float32[N] = mul(mul_1, moving)
      output y = mul_2
      update moving = exp
    """)
    seen = []

    def look(m):
        seen.append((m.number("y"), m.is_fixed("y"), m.is_fixed("x")))
        return "only looking"

    after, report = apply(Rule(lambda x, y: o.mul(x, y), look, lambda x: x), p)
    assert after.operators == p.operators and len(report.declined) == 3
    # Each product is looked at from both sides.
    assert seen[::2] == [(2.0, True, False), (None, True, False), (None, False, False)]
    assert seen[1::2] == [(None, False, True), (None, False, True), (None, False, False)]


def test_a_replacement_may_look_at_the_match():
    rule = Rule(
        lambda x: o.sqrt(o.clip(x, low=ANY, high=ANY)),
        None,
        lambda x, match: o.clip(o.sqrt(o.abs(x)), **match.of("clip").attrs),
    )
    p = program("""
      input x: float32[N]
      clip: float32[N] = clip(x, low=0.0, high=1.0)
      sqrt: float32[N] = sqrt(clip)
      output y = sqrt
    """)
    after, _ = apply(rule, p)
    assert types(after) == ["abs", "sqrt", "clip"]
    assert after.operators[2].attrs == {"low": 0.0, "high": 1.0}


def test_a_dead_value_does_not_keep_others_alive_after_a_rewrite():
    p = program("""
      input x: float32[N]
      neg: float32[N] = neg(x)
      neg_1: float32[N] = neg(neg)
      exp: float32[N] = exp(neg_1)
      dead: float32[N] = tanh(exp)
      output y = exp
    """)
    after, _ = apply(Rule(lambda x: o.neg(o.neg(x)), None, lambda x: x), p)
    assert types(after) == ["exp"]


def test_four_thousand_operators_and_ten_rules_take_less_than_a_second():
    p = Program("wide")
    with Builder(p) as b:
        x, w = b.input("x", (4, 4)), b.input("w", (4, 4))
        bias = b.input("b", (4,))
        for _ in range(1000):
            x = o.relu(o.add(o.matmul(x, w, transpose_y=True), bias))
            x = o.tanh(x)
        p.outputs = {"y": x}
    names = ("tanh", "exp", "sin", "cos", "log", "sqrt", "square", "sign")

    def chain(name):
        fn = getattr(o, name)
        return Rule(lambda x: fn(o.relu(fn(x))), None, lambda x: fn(x), name)

    others = [chain(n) for n in names]
    start = time.process_time()
    after = rewrite(p, [FUSE, *others, Rule(lambda x: o.neg(x), None, lambda x: x)], "test")
    assert time.process_time() - start < 1.0
    assert len(after.operators) == 3000
    verify(after)


def test_a_rule_whose_operators_only_another_rule_makes_still_fires():
    """None of its operators is there at first, so it is not tried until they are."""
    first = Rule(lambda x: o.neg(x), None, lambda x: o.relu(o.abs(x)), "first")
    second = Rule(lambda x: o.relu(o.abs(x)), None, lambda x: o.exp(x), "second")
    before = program("input x: float32[3]\n  neg: float32[3] = neg(x)\n  output y = neg")
    assert types(rewrite(before, [first, second], "both")) == ["exp"]
    assert rewrite(before, [second], "one") is before
