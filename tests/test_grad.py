"""Reverse-mode differentiation, Program -> Program."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ProgramError
from noria.grad import append_backward, gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import op, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec
from noria.ir.sparse import SparseGrad
from noria.ir.text import format_program
from noria.ir.verify import verify
from tests.ir.programs import N, define_call, emit_call, finish

X = np.array([0.5, -1.25, 2.0])
Y = np.array([1.5, 0.25, -0.5])


@pytest.fixture
def own_ops():
    before = dict(registry)
    yield
    registry.clear()
    registry.update(before)


@pytest.fixture
def call_op(own_ops):
    return define_call()


def derive(fn, *arrays, targets=lambda out: out, **options):
    """Gradients of fn(*values) in each value, as numbers; None where there is none."""
    program = Program("p")
    with Builder(program) as b:
        values = [b.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
        got = gradients(targets(fn(*values)), values, **options)
        finish(program, **{f"g{i}": g for i, g in enumerate(got) if g is not None})
    verify(program)
    outs, _ = run_program(program, {f"x{i}": a for i, a in enumerate(arrays)}, {})
    return [outs.get(f"g{i}") for i in range(len(arrays))]


def test_the_chain_rule():
    (got,) = derive(lambda x: o.exp(o.sin(o.square(x))), X)
    np.testing.assert_allclose(got, np.exp(np.sin(X**2)) * np.cos(X**2) * 2 * X)


def test_gradients_of_several_uses_add_up():
    got = derive(lambda x, y: o.add(o.mul(x, y), o.mul(x, x)), X, Y)
    np.testing.assert_allclose(got[0], Y + 2 * X)
    np.testing.assert_allclose(got[1], X)


def test_a_value_used_twice_by_one_operator_counts_twice():
    (got,) = derive(lambda x: o.add(x, x), X)
    np.testing.assert_array_equal(got, [2, 2, 2])


def test_broadcast_operands_get_gradients_of_their_own_shape():
    row, column = np.array([[1.0, 2, 3]]), np.array([[4.0], [5]])
    got = derive(lambda a, b: o.mul(a, b), row, column)
    np.testing.assert_array_equal(got[0], [[9, 9, 9]])
    np.testing.assert_array_equal(got[1], [[6], [6]])


def test_a_value_that_leads_nowhere_has_no_gradient():
    got = derive(lambda x, y: o.sin(x), X, Y)
    assert got[1] is None
    np.testing.assert_allclose(got[0], np.cos(X))


def test_a_gradient_that_is_cut_is_none():
    assert derive(lambda x: o.mul(o.floor(x), 3.0), X) == [None]


def test_the_target_itself_has_gradient_one():
    (got,) = derive(lambda x: x, X)
    np.testing.assert_array_equal(got, np.ones(3))


def test_an_intermediate_value_may_be_wanted_with_what_it_comes_from():
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (3,), "float64")
        y = o.square(x)
        gx, gy = gradients(o.add(o.sin(y), x), [x, y])
        finish(program, gx=gx, gy=gy)
    got, _ = run_program(program, {"x": X}, {})
    np.testing.assert_allclose(got["gy"], np.cos(X**2))
    np.testing.assert_allclose(got["gx"], np.cos(X**2) * 2 * X + 1)


def test_seeds_weigh_the_targets_and_none_leaves_one_out():
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (3,), "float64")
        targets = [o.square(x), o.sin(x), o.exp(x)]
        seeds = [o.fill(shape=(3,), value=10.0, dtype="float64"), None, x]
        finish(program, g=gradients(targets, [x], seeds)[0])
    got, _ = run_program(program, {"x": X}, {})
    np.testing.assert_allclose(got["g"], 20 * X + X * np.exp(X))


def test_a_gradient_can_be_differentiated_again():
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (3,), "float64")
        (first,) = gradients(o.mul(x, o.square(x)), [x])
        (second,) = gradients(first, [x])
        finish(program, first=first, second=second)
    verify(program)
    got, _ = run_program(program, {"x": X}, {})
    np.testing.assert_allclose(got["first"], 3 * X**2)
    np.testing.assert_allclose(got["second"], 6 * X)


def test_gradients_come_back_in_the_dtype_of_their_value():
    x = np.array([1.0, 2.0], np.float16)
    (got,) = derive(lambda x: o.mul(o.cast(x, dtype="float32"), 3.0), x)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, [3, 3])


def test_integers_have_no_gradient():
    with pytest.raises(ArgumentError, match="'x0' is int64"):
        derive(lambda x: x, np.array([1, 2]))
    ids = np.array([1, 0, 1])
    got = derive(lambda x, i: o.gather(x, i), X, ids)
    np.testing.assert_array_equal(got[0], [1, 2, 0])
    assert got[1] is None


def test_an_op_without_a_rule_is_named_with_its_line(own_ops):
    @op
    def test_opaque(x):
        return x

    with pytest.raises(ProgramError, match="'test_opaque' has no gradient") as told:
        derive(lambda x: test_opaque(x), X)
    assert "test_grad.py:" in told.value.where and "stop_gradient" in told.value.hint


def test_only_operators_on_the_path_need_a_rule(own_ops):
    @op
    def test_opaque(x):
        return x

    @test_opaque.compute
    def _(xp, x):
        return x

    program = Program("p")
    with Builder(program) as b:
        x, y = b.input("x", (3,), "float64"), b.input("y", (3,), "float64")
        (got,) = gradients(o.mul(x, test_opaque(y)), [x])
        finish(program, g=got)
    outs, _ = run_program(program, {"x": X, "y": Y}, {})
    np.testing.assert_array_equal(outs["g"], Y)


def test_a_rule_must_give_one_gradient_per_input(own_ops):
    @op
    def test_two(x, y):
        return x

    @test_two.grad
    def _(g):
        return g, g, g

    with pytest.raises(ProgramError, match="gave 3 gradients") as told:
        derive(lambda x, y: test_two(x, y), X, Y)
    assert told.value.expected == "2, one per input"


def test_rules_get_what_they_name_and_may_answer_by_name(own_ops):
    seen = {}

    @op(outputs=("out", "extra"))
    def test_rule(x, y=None, *rest, k=3):
        return x, Spec((), x.dtype)

    @test_rule.grad
    def _(x, rest, extra, k, g_out, g_extra, op):
        seen.update(x=x, rest=rest, extra=extra, k=k, g_out=g_out, g_extra=g_extra, op=op)
        return {"x": o.mul(g_out, float(k))}

    with Builder(Program("p")) as b:
        x, z = b.input("x", (3,)), b.input("z", (3,))
        out, extra = test_rule(x, None, z, z, k=5)
        gx, gz = gradients(out, [x, z])
    assert gx.shape == (3,) and gz is None
    assert seen["x"] is x and seen["rest"] == [z, z] and seen["extra"] is extra
    assert seen["k"] == 5 and seen["g_extra"] is None and seen["op"].type == "test_rule"


def test_gradient_operators_keep_the_line_they_come_from():
    program = Program("p")
    with Builder(program) as b:
        x = b.input("x", (3,))
        y = o.tanh(x)
        forward = b.block.operators[-1]
        gradients(y, [x])
    made = program.operators[1:]
    assert made and all(operator.made_by == "grad" for operator in made)
    assert {operator.source for operator in made if operator.type == "mul"} == {forward.source}


def test_the_same_program_comes_out_every_time():
    def text():
        program = Program("p")
        with Builder(program) as b:
            values = [b.input(f"x{i}", (N, 2)) for i in range(20)]
            total = values[0]
            for v in values:
                total = o.add(o.mul(v, total), v)
            got = gradients(total, values[::-1])
            finish(program, **{f"g{i}": g for i, g in enumerate(got)})
        return format_program(program, sources=False)

    assert len({text() for _ in range(5)}) == 1


# ---- tables ------------------------------------------------------------------------------------


def lookup_twice(b):
    """A table of which some rows are used, one of them twice."""
    table = b.state("table", (4, 2), trainable=True)
    ids = b.input("ids", (3,), "int64")
    return o.reduce_sum(o.square(o.gather(table, ids)), axis=None), table


def test_gradients_of_a_table_are_dense_unless_asked():
    program = Program("p")
    with Builder(program) as b:
        loss, table = lookup_twice(b)
        (got,) = gradients(loss, [table])
        finish(program, g=got)
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    outs, _ = run_program(program, {"ids": np.array([3, 1, 3])}, {"table": rows})
    np.testing.assert_array_equal(outs["g"], 2 * rows * np.array([[0], [1], [0], [2]]))


def test_sparse_gradients_are_summed_with_dense_ones(own_ops):
    @op
    def test_rows(x, ids):
        return Spec((*ids.shape, *x.shape[1:]), x.dtype)

    @test_rows.compute
    def _(xp, x, ids):
        return x[ids]

    @test_rows.grad
    def _(x, ids, g):
        return SparseGrad(ids, g, x.shape), None

    def pairs(x, *ids):
        return [test_rows(x, i) for i in ids]

    table, ids = np.arange(8.0).reshape(4, 2), np.array([1, 1, 3])
    count = np.array([[0.0], [2], [0], [1]]) * np.ones((1, 2))
    got = derive(pairs, table, ids, targets=lambda outs: outs)
    np.testing.assert_array_equal(got[0], count)
    got = derive(pairs, table, ids, ids)
    np.testing.assert_array_equal(got[0], 2 * count)
    got = derive(lambda x, i: [*pairs(x, i), o.mul(x, 3.0)], table, ids)
    np.testing.assert_array_equal(got[0], count + 3)
    with Builder(Program("p")) as b:
        x, i = b.input("x", (4, 2)), b.input("i", (3,), "int64")
        (kept,) = gradients(test_rows(x, i), [x], sparse=True)
    assert isinstance(kept, SparseGrad) and kept.ids is i


# ---- nested blocks -----------------------------------------------------------------------------


def test_a_nested_block_is_differentiated_with_what_it_captures(call_op):
    got = derive(lambda x, y: emit_call(lambda v: o.mul(o.sin(v), y), x), X, Y)
    np.testing.assert_allclose(got[0], np.cos(X) * Y)
    np.testing.assert_allclose(got[1], np.sin(X))


def test_operands_of_a_block_that_come_from_each_other_count_once(call_op):
    def fn(x):
        y = o.square(x)
        return emit_call(lambda v: o.mul(v, y), x)  # x * y: operands x and y = x**2

    (got,) = derive(fn, X)
    np.testing.assert_allclose(got, 3 * X**2)


def test_an_operand_given_to_a_block_twice_counts_once(call_op):
    (got,) = derive(lambda x: emit_call(lambda v, u: o.mul(v, u), x, x), X)
    np.testing.assert_allclose(got, 2 * X)


def test_blocks_inside_each_other_are_differentiated(call_op):
    def fn(x, w):
        return emit_call(lambda v: o.sin(emit_call(lambda u: o.mul(u, w), v)), x)

    got = derive(fn, X, Y)
    np.testing.assert_allclose(got[0], np.cos(X * Y) * Y)
    np.testing.assert_allclose(got[1], np.cos(X * Y) * X)


# ---- whole Programs ----------------------------------------------------------------------------


def regression():
    program = Program("regression")
    with Builder(program) as b:
        x, y = b.input("x", (N, 3)), b.input("y", (N,))
        w = b.state("w", (3,), trainable=True)
        scale = b.state("scale", ())
        error = o.sub(o.mul(o.matmul(x, w), scale), y)
        finish(program, loss=o.reduce_mean(o.square(error), axis=None), error=error)
    return program


def test_append_backward_leaves_the_program_as_it_was():
    program = regression()
    before = format_program(program)
    out, found = append_backward(program)
    assert format_program(program) == before
    assert list(found) == ["w"] and found["w"].shape == (3,)
    assert len(out.operators) > len(program.operators)
    assert out.operators[: len(program.operators)] == program.operators


def test_append_backward_differentiates_in_state_and_feeds():
    program, found = append_backward(regression(), wrt=["scale", "x", "w"])
    program.outputs |= {f"g_{n}": g for n, g in found.items()}
    verify(program)
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((5, 3)), rng.standard_normal(5), rng.standard_normal(3)
    got, _ = run_program(program, {"x": x, "y": y}, {"w": w, "scale": np.array(1.5)})
    slope = 2 * (1.5 * x @ w - y) / 5
    np.testing.assert_allclose(got["g_w"], 1.5 * x.T @ slope, rtol=1e-5)
    np.testing.assert_allclose(got["g_scale"], slope @ (x @ w), rtol=1e-5)
    np.testing.assert_allclose(got["g_x"], 1.5 * np.outer(slope, w), rtol=1e-5)


def test_append_backward_refuses_what_makes_no_sense():
    program = regression()
    with pytest.raises(ArgumentError, match="must be a scalar") as told:
        append_backward(program, "error")
    assert "reduce" in told.value.hint
    with pytest.raises(ArgumentError, match="with respect to 'ww'") as told:
        append_backward(program, wrt=["ww"])
    assert "'w'" in told.value.hint


def test_a_loss_without_parameters_is_told():
    program = Program("p")
    with Builder(program) as b:
        b.state("w", (3,), trainable=True)
        finish(program, loss=o.reduce_sum(b.input("x", (3,)), axis=None))
    with pytest.raises(ProgramError, match="nothing that can be learned") as told:
        append_backward(program)
    assert "w" in told.value.expected
