"""The reference run of a Program."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import EngineError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import bind_attr, block_function, run_program
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec
from tests.ir.programs import N, emit_call, finish, layered, nested, state_of_layered

T = symbol("T")


def test_outputs_and_updates_are_those_of_numpy():
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    state = state_of_layered()
    outputs, updates = run_program(layered(), {"x": x}, state)
    y = np.maximum(np.tanh(x @ state["fc.weight"]), np.float32(-0.25))
    y = y + np.array([1.5, -0.0, np.nan, 1e-30], np.float32)
    expected = y @ np.arange(20, dtype=np.float32).reshape(4, 5)
    np.testing.assert_allclose(outputs["out"], expected, rtol=1e-6)
    np.testing.assert_array_equal(outputs["size"], np.ones((3, 2), np.int64))
    np.testing.assert_array_equal(updates["fc.weight"], state["fc.weight"] / 2)
    assert updates["step"] == 4 and state["step"] == 3


def test_sizes_in_attributes_are_bound():
    assert bind_attr(((2 * N + 1, "a"), 3, None), {"N": 4}) == ((9, "a"), 3, None)


def test_sizes_are_bound_whatever_the_order_of_the_feeds():
    program = Program("p")
    with Builder(program) as b:
        half, whole = b.input("half", (T // 2,)), b.input("whole", (T,))
        finish(program, a=o.neg(half), b=o.fill(shape=(T // 2,), value=2.0), c=o.neg(whole))
    got, _ = run_program(program, {"half": np.zeros(3), "whole": np.zeros(7)}, {})
    assert got["b"].shape == (3,)
    with pytest.raises(ShapeError):
        run_program(program, {"half": np.zeros(3), "whole": np.zeros(9)}, {})


def test_feeds_that_disagree_on_a_size_are_refused():
    program = Program("p")
    with Builder(program) as b:
        finish(program, out=o.add(b.input("x", (N,)), b.input("y", (N,))))
    with pytest.raises(ShapeError, match="another size than declared"):
        run_program(program, {"x": np.zeros(3), "y": np.zeros(4)}, {})


def test_a_size_that_only_the_data_tell_is_learned(own_ops):
    @op
    def test_positives(x, *, size):
        """The positive elements, as many as there are."""
        return Spec((symbol(size),), x.dtype)

    @test_positives.compute
    def _(xp, x, size):
        return x[x > 0]

    program = Program("p")
    with Builder(program) as b:
        positive = test_positives(b.input("x", (N,)), size="P")
        finish(program, out=o.mul(positive, o.fill(shape=(symbol("P"),), value=2.0)))
    got, _ = run_program(program, {"x": np.array([1, -1, 3], np.float32)}, {})
    np.testing.assert_array_equal(got["out"], [2, 6])


def test_an_output_of_another_shape_than_inferred_is_an_error(own_ops):
    @op
    def test_wrong(x):
        return Spec((2,))

    @test_wrong.compute
    def _(xp, x):
        return xp.zeros(3)

    program = Program("p")
    with Builder(program) as b:
        finish(program, out=test_wrong(b.input("x", ())))
    with pytest.raises(ShapeError, match="another size") as told:
        run_program(program, {"x": np.zeros(())}, {})
    assert told.value.where.startswith("output test_wrong of test_wrong at ")


def test_an_output_gets_the_dtype_that_was_inferred(own_ops):
    @op
    def test_narrow(x):
        return Spec(x.shape, "float16")

    @test_narrow.compute
    def _(xp, x):
        return 1.5

    program = Program("p")
    with Builder(program) as b:
        finish(program, out=test_narrow(b.input("x", ())))
    got, _ = run_program(program, {"x": np.zeros(())}, {})
    assert got["out"].dtype == np.float16 and got["out"] == 1.5


def test_a_failure_tells_the_operator_and_its_operands(own_ops):
    @op
    def test_fails(x):
        return x

    @test_fails.compute
    def _(xp, x):
        return xp.reshape(x, (7, 7))

    program = Program("p")
    with Builder(program) as b:
        finish(program, out=test_fails(b.input("x", (N, 2))))
    with pytest.raises(EngineError, match="test_fails failed: cannot reshape") as told:
        run_program(program, {"x": np.zeros((3, 2))}, {})
    assert "test_interpret.py:" in told.value.where
    assert told.value.got == "x: float32[N, 2]"


def test_nested_blocks_run(call_op):
    x, w = np.array([0.5, -1.0], np.float32), np.array(2.0, np.float32)
    got, _ = run_program(nested(3), {"x": x}, {"w": w})
    expected = np.tanh(np.tanh(np.tanh(x * w * w * w)))
    np.testing.assert_allclose(got["out"], expected, rtol=1e-6)


def test_a_block_is_a_function_that_binds_its_own_sizes(call_op):
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (4,))
        finish(program, out=emit_call(lambda v: o.tanh(v), x))
    body = program.operators[0].blocks["body"]
    (out,) = block_function(body, {})(np.zeros(4, np.float32))
    assert out.shape == (4,)
    with pytest.raises(ShapeError):
        block_function(body, {})(np.zeros(5, np.float32))


def test_jax_traces_the_same_walk():
    jax = pytest.importorskip("jax")
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (N, 2))
        finish(program, out=o.tanh(o.mul(x, 2.0)), size=o.fill(shape=(N,), value=1.0))
    x = np.ones((3, 2), np.float32)
    got = jax.jit(lambda a: run_program(program, {"x": a}, {}, jax.numpy)[0])(x)
    np.testing.assert_allclose(got["out"], np.tanh(2 * x), rtol=1e-6)
    assert got["size"].shape == (3,)
