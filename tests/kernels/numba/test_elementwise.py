"""Elementwise kernels and `fused`: broadcasting, layouts, views, in place, and random bodies."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.dtypes import to_numpy
from noria.ir.interpret import block_function
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Spec, Value
from noria.kernels.numba.elementwise import Elementwise, Fused, Prelu
from noria.kernels.registry import LAST, PLAIN, Declined
from tests.kernels.numba.running import (
    bind,
    compute,
    empty,
    execute,
    last,
    operator,
    reference,
    same_bits,
    team,
)
from tests.kernels.numba.test_body import fused

N = symbol("N")
MAP, FUSED = Elementwise(), Fused()


def random(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(to_numpy(dtype))


def check(op, inputs, kernel=MAP, **how):
    for got, want in zip(compute(kernel, op, inputs, **how), reference(op, inputs), strict=True):
        assert same_bits(got, want)


# ---- broadcasting ------------------------------------------------------------------------------

PATTERNS = [
    [(), ()],
    [(7,), ()],
    [(), (3, 17)],
    [(33,), (1,)],
    [(3, 17), (17,)],
    [(3, 17), (3, 1)],
    [(3, 1), (1, 17)],
    [(2, 3, 7), (3, 1)],
    [(2, 3, 7), (2, 1, 7)],
    [(2, 3, 7), (2, 1, 1)],
    [(2, 3, 1, 7), (3, 33, 1)],
    [(1, 1, 5), (1000, 1, 1)],
]


@pytest.mark.parametrize(("left", "right"), PATTERNS, ids=str)
def test_operands_broadcast_as_in_numpy(left, right):
    x, y = random(*left), random(*right, seed=1)
    check(operator("sub", [x, y]), [x, y])
    check(operator("sub", [y, x]), [y, x])


def test_three_operands_of_three_dtypes():
    cond, x, y = random(5, 1) > 0, random(3, 1, 1), random(4, seed=1)
    check(operator("where", [cond, x, y]), [cond, x, y])


@pytest.mark.parametrize("size", [1, 3, 7, 17, 33, 1000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_size_on_any_team(size, count):
    x, y = random(3, size), random(size, seed=1)
    with team(count):
        check(operator("mul", [x, y]), [x, y], threads=count)


# ---- memory ------------------------------------------------------------------------------------


def test_views_are_read_where_they_lie():
    base = random(12, 10, 8)
    views = [base[::2, ::-1, 1:7], base[5::-1, :, :6], base.transpose(1, 2, 0)]
    for x in views:
        y = random(*x.shape, seed=2)
        check(operator("sub", [x, y]), [x, y])
        check(operator("square", [x]), [x])


@pytest.mark.parametrize("bias", [(5,), (3, 1, 1), (2, 1, 1, 1), (2, 3, 4, 5)])
def test_channels_last_operands(bias):
    x, y = last(random(2, 3, 4, 5)), random(*bias, seed=1)
    op = operator("sub", [x, y])
    check(op, [x, y], layout=LAST)
    check(op, [x, last(y) if y.ndim == 4 else y], layout=LAST)
    check(op, [x, y], layout=PLAIN)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("count", [1, 3])
def test_an_output_may_take_an_inputs_memory(size, count):
    x, y = random(3, size), random(3, size, seed=1)
    op = operator("sub", [x, y])
    (want,) = reference(op, [x, y])
    for k in range(2):
        ins = [x.copy(), y.copy()]
        with team(count):
            prepared = bind(MAP, op, ins, [ins[k]], threads=count)
            assert (0, k) in prepared.in_place
            execute(prepared, ins, [ins[k]])
        assert same_bits(ins[k], want)


def test_an_update_writes_all_its_state_in_place():
    ins = [random(1000, seed=k) for k in range(3)] + [np.array(0.1, np.float32)]
    op = operator("momentum_update", ins)
    want = reference(op, ins)
    prepared = bind(MAP, op, ins, [ins[0], ins[2]])
    assert {(0, 0), (1, 2)} <= set(prepared.in_place)
    execute(prepared, ins, [ins[0], ins[2]])
    assert same_bits(ins[0], want[0])
    assert same_bits(ins[2], want[1])


def test_an_operand_used_twice_is_two_operands():
    x = random(100)
    op = operator("mul", [x, x])
    same = Operator("mul", (op.inputs[0], op.inputs[0]), op.outputs, op.attrs)
    check(same, [x, x])


# ---- layouts -----------------------------------------------------------------------------------


def layout(name, shapes, given, **attrs):
    definition = getattr(o, name)
    full = definition.bind_attrs(attrs)
    values = tuple(Value(f"x{i}", s) for i, s in enumerate(shapes))
    outs = tuple(Value("out", s.shape, s.dtype) for s in definition.infer(values, full))
    kernel = Prelu() if name == "prelu" else MAP
    return kernel.layout(Operator(name, values, outs, full), given)


IMAGE = (N, 3, 4, 5)


def test_channels_last_is_kept_and_asked_of_the_other_full_operand():
    assert layout("add", [IMAGE, IMAGE], [PLAIN, LAST]) == ([LAST, LAST], [LAST])
    assert layout("add", [IMAGE, IMAGE], [PLAIN, PLAIN]) == ([PLAIN, PLAIN], [PLAIN])


def test_broadcast_operands_may_lie_as_they_like():
    assert layout("add", [IMAGE, (3, 1, 1)], [LAST, PLAIN]) == ([LAST, None], [LAST])
    assert layout("add", [IMAGE, (1, 3, 1, 1)], [PLAIN, LAST]) == ([PLAIN, None], [PLAIN])


def test_optimiser_updates_stay_plain():
    shapes = [(8, 3, 2, 2), (8, 3, 2, 2), ()]
    wanted, given = layout("sgd_update", shapes, [PLAIN, LAST, PLAIN])
    assert (wanted, given) == ([PLAIN, PLAIN, None], [PLAIN])


def test_prelu_follows_its_input():
    assert layout("prelu", [IMAGE, (3,)], [LAST, PLAIN]) == ([LAST, None], [LAST])


def test_fused_keeps_channels_last_but_in_its_results():
    op = fused(
        lambda x, y: (lambda z: (z, o.reduce_sum(z, axis=(0, 2, 3))))(o.mul(x, y)),
        Spec(IMAGE),
        Spec((3, 1, 1)),
    )
    assert FUSED.layout(op, [LAST, PLAIN]) == ([LAST, None], [LAST, PLAIN])


# ---- fused -------------------------------------------------------------------------------------


def run_fused(op, inputs, kernel=FUSED, *, threads=1, layout=PLAIN):
    """(what the kernel computes, what the interpreter does)."""
    block = op.blocks["body"]
    with np.errstate(all="ignore"):
        want = block_function(block, {})(*inputs)
    outs = [
        empty(w.shape, v.dtype, layout if w.ndim == 4 else PLAIN)
        for w, v in zip(want, op.outputs, strict=True)
    ]
    execute(bind(kernel, op, inputs, outs, threads), inputs, outs)
    return outs, want


def test_a_chain_is_one_loop():
    op = fused(lambda x, b: o.relu(o.mul(o.add(x, b), 0.5)), Spec((7, 33)), Spec((33,)))
    (got,), (want,) = run_fused(op, [random(7, 33), random(33)])
    assert same_bits(got, want)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("axis", [(0, 2, 3), (0,), (1,), (1, 2), (2, 3), (3,), None])
def test_a_loop_may_keep_and_reduce(axis, count, image):
    """relu's gradient and a bias gradient: one pass over memory."""
    shape = (2, 17, 5, 3)
    op = fused(
        lambda y, g: (
            lambda z: (z, o.reduce_sum(z, axis=axis), o.reduce_max(g, axis=axis, keepdims=True))
        )(o.where(o.greater(y, 0.0), g, 0.0)),
        Spec(shape),
        Spec(shape),
    )
    inputs = [random(*shape), np.round(random(*shape, seed=1) * 8)]
    inputs = [last(x) for x in inputs] if image else inputs
    with team(count):
        got, want = run_fused(op, inputs, threads=count, layout=LAST if image else PLAIN)
    assert all(same_bits(a + 0, b + 0) for a, b in zip(got, want, strict=True))


