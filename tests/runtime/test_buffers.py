"""What shares memory, what must not, and the proof that nobody reads what was overwritten."""

import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.runtime.bind import Bound
from noria.runtime.buffers import Buffers
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from tests.runtime.fuzz import Fuzz
from tests.runtime.programs import N, assert_engine_is_right, build, feeds_of, floats, value

NONE = frozenset()


def bound_of(fn, engines=NONE, n=4, **state):
    """A Bound of a small Program, by the reference kernels unless others are named."""
    program = build(fn, **state)
    arrays = {k: np.ascontiguousarray(a) for k, a in state.items()}
    return Bound(make_plan(program, engines), {"N": n}, arrays, 1, block_functions)


def buffer(bound, name):
    return next(b for v, b in bound.memory.of.items() if v.name == name)


def shares(bound, *names):
    return len({buffer(bound, n) for n in names}) == 1


# ---- in place ----------------------------------------------------------------------------------


def test_a_chain_runs_in_the_memory_of_its_input():
    bound = bound_of(lambda b: {"y": o.exp(o.neg(o.tanh(b.input("x", (N,)))))})
    assert shares(bound, "x", "tanh", "neg", "exp")
    assert bound.arena_bytes == 64 and bound.naive_bytes == 48


def test_a_value_used_later_is_not_overwritten():
    def fn(b):
        t = o.tanh(b.input("x", (N,)))
        return {"y": o.add(o.exp(t), t)}

    bound = bound_of(fn)
    assert shares(bound, "x", "tanh") and not shares(bound, "tanh", "exp")


def test_a_fetched_value_is_not_overwritten():
    def fn(b):
        t = o.tanh(b.input("x", (N,)))
        return {"t": t, "y": o.exp(t)}

    assert not shares(bound_of(fn), "tanh", "exp")


def test_a_value_whose_view_is_used_later_is_not_overwritten():
    def fn(b):
        t = o.tanh(b.input("x", (N, 4)))
        flat = o.reshape(t, shape=(N * 4,))
        y = o.exp(t)
        return {"y": y, "f": o.mul(flat, o.reshape(y, shape=(N * 4,)))}

    bound = bound_of(fn)
    assert shares(bound, "tanh", "reshape") and not shares(bound, "tanh", "exp")


def test_a_view_that_dies_gives_its_memory():
    def fn(b):
        return {"y": o.exp(o.reshape(o.tanh(b.input("x", (N, 4))), shape=(N * 4,)))}

    assert shares(bound_of(fn), "x", "tanh", "reshape", "exp")


def test_an_input_used_twice_may_be_overwritten_where_both_places_allow_it():
    assert shares(bound_of(lambda b: {"y": twice(b.input("x", (N,)))}), "x", "mul")


def twice(x):
    return o.mul(x, x)


def test_an_input_beside_its_own_view_is_not_overwritten():
    def fn(b):
        x = b.input("x", (4, 4))
        return {"y": o.add(x, o.reshape(o.reshape(x, shape=(16,)), shape=(4, 4)))}

    assert not shares(bound_of(fn), "x", "add")


def test_a_broadcast_input_is_not_overwritten():
    bound = bound_of(lambda b: {"y": o.add(b.input("x", (N, 4)), o.tanh(b.input("c", (4,))))})
    assert shares(bound, "x", "add") and not shares(bound, "tanh", "add")


# ---- state -------------------------------------------------------------------------------------


def test_state_is_updated_in_its_own_memory():
    def fn(b):
        w = value(b, "w")
        b.update("w", o.sub(w, b.input("g", (4,))))
        return {}

    bound = bound_of(fn, w=floats(4))
    assert shares(bound, "w", "sub") and not bound.memory.commits


def test_state_that_is_fetched_is_updated_after_the_fetch():
    def fn(b):
        w = value(b, "w")
        b.update("w", o.sub(w, b.input("g", (4,))))
        return {"old": w}

    bound = bound_of(fn, w=floats(4))
    assert not shares(bound, "w", "sub") and [n for n, _ in bound.memory.commits] == ["w"]


def test_one_new_value_for_two_states_is_computed_in_one_of_them():
    def fn(b):
        new = o.mul(b.input("g", (4,)), 2.0)
        b.update("a", new)
        b.update("c", new)
        return {}

    bound = bound_of(fn, a=floats(4), c=floats(4))
    assert shares(bound, "a", "mul") and [n for n, _ in bound.memory.commits] == ["c"]


