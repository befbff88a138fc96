"""What lies in memory, and what for."""

import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.runtime.profiling.memory import (
    CATEGORIES,
    GRADIENTS,
    KEPT,
    STATE,
    TEMPORARY,
    WORKSPACE,
    memory_profile,
)
from tests.runtime.binding import bind
from tests.runtime.profiling.machine import FEEDS, training
from tests.runtime.programs import N, build, floats, mlp, value


def of(found, category):
    return [b for b in found.live if b.category == category]


def test_the_largest_total_is_what_the_planner_says():
    bound = training().bound(FEEDS)
    found = memory_profile(bound)
    (state,) = of(found, STATE)
    assert found.peak_bytes - state.nbytes == bound.peak_bytes
    assert found.totals.shape == (len(CATEGORIES), len(bound.items))
    assert found.arena_bytes == bound.arena_bytes


def test_activations_are_kept_and_gradients_are_gradients():
    found = memory_profile(training().bound(FEEDS))
    assert "fused_linear" in {b.name for b in of(found, KEPT)}
    assert {b.op for b in of(found, GRADIENTS)} & {"matmul", "reduce_sum", "fused"}
    assert all("machine.py" in b.source for b in of(found, GRADIENTS))
    (state,) = of(found, STATE)
    assert state.nbytes >= 3 * 4 * (4 * 8 + 8 + 8 * 3 + 3)  # parameters and two moments


def test_in_inference_all_is_temporary():
    found = memory_profile(bind(mlp(4, 8, 2), {"N": 3}))
    assert not of(found, KEPT) and not of(found, GRADIENTS)
    assert {b.name for b in of(found, TEMPORARY)} >= {"x", "linear"}
    assert next(b for b in of(found, TEMPORARY) if b.name == "x").op == "feed"


def test_a_value_written_over_another_takes_its_place_in_the_account():
    def fn(b):
        return {"y": o.exp(o.tanh(b.input("x", (N, 4))))}

    bound = bind(build(fn), {"N": 3})
    found = memory_profile(bound)
    tanh, exp = (next(b for b in found.live if b.name == n) for n in ("tanh", "exp"))
    assert bound.memory.of[bound.items[1].outputs[0]] is bound.memory.of[bound.items[0].outputs[0]]
    assert (tanh.first, tanh.last, exp.first) == (0, 0, 1)


@pytest.mark.usefixtures("fast_kernels")
def test_scratch_and_packs_are_workspace():
    def fn(b):
        w = value(b, "w")
        b.update("w", o.mul(w, 0.5))
        return {"y": o.matmul(b.input("x", (1024, 64)), w)}

    found = memory_profile(bind(build(fn, w=floats(64, 64)), {}, frozenset({"onednn"})))
    assert "w.packed" in {b.name for b in of(found, WORKSPACE)}


def test_what_is_alive_can_be_asked_for_any_step():
    found = memory_profile(bind(mlp(4, 8, 2), {"N": 3}))
    for i in range(found.totals.shape[1]):
        alive = found.at(i)
        assert sum(b.nbytes for b in alive) == found.total[i]
        assert [b.nbytes for b in alive] == sorted((b.nbytes for b in alive), reverse=True)


def test_an_empty_plan_has_no_peak():
    found = memory_profile(bind(build(lambda b: {"y": value(b, "w")}, w=np.ones(3)), {}))
    assert found.peak == 0 and found.peak_bytes == 0 and found.total.shape == (0,)
