"""Operations and bytes, counted by hand beside what the profiler says."""

import numpy as np
import pytest

from noria.core.errors import ProgramError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ops.loops import scan
from noria.passes.pipeline import optimize
from tests.runtime.binding import NONE, bind
from tests.runtime.programs import N, build, floats, value


def works(fn, sizes=None, engines=NONE, **state):
    """op type -> Work, of a Program bound for the reference."""
    bound = bind(build(fn, **state), sizes or {}, engines)
    return {item.step.op.type: bound.work(item) for item in bound.items}


def one(emit, *shapes, dtypes=None, sizes=None):
    """The Work of the last operator that `emit` makes of inputs of these shapes."""
    dtypes = dtypes or ["float32"] * len(shapes)

    def fn(b):
        xs = [b.input(f"x{i}", s, d) for i, (s, d) in enumerate(zip(shapes, dtypes, strict=True))]
        out = emit(*xs)
        return {"y": out[0] if isinstance(out, tuple) else out}

    return list(works(fn, sizes).values())[-1]


@pytest.mark.parametrize(
    ("emit", "shapes", "operations"),
    [
        (o.matmul, [(3, 5), (5, 7)], 2 * 3 * 5 * 7),
        (lambda x, y: o.matmul(x, y, transpose_x=True), [(5, 3), (5, 7)], 2 * 3 * 5 * 7),
        (o.matmul, [(5,), (5, 7)], 2 * 5 * 7),
        (o.matmul, [(2, 3, 5), (5, 7)], 2 * 2 * 3 * 5 * 7),
        (o.linear, [(3, 5), (7, 5), (7,)], 2 * 3 * 5 * 7),
        (lambda x, w: o.fused_linear(x, w, activation="relu"), [(3, 5), (7, 5)], 2 * 3 * 5 * 7),
        (o.conv2d, [(2, 3, 8, 8), (4, 3, 3, 3)], 2 * (2 * 4 * 6 * 6) * 27),
        (lambda x, w: o.conv2d(x, w, groups=3), [(2, 3, 8, 8), (3, 1, 3, 3)], 2 * 2 * 3 * 36 * 9),
        (o.fused_conv2d, [(2, 3, 8, 8), (4, 3, 3, 3)], 2 * (2 * 4 * 6 * 6) * 27),
        (
            lambda g, w: o.conv2d_input_grad(g, w, sizes=(8, 8)),
            [(2, 4, 6, 6), (4, 3, 3, 3)],
            2 * (2 * 4 * 36) * 27,
        ),
        (
            lambda x, g: o.conv2d_weight_grad(x, g, kernel=(3, 3)),
            [(2, 3, 8, 8), (2, 4, 6, 6)],
            2 * (2 * 4 * 36) * 27,
        ),
        (o.conv_transpose2d, [(2, 4, 6, 6), (4, 3, 3, 3)], 2 * (2 * 4 * 36) * 27),
        (lambda x: o.max_pool2d(x, kernel=2), [(2, 3, 8, 8)], 2 * 3 * 16 * 4),
        (lambda x: o.avg_pool2d(x, kernel=(2, 4)), [(2, 3, 8, 8)], 2 * 3 * 8 * 8),
        (o.attention, [(2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)], 6 * 35 * (2 * 12 + 20)),
        (
            lambda q, k, v: o.attention(q, k, v, causal=True, layout="nthd"),
            [(2, 5, 3, 8), (2, 4, 3, 8), (2, 4, 3, 4)],
            6 * (1 + 2 + 3 + 4 + 4) * (2 * 12 + 20),
        ),
        (lambda x: o.self_attention(x, causal=True), [(2, 5, 3, 3, 8)], 6 * 15 * (2 * 16 + 20)),
        (
            o.self_attention_grad,
            [(2, 5, 3, 3, 8), (2, 5, 3, 8), (2, 3, 5), (2, 5, 3, 8)],
            6 * 25 * (2 * 2.5 * 16 + 20),
        ),
        (o.add, [(4, 5), (5,)], 20),
        (o.exp, [(4, 5)], 400),
        (lambda x: o.reduce_sum(x, axis=0), [(4, 5)], 20),
        (lambda x: o.transpose(x, perm=(1, 0)), [(4, 5)], 0),
    ],
)
def test_operations_are_counted_from_shapes_and_attributes(emit, shapes, operations):
    assert one(emit, *shapes).operations == operations