def test_fixed_values_keep_memory_of_their_own():
    def fn(b):
        return {"y": o.add(b.input("x", (N, 4)), o.tanh(value(b, "c")))}

    bound = bound_of(fn, c=floats(4))
    assert buffer(bound, "tanh").pinned and not buffer(bound, "add").pinned


# ---- packed copies and scratch -----------------------------------------------------------------


def test_a_packed_copy_lives_to_its_last_reader():
    def fn(b):
        w = b.input("w", (64, 48))
        a = o.linear(b.input("x", (32, 48)), w)
        return {"a": o.reduce_sum(a), "c": o.reduce_sum(o.linear(b.input("z", (64, 48)), w))}

    bound = bound_of(fn, frozenset({"onednn"}))
    packs = {p for item in bound.items for p in item.packs}
    for pack in packs:
        readers = [t for t, i in enumerate(bound.items) if pack in i.packs]
        assert (pack.first, pack.last) == (readers[0], readers[-1])
        assert len(readers) >= 2


# ---- proof -------------------------------------------------------------------------------------


def test_the_proof_finds_a_value_that_was_overwritten():
    def fn(b):
        t = o.tanh(b.input("x", (N,)))
        return {"y": o.add(o.exp(t), t)}

    bound = bound_of(fn)
    bound.memory.prove([], bound.items)
    of = bound.memory.of
    of[next(v for v in of if v.name == "exp")] = buffer(bound, "tanh")
    with pytest.raises(EngineError, match="'tanh' from memory that holds something else"):
        bound.memory.prove([], bound.items)


def test_the_proof_finds_state_that_was_written_too_early():
    def fn(b):
        w = value(b, "w")
        b.update("w", o.mul(b.input("x", (4,)), 2.0))
        return {"y": o.tanh(w), "z": w}

    bound = bound_of(fn, w=floats(4))
    of = bound.memory.of
    of[next(v for v in of if v.name == "mul")] = buffer(bound, "w")
    with pytest.raises(EngineError, match="something else"):
        bound.memory.prove([], bound.items)


def test_the_proof_finds_memory_used_outside_its_life():
    bound = bound_of(lambda b: {"y": o.exp(o.add(b.input("x", (N,)), b.input("z", (N,))))})
    buffer(bound, "add").last = 0
    with pytest.raises(EngineError, match="outside the life"):
        bound.memory.prove([], bound.items)


def test_the_proof_finds_two_outputs_in_one_place():
    def fn(b):
        top, ids = o.topk(b.input("x", (4,)), k=4)
        return {"a": top, "b": ids}

    bound = bound_of(fn)
    of = bound.memory.of
    first, second = bound.items[0].outputs
    of[second] = of[first]
    with pytest.raises(EngineError, match="same memory"):
        bound.memory.prove([], bound.items)


def test_the_proof_finds_an_input_that_must_not_be_overwritten():
    bound = bound_of(lambda b: {"y": o.reduce_sum(b.input("x", (1, 4)), axis=0)})
    of = bound.memory.of
    of[bound.items[0].outputs[0]] = buffer(bound, "x")
    with pytest.raises(EngineError, match="must not overwrite its input 0"):
        bound.memory.prove([], bound.items)


def last_uses_without_views(self, items):
    last = dict.fromkeys(self.program.roots(), len(items))
    for t, item in enumerate(items):
        last.update({v: max(t, last.get(v, t)) for v in item.inputs if v is not None})
    return last


MISTAKES = {
    "_last_uses": last_uses_without_views,
    "_fits_state": lambda *_: True,
}


@pytest.mark.parametrize("rule", MISTAKES)
def test_random_programs_betray_a_rule_that_is_left_out(rule, monkeypatch):
    monkeypatch.setattr(Buffers, rule, MISTAKES[rule])
    found = 0
    with flags.set(kernels="reference", check_memory=True):
        for seed in range(60):
            program = Fuzz(seed).program
            try:
                assert_engine_is_right(program, [feeds_of(program, seed=s, N=3) for s in (1, 2)])
            except (EngineError, AssertionError, ValueError):
                found += 1
    assert found


@pytest.mark.parametrize("seed", range(30))
def test_random_programs_give_what_the_interpreter_gives(seed):
    program = Fuzz(1000 + seed).program
    runs = [feeds_of(program, seed=s, N=n) for s, n in ((1, 3), (2, 3), (3, 1), (4, 0))]
    for kernels in ("all", "reference"):
        with flags.set(kernels=kernels, check_memory=True):
            assert_engine_is_right(program, runs)
            assert_engine_is_right(program, runs, fetch=["out3", "again"])
            assert_engine_is_right(program, runs[:2], fetch=[])
