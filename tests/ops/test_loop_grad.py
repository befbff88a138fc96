import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import EngineError, ProgramError
from noria.grad import append_backward, gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import op, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, walk
from noria.ir.verify import verify
from noria.ops.loops import scan, while_loop
from noria.testing.check import check_program, load_ops
from noria.testing.engines import check_jax
from noria.testing.record import set_outputs

load_ops()


@pytest.fixture
def opaque():
    """An op without a gradient."""

    @op
    def opaque(x):
        return x

    opaque.compute(lambda xp, x: x * 1)
    yield opaque
    del registry["opaque"]


@pytest.fixture
def counted():
    """An op with an effect: it counts how often it runs."""

    @op(effect="ordered")
    def counted(x):
        return x

    runs = []
    counted.compute(lambda xp, x: runs.append(x) or x * 1)
    counted.grad(lambda g: g)
    yield counted, runs
    del registry["counted"]


def differentiate(fn, wrt=("x",), **shapes):
    """A Program of the sum of fn's results, with gradients `g0, g1, ...`."""
    program = Program()
    with Builder(program) as builder:
        inputs = [builder.input(n, s) for n, s in shapes.items()]
        set_outputs(program, {"loss": o.reduce_sum(fn(*inputs))})
    before = program
    program, grads = append_backward(program, wrt=list(wrt))
    set_outputs(program, {f"g{i}": grads[n] for i, n in enumerate(wrt) if n in grads})
    verify(program)
    return before, program


def loops(program, name="scan"):
    return [x for x in program.operators if x.type == name]


def test_the_forward_loop_is_widened_and_does_not_run_twice():
    def fn(x):
        return while_loop(lambda c: o.less(o.reduce_sum(c), 50.0), lambda c: o.square(c), x)

    before, program = differentiate(fn, x=(2,))
    (forward,) = loops(program, "while_loop")
    (backward,) = loops(program)
    assert forward.attrs["record"] == (0,) and forward.outputs[1] in backward.inputs
    assert backward.attrs["reverse"] and backward.attrs["length"] == symbol(forward.attrs["steps"])
    (plain,) = loops(before, "while_loop")
    assert plain.attrs["record"] == () and plain.outputs[0] is forward.outputs[0]


def test_only_the_history_that_a_step_needs_is_kept():
    def fn(x, w):
        def step(c, a):
            n, linear, bent = c
            return (o.add(n, 1), o.add(linear, a), o.tanh(o.add(bent, a))), o.mul(linear, 2.0)

        (_, linear, bent), ys = scan(step, (0, w, w), x)
        return o.add(o.add(linear, bent), o.reduce_sum(ys, axis=0))

    _, program = differentiate(fn, ("x", "w"), x=(4, 2), w=(2,))
    assert loops(program)[0].attrs["record"] == (2,)


def test_a_linear_loop_keeps_no_history():
    _, program = differentiate(
        lambda x: scan(lambda c, a: (o.add(o.mul(c, 0.5), a), None), o.mul(x[0], 0.0), x)[0],
        x=(4, 2),
    )
    forward, backward = loops(program)
    assert forward.attrs["record"] == () and backward.attrs["scanned"] == 0


def test_gradients_nobody_wants_are_not_computed():
    def fn(x, w):
        return scan(lambda c, a: (o.add(c, o.mul(a, w)), None), w, x)[0]

    _, program = differentiate(fn, ("w",), x=(4, 2), w=(2,))
    assert [len(op.outputs) for op in loops(program)] == [1, 2]  # of the carry and w, not of x


def test_an_op_without_gradient_is_no_obstacle_where_no_gradient_goes(opaque):
    def fn(x, w):
        def step(c, a):
            ignored, total = c
            return (o.add(opaque(ignored), total), o.add(total, o.mul(opaque(a), w))), o.mul(a, w)

        (_, total), ys = scan(step, (o.mul(w, 0.0), w), x)
        return o.add(total, o.reduce_sum(ys, axis=0))

    _, program = differentiate(fn, ("w",), x=(3, 2), w=(2,))
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    out, _ = run_program(program, {"x": x, "w": np.ones(2, np.float32)}, {})
    np.testing.assert_allclose(out["g0"], 1 + 2 * x.sum(0))
    with pytest.raises(ProgramError, match="'opaque' has no gradient"):
        differentiate(fn, ("x",), x=(3, 2), w=(2,))