def test_bytes_are_those_of_the_operands_each_once():
    assert one(o.add, (4, 5), (5,)).nbytes == 4 * (20 + 5 + 20)
    assert one(lambda x: o.mul(x, x), (4, 5)).nbytes == 4 * (20 + 20)
    assert one(o.add, (4,), (4,), dtypes=["float64", "float64"]).nbytes == 8 * 12


def test_sizes_may_be_symbols():
    assert one(o.matmul, (N, 5), (5, 7), sizes={"N": 3}).operations == 2 * 3 * 5 * 7


def test_of_a_table_only_the_rows_asked_for_count():
    work = one(o.embedding, (1000, 8), (3,), dtypes=["float32", "int64"])
    assert work.nbytes == 3 * 8 + 2 * (3 * 8 * 4)
    work = one(lambda x, ids: o.gather(x, ids), (1000, 8), (3,), dtypes=["float32", "int64"])
    assert work.nbytes == 3 * 8 + 2 * (3 * 8 * 4)
    part = one(lambda x: o.slice(x, axes=(0,), starts=(0,), stops=(2,)), (1000, 8))
    assert part.nbytes == 2 * (2 * 8 * 4)


def test_an_update_of_rows_touches_those_rows_of_each_state():
    def fn(b):
        ids, rows = b.input("ids", (3,), "int64"), b.input("rows", (3, 8))
        new, moved = o.momentum_update_rows(value(b, "w"), ids, rows, value(b, "v"), value(b, "lr"))
        b.update("w", new)
        b.update("v", moved)
        return {}

    table = np.zeros((1000, 8), np.float32)
    work = works(fn, w=table, v=table, lr=np.float32(0.1))["momentum_update_rows"]
    assert work.nbytes == 3 * 8 + (3 * 8 * 4) * 5


def test_views_cost_nothing_and_reorders_are_read_and_written():
    assert one(lambda x: o.reshape(x, shape=(20,)), (4, 5)) == (0, 0)


@pytest.mark.usefixtures("fast_kernels")
def test_copies_are_counted_by_their_bytes():
    def fn(b):
        return {"y": o.conv2d(b.input("x", (2, 16, 8, 8)), value(b, "w"))}

    bound = bind(build(fn, w=floats(16, 16, 3, 3)), {}, frozenset({"onednn", "numba"}))
    found = {i.step.op.type: bound.work(i) for i in bound.items if i.reorders}
    assert found == {"reorder": (0, 2 * 4 * 2 * 16 * 64)}


def test_a_fused_loop_counts_what_is_inside():
    def body(b):
        x = b.input("x", (4, 5))
        return {"y": o.exp(o.mul(x, x))}

    bound = bind(optimize(build(body)), {})
    (item,) = bound.items
    assert item.step.op.type == "fused" and bound.work(item).operations == 20 + 20 * 20


def test_a_scan_counts_each_of_its_steps():
    def fn(b):
        x, w = b.input("x", (6, 2, 5)), b.input("w", (5, 5))
        start = b.input("start", (2, 5))
        last, _ = scan(lambda c, s: (o.add(o.matmul(c, w), s), None), start, x)
        return {"y": last}

    assert works(fn)["scan"].operations == 6 * (2 * 2 * 5 * 5 + 10)


def test_what_only_a_run_tells_counts_as_nothing():
    def fn(b):
        return {"y": o.square(o.nonzero(b.input("x", (N,)), size="M"))}

    assert works(fn, {"N": 3})["square"].operations == 0


def test_an_op_says_what_it_costs_by_its_own_names(own_ops):
    @op
    def costly(x, y=None, *, k=1):
        return x

    @costly.compute
    def _(xp, x, y, k):
        return x

    @costly.work
    def _(x, y, out, k):
        assert y is None
        return k * out.size, x.nbytes

    assert one(lambda x: costly(x, k=3), (4, 5)) == (60, 80)


def test_an_op_can_only_ask_for_what_it_has(own_ops):
    @op
    def costly(x):
        return x

    with pytest.raises(ProgramError, match="asks for 'weight'"):

        @costly.work
        def _(x, weight):
            return 0
