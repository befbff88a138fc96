"""Operators change places where fewer bytes are alive at the worst moment, and only there."""

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.opdef import op, registry
from noria.ir.opdef import vocabulary as o
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.order import Live, low_peak
from noria.runtime.plan import make_plan, schedule, with_updates_early
from tests.runtime.binding import step
from tests.runtime.programs import N, build, floats


def towers(b, count=8):
    """All towers are begun before the first is ended, as a user may write it."""
    x = b.input("x", (N, 4))
    wide = [o.tanh(o.tile(o.add(x, float(k)), repeats=(1, 64))) for k in range(count)]
    ends = [o.reduce_sum(w, axis=1) for w in wide]
    return {f"y{k}": end for k, end in enumerate(ends)}


def peaks(program):
    order = schedule(program)
    live = Live(program, order)
    return live.peak(order), live.peak(low_peak(program, order))


def test_towers_are_finished_one_by_one():
    program = build(towers)
    before, after = peaks(program)
    assert after < 0.3 * before
    with flags.set(check_memory=True):
        bound = Bound(make_plan(program), {"N": 32}, {}, 1, block_functions)
    one = 32 * 4 * 64 * 4
    assert one <= bound.arena_bytes < 2 * one
    x = floats(32, 4)
    got = step(bound, x)
    for k in range(8):
        expected = np.tanh(np.tile(x + k, (1, 64))).sum(1)
        np.testing.assert_allclose(got[f"y{k}"], expected, rtol=1e-4, atol=1e-4)


def test_the_order_is_the_same_every_time():
    program = build(towers)
    order = schedule(program)
    first = low_peak(program, order)
    assert first != order and sorted(map(id, first)) == sorted(map(id, order))
    assert all(low_peak(program, order) == first for _ in range(3))


def test_where_nothing_is_gained_nothing_moves():
    def fn(b):
        x = b.input("x", (N, 4))
        a, c = o.exp(x), o.tanh(x)
        return {"y": o.add(o.neg(a), o.neg(c))}

    program = build(fn)
    order = schedule(program)
    assert low_peak(program, order) == order


def test_every_operator_comes_after_what_it_needs():
    program = build(towers)
    seen = set(program.block.inputs)
    for x in low_peak(program, schedule(program)):
        assert seen.issuperset(x.operands)
        seen.update(x.outputs)


def test_a_state_is_read_before_its_new_value_is_computed():
    def fn(b):
        x, w = b.input("x", (N, 4)), b.program.state["w"].value
        ends = [o.reduce_sum(o.tile(o.mul(x, w), repeats=(1, 64)), axis=1) for _ in range(4)]
        wide = [o.tile(o.add(x, float(k)), repeats=(1, 64)) for k in range(6)]
        b.program.updates["w"] = o.add(w, 1.0)
        return {f"y{k}": o.reduce_sum(v, axis=1) for k, v in enumerate(wide)} | {"z": sum(ends)}

    program = build(fn, w=np.ones(4, np.float32))
    order = low_peak(program, schedule(program))
    w = program.state["w"].value
    new = program.updates["w"]
    readers = [i for i, x in enumerate(order) if w in x.operands]
    assert readers[-1] == next(i for i, x in enumerate(order) if new in x.outputs)


@pytest.fixture
def printing():
    """A throw-away op with an effect."""

    @op(name="test_print", effect="ordered")
    def show(x):
        """Tells what x is."""
        return x

    yield show
    del registry["test_print"]


def test_effects_keep_their_order(printing):
    def fn(b):
        x = b.input("x", (N, 4))
        wide = [o.tile(o.add(x, float(k)), repeats=(1, 64)) for k in range(6)]
        ends = [o.reduce_sum(v, axis=1) for v in wide[::-1]]
        return {f"y{k}": printing(end) for k, end in enumerate(ends)}

    program = build(fn)
    order = schedule(program)
    found = low_peak(program, order)
    assert found != order
    assert [x for x in found if x.type == "test_print"] == program.operators[-6:]


def test_views_and_what_is_computed_in_place_take_nothing():
    def fn(b):
        t = o.tanh(o.tile(b.input("x", (N, 4)), repeats=(1, 8)))
        return {"y": o.reduce_sum(o.exp(o.reshape(t, shape=(N * 32,))))}

    program = build(fn)
    order = schedule(program)
    assert Live(program, order).peak(order) == 32 * 32 * 4 + 4


def momentum(b):
    """Wide values whose sums are wanted, one after the other, and the update of a large state."""
    x, lr = b.input("x", (N, 4)), b.program.state["lr"].value
    w, v = (b.program.state[name].value for name in "wv")
    wide = [o.tile(o.add(x, float(k)), repeats=(1, 64)) for k in range(6)]
    down, across = (o.reduce_sum(t, axis=0) for t in wide[:2])
    g = o.mul(o.reshape(down, shape=(256, 1)), o.reshape(across, shape=(1, 256)))
    ends = [o.reduce_sum(o.tanh(t)) for t in wide]
    b.program.updates["w"], b.program.updates["v"] = o.momentum_update(w, g, v, lr)
    return {f"y{k}": end for k, end in enumerate(ends)}


def test_an_update_comes_right_behind_its_gradient():
    """The gradient is dropped at once, while a cache still has it."""
    large = np.zeros((256, 256), np.float32)
    program = build(momentum, w=large, v=large, lr=np.float32(0.1))
    gradient = next(x for x in program.operators if x.type == "momentum_update").operands[1]
    order = program.operators
    found = with_updates_early(program, order)
    assert sorted(map(id, found)) == sorted(map(id, order))
    for given, far in ((order, True), (found, False)):
        at = next(i for i, x in enumerate(given) if x.type == "momentum_update")
        assert (gradient not in given[at - 1].outputs) == far
    assert with_updates_early(program, found) == found
    planned = [s.op for s in make_plan(program).steps]
    at = next(i for i, x in enumerate(planned) if x.type == "momentum_update")
    assert gradient in planned[at - 1].outputs
