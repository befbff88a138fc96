import pytest

from noria.ir.opdef import op, registry
from noria.ir.program import Operator
from noria.passes.eliminate_dead_ops import eliminate_dead_ops
from tests.passes.programs import apply, assert_same_numbers, program, types

TEXT = """
  input x: float32[N]
  state s: float32[2] = fill(value=1.0)
  relu: float32[N] = relu(x)
  exp: float32[N] = exp(relu)
  neg: float32[N] = neg(exp)
  sin: float32[2] = sin(s)
  output y = relu
  update s = sin
"""


@pytest.fixture
def printing():
    """A throw-away op with an effect."""

    @op(name="test_print", effect="ordered")
    def show(x):
        """Tells what x is."""
        return x

    yield show
    del registry["test_print"]


def test_what_no_output_and_no_update_needs_goes():
    before = program(TEXT)
    after, report = apply(eliminate_dead_ops, before)
    assert types(after) == ["relu", "sin"]
    assert report.fired == ["exp", "neg"]
    assert_same_numbers(before, after)


def test_inputs_and_state_stay():
    after, _ = apply(eliminate_dead_ops, program(TEXT.replace("update s = sin", "")))
    assert list(after.inputs) == ["x"] and list(after.state) == ["s"]


def test_an_effect_keeps_its_operator_and_what_that_needs(printing):
    p = program(TEXT)
    exp = p.operators[1].outputs[0]
    shown = type(exp)("shown", exp.shape, exp.dtype)
    p.block.operators.append(Operator("test_print", (exp,), (shown,)))
    assert types(eliminate_dead_ops(p)) == ["relu", "exp", "sin", "test_print"]
