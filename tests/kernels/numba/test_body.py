"""Operators as bodies of loops: numbering, reuse, and what is declined."""

import numpy as np
import pytest

from noria.ir.emit import Builder, trace_block
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Program, Spec
from noria.kernels.numba.body import body_of, copy_body, need_rule, reduction_of, write_body
from noria.kernels.numba.reduction import Reduction
from noria.kernels.numba.term import Lines, Term
from noria.kernels.registry import Declined
from tests.kernels.numba.running import operator

X = np.zeros((3, 4), np.float32)


def fused(fn, *specs):
    """The operator `fused` with the body that `fn` records."""
    program = Program()
    with Builder(program) as builder:
        values = [builder.input(f"x{i}", s.shape, s.dtype) for i, s in enumerate(specs)]
        block, _, result = trace_block(fn, specs, [f"a{i}" for i in range(len(specs))])
        block.outputs = list(result) if isinstance(result, tuple) else [result]
        builder.emit(lookup("fused"), values, {}, {"body": block})
    return program.operators[-1]


def test_a_body_numbers_inputs_first():
    op = fused(lambda x, y: o.relu(o.add(x, y)), Spec((3, 4)), Spec((4,)))
    body = body_of(op)
    assert body.inputs == ("float32", "float32")
    assert [(s.op, s.args, s.outs) for s in body.steps] == [
        ("add", (0, 1), (2,)),
        ("relu", (2,), (3,)),
    ]
    assert [out.value for out in body.outputs] == [3]


def test_reductions_are_outputs_not_steps():
    body = body_of(
        fused(
            lambda x: (lambda y: (y, o.reduce_sum(y, axis=0)))(o.square(x)),
            Spec((3, 4), "bfloat16"),
        )
    )
    assert [s.op for s in body.steps] == ["square"]
    assert [out.value for out in body.outputs] == [1, 1]
    assert body.results == [1]
    assert body.outputs[1].reduction == Reduction("sum", "bfloat16", "bfloat16")


def test_bodies_that_compute_the_same_are_equal_whatever_the_shapes():
    one = fused(lambda x: o.exp(o.mul(x, 2.0)), Spec((3, 4)))
    other = fused(lambda x: o.exp(o.mul(x, 2.0)), Spec((7, 1, 2)))
    assert body_of(one) == body_of(other)
    assert body_of(one) is body_of(one)
    assert body_of(one) != body_of(fused(lambda x: o.exp(o.mul(x, 3.0)), Spec((3, 4))))


@pytest.mark.parametrize(("a", "b"), [({"low": 0.0}, {"low": -0.0}), ({"low": 0.0}, {"low": 1.0})])
def test_attributes_belong_to_the_key(a, b):
    assert body_of(operator("clip", [X], **a)) != body_of(operator("clip", [X], **b))


def test_shapes_do_not_belong_to_the_key():
    ops = [operator("sum_to", [np.zeros((n, 4), "f")], shape=(4,)) for n in (2, 3)]
    assert ops[0].attrs == ops[1].attrs
    assert body_of(ops[0]) is body_of(ops[1])


def test_a_reduction_alone_is_a_body_without_steps():
    op = operator("reduce_mean", [X], axis=1)
    assert body_of(op).steps == ()
    assert reduction_of(op) == Reduction("mean", "float32", "float32")
    assert reduction_of(operator("relu", [X])) is None


def test_the_cost_counts_functions_dear():
    assert body_of(operator("exp", [X])).cost > 10 * body_of(operator("neg", [X])).cost


def test_unknown_ops_and_powers_of_integers_are_declined():
    with pytest.raises(Declined, match="element by element"):
        need_rule(operator("softmax", [X]))
    whole = np.zeros(3, np.int32)
    with pytest.raises(Declined, match="whole numbers"):
        body_of(operator("pow", [whole, whole]))


def test_absent_inputs_are_left_out():
    op = operator("relu", [X])
    body = body_of(Operator("relu", (op.inputs[0], None), op.outputs, op.attrs))
    assert len(body.inputs) == 1


def test_what_is_known_early_is_computed_early():
    """A scalar's exponential before all loops, a row's inside the first, the sum in the second."""
    op = fused(
        lambda s, r, x: o.add(o.add(x, o.broadcast_to(o.exp(r), shape=(3, 4))), s),
        Spec(()),
        Spec((3, 4)),
        Spec((3, 4)),
    )
    lines = Lines(levels=3)
    inputs = [Term(lines, name, "float32", level) for level, name in enumerate("srx")]
    (out,) = write_body(body_of(op), lines, inputs)
    assert ["exp" in "".join(level) for level in lines.levels] == [False, True, False]
    assert out.level == 2


def test_constants_inside_a_body_are_literals():
    body = body_of(fused(lambda x: o.mul(x, 0.5), Spec((3,))))
    lines = Lines()
    write_body(body, lines, [Term(lines, "x", "float32", 0)])
    assert lines.levels[0] == ["t1 = fma(x, float32(0.5), float32(-0.0))"]


def test_a_copy_stores_what_it_loads():
    body = copy_body("uint16")
    lines = Lines()
    assert write_body(body, lines, [Term(lines, "x", "uint16", 0)])[0].text == "x"
