"""Blocks of control flow on the engine: any sizes, any thread, planned once."""

import gc
import threading

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.kernels import library
from noria.ops.control import cond
from noria.ops.loops import scan, while_loop
from noria.runtime import nested
from noria.runtime.executor import Executor
from noria.runtime.nested import MAX_BOUND, NestedBlock, block_functions, block_program
from noria.testing.check import load_ops
from tests.runtime.programs import N, assert_engine_is_right, build, feeds_of, floats

load_ops()
_registered = library  # importing it is enough
ENGINES = [frozenset(), frozenset({"numba", "onednn"})]
TABLE = np.arange(3, dtype=np.float32)


def positive(x):
    return o.greater(o.reduce_sum(x), 0.0)


def then_of(fn, shape=(N, 3)):
    """The block `then` of a condition on x that runs fn(x), and its Program."""

    def both(b):
        x = b.input("x", shape)
        return {"y": cond(positive(x), fn, lambda v: o.neg(v), x)}

    program = build(both)
    op = next(op for op in program.operators if op.type == "cond")
    return op.blocks["then"], op, program


def tripled(x):
    return o.add(o.mul(x, 3.0), TABLE)


def expect(x):
    return x * 3 + TABLE


# ---- one block ---------------------------------------------------------------------------------


@pytest.mark.parametrize("engines", ENGINES, ids=["reference", "fast"])
def test_sizes_change_from_call_to_call(engines):
    block = NestedBlock(then_of(tripled)[0], engines)
    for n in (4, 1, 0, 9, 4):
        x = floats(n, 3, seed=n)
        (y,) = block.call({"N": n}, 1, x)
        np.testing.assert_allclose(y, expect(x), rtol=1e-6)
    assert {s.engine.split(":")[0] for s in block.plan.body} <= {*engines, "reference", "view"}


def test_fast_kernels_run_in_it():
    block = NestedBlock(then_of(lambda x: o.square(x))[0], frozenset({"numba"}))
    assert [s.engine for s in block.plan.steps] == ["numba:elementwise"]


def test_results_are_the_callers_own():
    block = NestedBlock(then_of(lambda x: o.square(x))[0], ENGINES[0])
    (first,) = block.call({}, 1, np.full((1, 3), 2, np.float32))
    block.call({}, 1, np.full((1, 3), 5, np.float32))
    assert first.tolist() == [[4, 4, 4]]


def test_the_same_sizes_are_bound_once_and_old_ones_forgotten():
    block = NestedBlock(then_of(tripled)[0], ENGINES[0])
    x = floats(40, 3)  # the largest: its arena serves all others
    block.call({"N": 40}, 1, x)
    (space,) = block.idle
    (bound,) = space.bounds.values()
    block.call({"N": 40, "other": 99}, 1, x)
    assert list(space.bounds.values()) == [bound], "a size it does not use is of no importance"
    for n in range(10, 10 + MAX_BOUND):
        block.call({"N": n}, 1, floats(n, 3))
    assert len(space.bounds) == MAX_BOUND and bound not in space.bounds.values()
    np.testing.assert_allclose(block.call({"N": 40}, 1, x)[0], expect(x), rtol=1e-6)


def test_constants_are_computed_once_for_all_sizes():
    block = NestedBlock(then_of(tripled)[0], ENGINES[0])
    block.call({}, 1, floats(2, 3))
    pieces = dict(block.kept.pieces)
    assert pieces, "the table must be a constant for this test"
    block.call({}, 1, floats(5, 3))
    assert block.kept.pieces == pieces


def test_a_size_from_around_the_block_is_used():
    m = symbol("M")

    def fn(b):
        x, z = b.input("x", (N,)), b.input("z", (m,))
        y = cond(
            positive(x),
            lambda v: o.mul(v, o.reduce_sum(o.fill(shape=(m,), value=1.0))),
            lambda v: v,
            x,
        )
        return {"y": y, "z": z}

    program = build(fn)
    block = next(op for op in program.operators if op.type == "cond").blocks["then"]
    inner, x = NestedBlock(block, ENGINES[0]), np.ones(2, np.float32)
    assert [inner.call({"N": 2, "M": k}, 1, x)[0].tolist() for k in (3, 5, 3)] == [
        [3, 3],
        [5, 5],
        [3, 3],
    ]
    assert len(inner.idle[0].bounds) == 2
    assert_engine_is_right(program, [feeds_of(program, N=2, M=k) for k in (4, 1, 6)])