def test_an_effect_of_a_step_happens_once(counted):
    count, runs = counted

    def fn(x):
        def step(c, a):
            count(a)
            return o.mul(c, o.sin(a)), None

        return scan(step, o.add(o.mul(x[0], 0.0), 1.0), x)[0]

    _, program = differentiate(fn, x=(3, 2))
    run_program(program, {"x": np.ones((3, 2), np.float32)}, {})
    assert len(runs) == 3


def test_an_input_that_does_not_reach_the_result_has_no_gradient():
    program = Program()
    with Builder(program) as builder:
        x, y = builder.input("x", (3,)), builder.input("y", ())
        last, _ = scan(lambda c, a: ((c[0], o.mul(c[1], a)), None), (y, o.mul(y, 0.0)), x)
        assert gradients(last[0], [x]) == [None]
        (g,) = gradients(o.add(last[0], 0.0), [y])
        set_outputs(program, {"g": g})
    check_program(program, {"x": np.ones(3, np.float32), "y": np.float32(1)}, {"g": np.float32(1)})


def test_a_loop_that_may_not_run_passes_its_gradient_on():
    def fn(x):
        return while_loop(lambda c: o.less(o.reduce_sum(c), 5.0), lambda c: o.square(c), x)

    _, program = differentiate(fn, x=(1,))
    for start, slope in ((9.0, 1.0), (2.5, 5.0), (1.5, 4 * 1.5**3)):
        out, _ = run_program(program, {"x": np.array([start], np.float32)}, {})
        assert out["g0"] == pytest.approx(slope)


def test_two_gradients_of_one_loop_share_its_history():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (4, 2))
        last, ys = scan(lambda c, a: (o.tanh(o.add(c, a)), o.square(c)), o.mul(x[0], 0.0), x)
        first = gradients(o.reduce_sum(last), [x])[0]
        second = gradients(o.reduce_sum(ys), [x])[0]
        both = gradients([o.reduce_sum(last), o.reduce_sum(ys)], [x])[0]
        set_outputs(program, {"sum": o.add(first, second), "both": both})
    verify(program)
    assert loops(program)[0].attrs["record"] == (0,)
    feed = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    out, _ = run_program(program, {"x": feed}, {})
    np.testing.assert_allclose(out["sum"], out["both"], rtol=1e-5)


def test_gradient_operators_tell_who_made_them_and_the_users_line():
    _, program = differentiate(
        lambda x: scan(lambda c, a: (o.mul(c, a), None), x[0], x)[0], x=(4, 2)
    )
    backward = loops(program)[1]
    inside = list(walk(backward.blocks["body"]))
    assert inside and backward.made_by == "grad" and "test_loop_grad" in str(backward.source)


def test_jax_compiles_the_gradient_of_a_scan():
    pytest.importorskip("jax")
    _, program = differentiate(
        lambda x: scan(lambda c, a: (o.tanh(o.mul(c, a)), c), x[0], x, reverse=True)[1],
        x=(symbol("T"), 2),
    )
    feeds = {"x": np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)}
    check_jax(program, feeds, run_program(program, feeds, {})[0])


def test_jax_cannot_compile_the_gradient_of_a_while_loop_and_says_what_can():
    pytest.importorskip("jax")

    def fn(x):
        return while_loop(lambda c: o.less(o.reduce_sum(c), 5.0), lambda c: o.square(c), x)

    _, program = differentiate(fn, x=(1,))
    with pytest.raises(EngineError, match=r"ops.scan"):
        check_jax(program, {"x": np.ones(1, np.float32)}, {})