def test_fused_overwrites_an_input_while_it_reduces():
    op = fused(
        lambda x, g: (lambda z: (z, o.reduce_sum(z, axis=0)))(o.mul(x, g)),
        Spec((9, 40)),
        Spec((9, 40)),
    )
    inputs = [np.round(random(9, 40) * 8), np.round(random(9, 40, seed=1) * 8)]
    want = block_function(op.blocks["body"], {})(*inputs)
    total = empty((40,), "float32")
    prepared = bind(FUSED, op, inputs, [inputs[1], total])
    assert (0, 1) in prepared.in_place
    execute(prepared, inputs, [inputs[1], total])
    assert same_bits(inputs[1], want[0])
    assert same_bits(total, want[1])


def test_fused_updates_of_a_whole_parameter():
    specs = [Spec((50,))] * 3 + [Spec(())]
    op = fused(lambda p, g, v, lr: o.momentum_update(p, o.mul(g, 0.5), v, lr), *specs)
    inputs = [*(random(50, seed=k) for k in range(3)), np.array(0.1, np.float32)]
    got, want = run_fused(op, inputs)
    assert all(same_bits(a, b) for a, b in zip(got, want, strict=True))


def test_results_take_no_inputs_memory():
    """A row's sum would overwrite what the columns of later rows still need."""
    op = fused(lambda x, b: o.reduce_sum(o.add(x, b), axis=1), Spec((5, 5)), Spec((5,)))
    prepared = bind(FUSED, op, [random(5, 5), random(5)], [empty((5,), "float32")])
    assert prepared.in_place == []


