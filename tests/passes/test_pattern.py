import pytest

from noria.core.errors import ArgumentError, ProgramError
from noria.ir.opdef import vocabulary as o
from noria.passes.pattern import ANY, Pattern, same_number
from tests.passes.programs import program


def find(fn, p, at=-1):
    """The pattern's fit at an operator of the Program."""
    producer = {v: op for op in p.operators for v in op.outputs}
    return Pattern(fn).match(p.operators[at], producer)


LINEAR = """
  input x: float32[N, 3]
  input w: float32[5, 3]
  input b: float32[5]
  matmul: float32[N, 5] = matmul(x, w, transpose_y=true)
  add: float32[N, 5] = add({})
  output y = add
"""


def product_plus_bias(x, w, b):
    return o.add(o.matmul(x, w, transpose_y=True), b)


@pytest.mark.parametrize("operands", ["matmul, b", "b, matmul"])
def test_a_commutative_op_is_tried_both_ways(operands):
    found = find(product_plus_bias, program(LINEAR.format(operands)))
    assert {n: v.name for n, v in found.values.items()} == {"x": "x", "w": "w", "b": "b"}
    assert [op.type for op in found.operators.values()] == ["add", "matmul"]


def test_an_op_that_does_not_commute_is_matched_as_written():
    p = program("""
      input x: float32[N]
      exp: float32[N] = exp(x)
      sub: float32[N] = sub(x, exp)
      output y = sub
    """)
    assert find(lambda x, y: o.sub(y, o.exp(x)), p) is not None
    assert find(lambda x, y: o.sub(o.exp(x), y), p) is None


def test_a_name_that_occurs_twice_stands_for_one_value():
    text = """
      input x: float32[N]
      input z: float32[N]
      sigmoid: float32[N] = sigmoid(x)
      mul: float32[N] = mul(sigmoid, {})
      output y = mul
    """

    def swish(x):
        return o.mul(x, o.sigmoid(x))

    assert find(swish, program(text.format("x"))) is not None
    assert find(swish, program(text.format("z"))) is None


def test_a_node_that_is_used_twice_matches_one_operator():
    text = """
      input x: float32[N]
      exp: float32[N] = exp(x)
      exp_1: float32[N] = exp(x)
      mul: float32[N] = mul(exp, {})
      output y = mul
    """

    def twice(x):
        e = o.exp(x)
        return o.mul(e, e)

    assert find(twice, program(text.format("exp"))) is not None
    assert find(twice, program(text.format("exp_1"))) is None


def test_a_number_matches_a_fill_of_that_number():
    text = """
      input x: float32[N]
      fill: float32[] = fill(shape=(), value={})
      mul: float32[N] = mul(x, fill)
      output y = mul
    """
    assert find(lambda x: o.mul(x, 2), program(text.format("2.0"))) is not None
    assert find(lambda x: o.mul(x, 2.0), program(text.format("2.5"))) is None
    assert find(lambda x: o.mul(x, 2.0), program(LINEAR.format("matmul, b"))) is None


def test_zeros_of_both_signs_are_different_numbers():
    assert same_number(0, 0.0) and same_number(-0.0, -0.0) and same_number(1, 1.0)
    assert not same_number(0.0, -0.0)


@pytest.mark.parametrize("bias", ["b", "_"])
def test_a_parameter_with_default_none_may_be_an_absent_input(bias):
    p = program(f"""
      input x: float32[N, 3]
      input w: float32[5, 3]
      input b: float32[5]
      linear: float32[N, 5] = linear(x, w, {bias})
      relu: float32[N, 5] = relu(linear)
      output y = relu
    """)
    found = find(lambda x, w, b=None: o.relu(o.linear(x, w, b)), p)
    assert (found.values["b"] is None) == (bias == "_")
    needed = find(lambda x, w, b: o.relu(o.linear(x, w, b)), p)
    absent = find(lambda x, w: o.relu(o.linear(x, w)), p)
    assert (needed is None, absent is None) == (bias == "_", bias == "b")


CLIP = program("""
  input x: float32[N]
  clip: float32[N] = clip(x, low=-1.0, high=1.0)
  clip_1: float32[N] = clip(clip, low=-1.0, high=2.0)
  output y = clip_1
""")


def test_attributes_are_bound_by_keyword_parameters():
    found = find(lambda x, *, low, high: o.clip(x, low=low, high=high), CLIP)
    assert found.attrs == {"low": -1.0, "high": 2.0} and not found.fault


def test_an_attribute_bound_twice_must_be_the_same():
    def pattern(x, *, low, high, other):
        return o.clip(o.clip(x, low=low, high=other), low=low, high=high)

    def clash(x, *, low, high):
        return o.clip(o.clip(x, low=low, high=high), low=low, high=high)

    assert not find(pattern, CLIP).fault
    assert find(clash, CLIP).fault == "high of clip is 2.0, not 1.0"


def test_what_is_not_mentioned_must_have_its_default_and_any_takes_all():
    assert find(lambda x: o.clip(x, low=-1.0), CLIP).fault == "high of clip is 2.0, not None"
    assert not find(lambda x: o.clip(x, low=ANY, high=ANY), CLIP).fault


def test_an_op_with_several_outputs_stands_for_the_first_and_can_be_unpacked():
    text = """
      input x: float32[N, 4]
      input key: int64[2]
      dropout, mask: float32[N, 4], bool[N, 4] = dropout(x, key)
      {}
      output y = last
    """
    first = program(text.format("last: float32[N, 4] = relu(dropout)"))
    second = program(text.format("last: bool[N, 4] = logical_not(mask)"))

    def negated_mask(x, key):
        _, mask = o.dropout(x, key)
        return o.logical_not(mask)

    assert find(lambda x, key: o.relu(o.dropout(x, key)), first) is not None
    assert find(negated_mask, second) is not None
    assert find(lambda x, key: o.logical_not(o.dropout(x, key)), second) is None


def test_an_op_with_a_shortcut_is_recorded_all_the_same():
    p = program("""
      input x: float32[N, 4]
      sum_to: float32[4] = sum_to(x, shape=(4,))
      output y = sum_to
    """)
    assert find(lambda x, *, shape: o.sum_to(x, shape=shape), p).attrs == {"shape": (4,)}


def test_an_input_of_the_program_matches_no_op():
    p = program("""
      input x: float32[N]
      relu: float32[N] = relu(x)
      output y = relu
    """)
    assert find(lambda x: o.relu(o.exp(x)), p) is None


def test_methods_of_values_may_be_used():
    assert Pattern(lambda x, w: (x @ w).relu()).root.type == "relu"


@pytest.mark.parametrize("fn", [lambda x: x, lambda x: 3.0, lambda x: None])
def test_a_pattern_must_return_what_an_op_gives(fn):
    with pytest.raises(ProgramError, match="pattern"):
        Pattern(fn)


def test_patterns_that_cannot_be_meant_are_refused():
    with pytest.raises(ProgramError, match=r"not \*xs"):
        Pattern(lambda *xs: o.add(*xs))
    with pytest.raises(ArgumentError, match="no attribute 'slope'"):
        Pattern(lambda x: o.relu(x, slope=1.0))
    with pytest.raises(ProgramError, match="parameters"):
        Pattern(lambda x: o.add(x, CLIP.block.inputs[0]))

    def too_wide(a, b):
        for _ in range(7):
            a = o.add(a, b)
        return a

    with pytest.raises(ProgramError, match="commutative"):
        Pattern(too_wide)
