"""Sizes become real: kernels, memory, tapes; what a step does and what stays from step to step."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import EngineError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.kernels.numba import jit, parallel
from noria.kernels.onednn import primitive
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.tape import Tape
from noria.runtime.workspace import Workspace
from tests.runtime.binding import NONE, Negate, bind, relu, step
from tests.runtime.programs import N, build, floats, mlp, value

DNN = frozenset({"onednn"})

# ---- sizes -------------------------------------------------------------------------------------


def test_sizes_that_must_agree_are_compared_and_the_line_is_named():
    m = symbol("M")

    def fn(b):
        return {"y": o.add(b.input("x", (N,)), b.input("z", (m,)))}

    program = build(fn)
    bind(program, {"N": 3, "M": 3})
    with pytest.raises(ShapeError) as error:
        bind(program, {"N": 3, "M": 4})
    assert "add at" in error.value.where and "test_bind.py" in error.value.where
    assert error.value.expected and "3 and 4" in error.value.got and error.value.hint


def test_a_size_of_zero_runs():
    program = mlp(4, 3, 2)
    for engines in (NONE, DNN, frozenset({"onednn", "numba"})):
        assert step(bind(program, {"N": 0}, engines), floats(0, 4))["y"].shape == (0, 2)


# ---- kernels -----------------------------------------------------------------------------------


def test_a_kernel_is_given_real_operands_addresses_and_scratch(own_kernels):
    kernel = own_kernels(Negate())
    bound = bind(build(relu), {"N": 2}, frozenset({"test"}), threads=2)
    given, *_, (ins, outs, packs, scratch) = kernel.seen
    assert given.inputs[0].shape == (2, 4) and given.threads == 2 and given.fixed == [False]
    arena = range(bound.arena.address, bound.arena.address + bound.arena_bytes)
    assert all(a in arena for a in (ins[0], outs[0], scratch)) and packs == []
    assert len({ins[0], outs[0], scratch}) == 3  # it did not say that it may work in place
    x = floats(2, 4)
    np.testing.assert_array_equal(step(bound, x)["y"], -x)


def test_a_kernel_may_decline_when_sizes_are_known(own_kernels):
    kernel = own_kernels(Negate())
    kernel.declines = True
    plan = make_plan(build(relu), frozenset({"test"}))
    for n in (1, 2, 3):
        bound = Bound(plan, {"N": n}, {}, 1, block_functions)
        x = floats(n, 4)
        np.testing.assert_array_equal(step(bound, x)["y"], np.maximum(x, 0))
    noted = [reason for name, reason in plan.steps[0].refused if name == "test:negate"]
    assert noted == ["at binding: it does not like it"]


def test_the_next_kernel_serves_where_the_first_declines(own_kernels):
    own_kernels(Negate()).declines = True
    other = own_kernels(Negate())
    bound = bind(build(relu), {"N": 2}, frozenset({"test"}))
    assert bound.items[0].kernel is other


def test_a_kernel_without_memory_for_its_tables_is_told_with_the_operator(own_kernels):
    kernel = own_kernels(Negate())
    kernel.bind = lambda bound: np.empty(1 << 45)
    with pytest.raises(EngineError, match="no memory for a kernel") as caught:
        bind(build(relu), {"N": 2}, frozenset({"test"}))
    assert "relu" in caught.value.where


def test_empty_operands_are_left_to_the_reference(own_kernels):
    kernel = own_kernels(Negate())
    assert step(bind(build(relu), {"N": 0}, frozenset({"test"})), floats(0, 4))["y"].shape == (0, 4)
    assert not kernel.seen


# ---- threads -----------------------------------------------------------------------------------


def test_primitives_and_tapes_are_made_for_the_threads_asked_for(monkeypatch):
    made = []
    original = primitive._remembered
    monkeypatch.setattr(
        primitive, "_remembered", lambda n, *args: made.append(n) or original(n, *args)
    )
    before = parallel.thread_count()
    tapes = []

    class Noted(Tape):
        def __init__(self, calls, threads, places):
            tapes.append(threads)
            super().__init__(calls, threads, places)

    monkeypatch.setattr("noria.runtime.emission.Tape", Noted)
    bind(mlp(64, 64, 64), {"N": 64}, DNN, threads=3)
    assert made and set(made) == {3} and set(tapes) == {3}
    assert parallel.thread_count() == before


# ---- what is kept ------------------------------------------------------------------------------


def test_kernels_the_cache_lacks_are_compiled_together(monkeypatch, tmp_path):
    """Those of the tape and of packing the weights too."""
    monkeypatch.setenv("NORIA_CACHE", str(tmp_path))
    monkeypatch.setattr(jit, "_functions", {})
    batches, both = [], frozenset({"onednn", "numba"})
    real = jit._compile_apart
    monkeypatch.setattr(jit, "_compile_apart", lambda f: (batches.append(len(f)), real(f)))
    program = mlp(64, 64, 64)
    state = {n: np.array(s.init[1]["value"]) for n, s in program.state.items()}
    x = floats(256, 64)
    bound = Bound(make_plan(program, both), {"N": 256}, state, 2, block_functions)
    assert len(batches) == 1 and batches[0] > 2
    want = np.maximum(x @ state["w0"].T + state["b0"], 0) @ state["w1"].T + state["b1"]
    np.testing.assert_allclose(step(bound, x)["y"], want, rtol=1e-4, atol=1e-5)
    Bound(make_plan(program, both), {"N": 256}, state, 2, block_functions)
    assert len(batches) == 1


def test_the_prologue_runs_again_only_when_state_was_written():
    def fn(b):
        return {"y": o.add(b.input("x", (N, 4)), o.exp(value(b, "c")))}

    bound = bind(build(fn, c=floats(4)), {"N": 1})
    x = np.zeros((1, 4))
    first = step(bound, x)["y"]
    bound.state["c"][:] = 0
    np.testing.assert_array_equal(step(bound, x)["y"], first)
    bound.kept.follow(1)
    np.testing.assert_array_equal(step(bound, x)["y"], np.ones((1, 4)))


def test_bounds_of_all_sizes_lie_in_one_arena():
    space, program = Workspace(), mlp(64, 64, 64)
    large = bind(program, {"N": 50}, space=space)
    small = bind(program, {"N": 20}, space=space)
    assert small.arena is large.arena and small.arena_bytes < large.arena_bytes