def test_an_error_gives_the_workspace_back():
    block = NestedBlock(then_of(tripled)[0], ENGINES[0])
    for wrong in (floats(2, 4), floats(3)):
        with pytest.raises(ShapeError, match="expected"):
            block.call({}, 1, wrong)
    assert len(block.idle) == 1
    x = floats(2, 3)
    np.testing.assert_allclose(block.call({}, 1, x)[0], expect(x), rtol=1e-6)


@pytest.mark.parametrize("engines", ENGINES, ids=["reference", "fast"])
def test_two_threads_at_different_sizes(engines):
    block = NestedBlock(then_of(tripled)[0], engines)
    wrong, start = [], threading.Barrier(2)

    def work(seed):
        start.wait()
        for i in range(150):
            x = floats(1 + (seed + i) % 7, 3, seed=seed + i)
            (y,) = block.call({}, 1, x)
            if not np.allclose(y, expect(x), rtol=1e-5, atol=1e-5):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong and 1 <= len(block.idle) <= 2


def test_a_call_inside_a_call_has_memory_of_its_own():
    """As a loop in a loop has, when both are the same block."""
    block = NestedBlock(then_of(lambda x: o.square(x))[0], ENGINES[0])
    seen = []
    x = np.full((1, 3), 3, np.float32)
    block.call({}, 1, x)
    bound = next(iter(block.idle[0].bounds.values()))
    run = bound.run

    def run_and_enter():
        run()
        bound.run = run
        seen.append(block.call({}, 1, x + 1)[0].tolist())

    bound.run = run_and_enter
    assert block.call({}, 1, x)[0].tolist() == [[9, 9, 9]]
    assert seen == [[[16, 16, 16]]] and len(block.idle) == 2


# ---- blocks of an operator ---------------------------------------------------------------------


def test_a_block_is_planned_once_for_each_set_of_engines(monkeypatch):
    _, op, _program = then_of(tripled)
    planned = []
    make_plan = nested.make_plan
    monkeypatch.setattr(
        nested, "make_plan", lambda p, engines: planned.append(engines) or make_plan(p, engines)
    )
    x = floats(2, 3)
    for engines in (ENGINES[0], ENGINES[1], ENGINES[0]):
        functions = block_functions(op, {"N": 2}, 1, engines)
        assert set(functions) == {"then", "otherwise"}
        np.testing.assert_allclose(functions["then"](x)[0], expect(x), rtol=1e-6)
        np.testing.assert_array_equal(functions["otherwise"](x)[0], -x)
    assert planned == [ENGINES[0]] * 2 + [ENGINES[1]] * 2


def test_plans_of_blocks_go_with_their_program():
    before = set(nested._blocks)  # held, so that what earlier tests left stays
    _, op, program = then_of(tripled)
    block_functions(op, {}, 1, ENGINES[0])
    assert len(nested._blocks) == len(before) + 2
    del op, program, _
    gc.collect()
    assert set(nested._blocks) == before


def test_the_program_of_a_block_leaves_the_block_as_it_was():
    block, *_ = then_of(tripled)
    program = block_program(block)
    program.block.operators.clear()
    assert block.operators and list(program.outputs.values()) == block.outputs


# ---- whole Programs ----------------------------------------------------------------------------


def deep():
    """A loop whose steps choose between branches, one of which holds a scan."""

    def fn(b):
        x = b.input("x", (N, 3))

        def summed(v):
            return scan(lambda c, row: (o.add(c, row), c), o.mul(TABLE, 0.0), v)[1]

        def step(carry):
            i, v = carry
            return o.add(i, 1), cond(positive(v), summed, lambda u: o.add(o.neg(u), 1.0), v)

        zero = o.fill(shape=(), value=0, dtype="int64")
        i, y = while_loop(lambda c: o.less(c[0], 3), step, (zero, x))
        return {"y": y, "i": i}

    return build(fn, "deep")


def test_nested_control_flow_at_changing_sizes():
    program = deep()
    runs = [feeds_of(program, seed=n, N=n) for n in (3, 1, 0, 6, 3)]
    assert_engine_is_right(program, runs)


def test_executors_of_one_program_in_two_threads():
    program = deep()
    feeds = [feeds_of(program, seed=s, N=1 + s % 4) for s in range(8)]
    alone = Executor(program, threads=1)
    want = [alone.run(f)["y"] for f in feeds]
    wrong, done = [], []

    def work():
        executor = Executor(program, threads=1)
        for _ in range(3):
            for i, f in enumerate(feeds):
                if not np.array_equal(executor.run(f)["y"], want[i]):
                    wrong.append(i)
        done.append(True)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong and len(done) == 2