def test_a_constant_output_of_another_shape_is_declined():
    op = fused(
        lambda x: (o.neg(x), o.fill(shape=(), value=1.0)),
        Spec((5,)),
    )
    with pytest.raises(Declined, match="shape of the loop"):
        FUSED.accepts(op)


def test_a_body_without_an_operand_of_the_full_shape_is_declined():
    op = fused(lambda x, y: o.reduce_sum(o.add(x, y), axis=0), Spec((5, 1)), Spec((1, 6)))
    with pytest.raises(Declined, match="full shape"):
        run_fused(op, [random(5, 1), random(1, 6)])


# ---- random bodies -----------------------------------------------------------------------------

UNARY = ["neg", "abs", "square", "relu", "sign", "floor", "round"]
BINARY = ["add", "sub", "mul", "maximum", "minimum"]
COMPARE = ["less", "greater_equal", "equal"]


def grow(rng, values, steps, space):
    """Random exact operators on the values of a body; what they make."""
    floats, bools, made = list(values), [], []
    for _ in range(steps):
        kind = rng.random()
        x, y = (floats[int(rng.integers(len(floats)))] for _ in range(2))
        if kind < 0.3:
            new = getattr(o, UNARY[int(rng.integers(len(UNARY)))])(x)
        elif kind < 0.7:
            y = float(rng.integers(-3, 4)) if rng.random() < 0.3 else y
            new = getattr(o, BINARY[int(rng.integers(len(BINARY)))])(x, y)
        elif kind < 0.8 or not bools:
            new = getattr(o, COMPARE[int(rng.integers(len(COMPARE)))])(x, y)
        elif kind < 0.9:
            new = o.where(bools[int(rng.integers(len(bools)))], x, y)
        else:
            new = o.cast(o.cast(x, dtype="bfloat16"), dtype="float32")
        if new.shape == space:
            (bools if new.dtype == "bool" else floats).append(new)
            made.append(new)
    return floats, made


def random_body(rng, space, shapes):
    def body(*inputs):
        # Every operator of a body has the shape of the space.
        wide = [o.broadcast_to(x, shape=space) if x.shape != space else o.neg(x) for x in inputs]
        floats, made = grow(rng, wide, int(rng.integers(3, 14)), space)
        outs = [made[-1]] if made else [wide[-1]]
        outs += [v for v in made[:-1] if rng.random() < 0.2]
        if rng.random() < 0.5:
            axes = [(0,), tuple(range(1, len(space))), tuple(range(len(space))), (len(space) - 1,)]
            axis = axes[int(rng.integers(len(axes)))] or (0,)
            tame = o.clip(o.round(floats[-1]), low=-64.0, high=64.0)  # sums of these are exact
            outs += [o.reduce_sum(tame, axis=axis), o.reduce_max(floats[-1], axis=axis)]
        return tuple(dict.fromkeys(outs))

    return fused(body, *(Spec(s) for s in shapes))


@pytest.mark.parametrize("seed", range(40))
def test_random_bodies_agree_with_the_interpreter_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    space = tuple(int(n) for n in rng.choice([1, 2, 3, 7, 17, 33], rank))
    shapes = [space] + [
        tuple(n if rng.random() < 0.6 else 1 for n in space)[int(rng.integers(0, rank)) :]
        for _ in range(int(rng.integers(0, 3)))
    ]
    op = random_body(rng, space, shapes)
    inputs = [np.round(random(*s, seed=seed + k) * 4) / 2 for k, s in enumerate(shapes)]
    image = rank > 2 and rng.random() < 0.5
    if image:
        inputs = [last(x) if x.shape == space else x for x in inputs]
    size = int(rng.choice([1, 2, 5]))
    with team(size, split=rng.random() < 0.5):
        got, want = run_fused(
            op, inputs, threads=size, layout=LAST if rank == 4 and image else PLAIN
        )
    for a, b in zip(got, want, strict=True):
        assert same_bits(a + 0 if a.dtype != bool else a, b + 0 if b.dtype != bool else b)
