import pytest

from noria.passes.eliminate_common_ops import eliminate_common_ops
from tests.passes.programs import apply, assert_same_numbers, program, types


def merged(first, second, inputs="input x: float32[N, 3]"):
    """The types left of two operators whose results are both outputs."""
    spec = "float32[N, 3]"
    p = program(
        f"{inputs}\n a: {spec} = {first}\n b: {spec} = {second}\n output a = a\n output b = b"
    )
    after, _ = apply(eliminate_common_ops, p)
    assert_same_numbers(p, after)
    return types(after)


def test_the_same_operator_on_the_same_inputs_is_computed_once():
    assert merged("exp(x)", "exp(x)") == ["exp"]
    assert merged("clip(x, low=0.0, high=1.0)", "clip(x, low=0.0, high=1.0)") == ["clip"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("exp(x)", "sin(x)"),
        ("clip(x, low=0.0)", "clip(x, low=-0.0)"),
        ("clip(x, low=1.0)", "clip(x, low=1)"),
        ("clip(x, low=1.0)", "clip(x, low=1.0, high=2.0)"),
        ("sub(x, z)", "sub(z, x)"),
    ],
)
def test_a_difference_in_type_inputs_or_attributes_keeps_both(first, second):
    both = "input x: float32[N, 3]\n input z: float32[N, 3]"
    assert len(merged(first, second, both)) == 2


def test_whole_chains_are_merged():
    before = program("""
      input x: float32[N]
      exp: float32[N] = exp(x)
      sin: float32[N] = sin(exp)
      exp_1: float32[N] = exp(x)
      sin_1: float32[N] = sin(exp_1)
      mul: float32[N] = mul(sin, sin_1)
      state s: float32[2] = fill(value=0.0)
      cos: float32[2] = cos(s)
      cos_1: float32[2] = cos(s)
      output y = mul
      output z = cos
      update s = cos_1
    """)
    after, report = apply(eliminate_common_ops, before)
    assert types(after) == ["exp", "sin", "mul", "cos"]
    assert report.fired == ["exp", "sin", "cos"]
    assert after.updates["s"] is after.outputs["z"]
    assert_same_numbers(before, after)


def test_constants_are_compared_by_their_bytes():
    one, two = "array(float32[2], 1.0, 2.0)", "array(float32[2], 1.0, 3.0)"
    text = """
      a: float32[2] = constant(value={})
      b: float32[2] = constant(value={})
      mul: float32[2] = mul(a, b)
      output y = mul
    """
    same, _ = apply(eliminate_common_ops, program(text.format(one, one)))
    other, _ = apply(eliminate_common_ops, program(text.format(one, two)))
    assert types(same) == ["constant", "mul"]
    assert types(other) == ["constant", "constant", "mul"]


def test_random_operators_are_never_merged():
    before = program("""
      input key: int64[2]
      uniform: float32[4] = uniform(key, shape=(4,))
      uniform_1: float32[4] = uniform(key, shape=(4,))
      sub: float32[4] = sub(uniform, uniform_1)
      output y = sub
    """)
    assert len(apply(eliminate_common_ops, before)[0].operators) == 3


COND = """
  input p: bool[]
  input x: float32[N]
  a: float32[N] = cond(p, x) {
    then(x_1: float32[N]) {
      exp: float32[N] = exp(x_1)
      exp_1: float32[N] = exp(x_1)
      mul: float32[N] = mul(exp, exp_1)
      return mul
    }
    otherwise(x_2: float32[N]) {
      return x_2
    }
  }
  b: float32[N] = cond(p, x) {
    then(z: float32[N]) {
      e: float32[N] = exp(z)
      m: float32[N] = mul(e, e)
      return m
    }
    otherwise(z_2: float32[N]) {
      return z_2
    }
  }
  add: float32[N] = add(a, b)
  output y = add
"""


def test_blocks_that_compute_the_same_are_equal_whatever_their_names():
    before = program(COND)
    after, _ = apply(eliminate_common_ops, before)
    assert types(after) == ["cond", "add"]
    assert [o.type for o in after.operators[0].blocks["then"].operators] == ["exp", "mul"]
    assert_same_numbers(before, after)


def test_blocks_that_differ_keep_their_operators_apart():
    before = program(COND.replace("m: float32[N] = mul(e, e)", "m: float32[N] = mul(e, z)"))
    assert types(apply(eliminate_common_ops, before)[0]) == ["cond", "cond", "add"]


def test_a_random_operator_inside_keeps_control_flow_apart():
    random = """
      input p: bool[]
      input k: int64[2]
      {}
      {}
      add: float32[2] = add(a, b)
      output y = add
    """
    cond = """{0}: float32[2] = cond(p, k) {{
      then({0}1: int64[2]) {{
        {0}u: float32[2] = uniform({0}1, shape=(2,))
        return {0}u
      }}
      otherwise({0}2: int64[2]) {{
        {0}v: float32[2] = normal({0}2, shape=(2,))
        return {0}v
      }}
    }}"""
    p = program(random.format(cond.format("a"), cond.format("b")))
    assert types(apply(eliminate_common_ops, p)[0]) == ["cond", "cond", "add"]
