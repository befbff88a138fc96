"""Sizes become real: kernels, memory, tapes; what a step does and what stays from step to step."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.core.flags import flags
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.kernels.call import Call
from noria.kernels.numba import jit, parallel
from noria.kernels.onednn import primitive
from noria.kernels.registry import LAST, Array, Declined, Kernel, Prepared, strides_of
from noria.ops.create import size_of
from noria.runtime.arena import Arena
from noria.runtime.bind import Bound, array_at
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.tape import Tape
from noria.runtime.workspace import Kept, Workspace
from tests.runtime.programs import N, assert_engine_is_right, build, floats, mlp, value

NONE = frozenset()
DNN = frozenset({"onednn"})


def bind(program, sizes, engines=NONE, threads=1, **how):
    state = {
        n: np.array(s.init[1]["value"]).astype(s.value.dtype) for n, s in program.state.items()
    }
    return Bound(make_plan(program, engines), sizes, state, threads, block_functions, **how)


def step(bound, *arrays):
    """One run; all outputs by name."""
    if bound.epoch != bound.kept.epoch:
        bound.run_prologue()
    for view, array in zip(bound.feeds, arrays, strict=True):
        view[...] = array
    bound.run()
    out = {n: bound.fetch(n) for n in bound.outputs}
    bound.commit()
    return out


def relu(b):
    return {"y": o.relu(b.input("x", (N, 4)))}


# ---- sizes -------------------------------------------------------------------------------------


def test_shapes_and_layouts_become_numbers():
    def fn(b):
        y = o.conv2d(b.input("x", (N, 3, 6, 6)), value(b, "w"), padding=1)
        return {"y": o.reshape(y, shape=(N, 4 * 36))}

    bound = bind(build(fn, w=floats(4, 3, 3, 3)), {"N": 5}, DNN)
    shapes = {v.name: bound.array(v) for v in bound.memory.of}
    assert shapes["conv2d"] == Array((5, 4, 6, 6), "float32", strides_of((5, 4, 6, 6), LAST))
    assert shapes["reshape"].shape == (5, 144) and shapes["reshape"].dense


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


def test_sizes_found_by_a_run_are_compared_as_it_runs():
    def fn(b):
        found = o.nonzero(o.greater(b.input("x", (N,)), 0.0), size="K")
        rows = o.reduce_sum(o.cast(found, dtype="float32"), axis=1)
        return {"y": o.add(rows, b.input("z", (N,)))}

    bound = bind(build(fn), {"N": 3})
    np.testing.assert_allclose(step(bound, [1, 2, 3], [1, 1, 1])["y"], [1, 2, 3])
    with pytest.raises((ShapeError, EngineError), match=r"add|differ"):
        step(bound, [1, -2, 3], [1, 1, 1])


def test_a_found_size_of_one_is_not_broadcast():
    def fn(b):
        found = o.nonzero(o.greater(b.input("x", (N,)), 0.0), size="K")
        rows = o.reduce_sum(o.cast(found, dtype="float32"), axis=1)
        return {"y": o.add(rows, b.input("z", (N,)))}

    with pytest.raises(ShapeError, match="K=1"):
        step(bind(build(fn), {"N": 3}), [1, -2, -3], [1, 1, 1])


def test_what_a_run_finds_is_forgotten_before_the_next():
    def fn(b):
        found = o.nonzero(o.greater(b.input("x", (N,)), 0.0), size="K")
        return {"n": size_of(found, axis=0), "found": found}

    bound = bind(build(fn), {"N": 4})
    for x in ([1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]):
        out = step(bound, x)
        assert out["n"] == sum(x) and out["found"].shape == (sum(x), 1)


def test_a_size_of_zero_runs():
    program = mlp(4, 3, 2)
    for engines in (NONE, DNN, frozenset({"onednn", "numba"})):
        assert step(bind(program, {"N": 0}, engines), floats(0, 4))["y"].shape == (0, 2)


# ---- kernels -----------------------------------------------------------------------------------


class Negate(Kernel):
    """relu, wrongly: gives -x."""

    name = "test:negate"
    ops = ("relu",)
    declines = False
    source = """
def negate(args):
    x, y, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for i in range(n):
        store_float32(y, i, -load_float32(x, i))
    return load_int64(args, 3)
"""
    status = 0

    def __init__(self):
        self.seen = []

    def bind(self, bound):
        if self.declines:
            raise Declined("it does not like it")
        self.seen.append(bound)
        kernel = jit.compile_source(self.source, "negate")

        def emit(ins, outs, packs, scratch):
            self.seen.append((ins, outs, packs, scratch))
            table = np.array([ins[0], outs[0], bound.outputs[0].size, self.status], np.int64)
            return [Call(self.name, kernel.address, (table.ctypes.data, 0, 0, 0), (kernel, table))]

        return Prepared(emit, scratch=100)


def test_a_kernel_is_given_real_operands_addresses_and_scratch(own_kernels):
    kernel = own_kernels(Negate())
    bound = bind(build(relu), {"N": 2}, frozenset({"test"}), threads=2)
    given, (ins, outs, packs, scratch) = kernel.seen
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


def test_a_kernel_that_fails_names_the_line(own_kernels):
    own_kernels(Negate()).status = 7
    bound = bind(build(relu), {"N": 2}, frozenset({"test"}))
    with pytest.raises(EngineError, match="test:negate failed") as error:
        step(bound, floats(2, 4))
    assert "relu at" in error.value.where and "test_bind.py" in error.value.where


def test_what_is_wrong_with_the_input_of_a_kernel_is_told_by_the_reference():
    def fn(b):
        loss, _ = o.softmax_cross_entropy(b.input("x", (N, 3)), b.input("label", (N,), "int64"))
        return {"loss": loss}

    bound = bind(build(fn), {"N": 2}, frozenset({"numba"}))
    assert bound.items[0].kernel is not None
    with pytest.raises(ArgumentError, match="a label is no class") as error:
        step(bound, floats(2, 3), [1, 9])
    assert "test_bind.py" in error.value.where


def test_validation_finds_a_kernel_that_is_wrong(own_kernels):
    own_kernels(Negate())
    with flags.set(validate=True):
        bound = bind(build(relu), {"N": 2}, frozenset({"test"}))
        with pytest.raises(EngineError, match="test:negate differs from the reference"):
            step(bound, floats(2, 4))
        right = bind(mlp(4, 3, 2), {"N": 2}, frozenset({"onednn", "numba"}))
        step(right, floats(2, 4))


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

    monkeypatch.setattr("noria.runtime.bind.Tape", Noted)
    bind(mlp(64, 64, 64), {"N": 64}, DNN, threads=3)
    assert made and set(made) == {3} and set(tapes) == {3}
    assert parallel.thread_count() == before


# ---- what is kept ------------------------------------------------------------------------------


def test_packed_weights_are_shared_by_all_sizes():
    program = mlp(64, 64, 64)
    kept, state = Kept(), {}
    state.update({n: np.array(s.init[1]["value"]) for n, s in program.state.items()})
    plan = make_plan(program, DNN)
    bounds = [Bound(plan, {"N": n}, state, 1, block_functions, kept=kept) for n in (256, 128, 200)]
    packs = [{b.address for i in bound.items for b in i.packs} for bound in bounds]
    assert packs[0] and packs[0] == packs[1] == packs[2]
    for bound in bounds:
        x = floats(bound.sizes["N"], 64)
        want = np.maximum(x @ state["w0"].T + state["b0"], 0) @ state["w1"].T + state["b1"]
        np.testing.assert_allclose(step(bound, x)["y"], want, rtol=1e-4, atol=1e-5)


def test_what_depends_on_a_size_is_not_shared():
    def fn(b):
        n = o.cast(size_of(b.input("x", (N,)), axis=0), dtype="float32")
        return {"y": o.add(b.program.inputs["x"], o.exp(n))}

    program, kept = build(fn), Kept()
    plan = make_plan(program, NONE)
    bounds = {n: Bound(plan, {"N": n}, {}, 1, block_functions, kept=kept) for n in (2, 3)}
    for n in (2, 3, 2, 3):
        np.testing.assert_allclose(step(bounds[n], np.zeros(n))["y"], np.exp(n), rtol=1e-6)


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
    large = bind(program, {"N": 50}, room=space.room)
    small = bind(program, {"N": 20}, room=space.room)
    assert small.arena is large.arena and small.arena_bytes < large.arena_bytes


def test_all_native_steps_are_one_tape():
    bound = bind(mlp(64, 64, 64, 64), {"N": 8}, frozenset({"onednn", "numba"}))
    assert len(bound.actions) == 1


# ---- memory of the reference -------------------------------------------------------------------


def test_an_array_of_unknown_size_is_no_view_of_memory_that_is_used_again(own_ops):
    """The slice found below is a view of the arena, where later values are written."""

    def fn(b):
        x = o.tanh(b.input("x", (N,)))
        count = size_of(o.nonzero(o.greater(x, 0.0), size="K"), axis=0)
        first = keep_first(x, o.nonzero(o.greater(x, 0.0), size="K2"))
        other = o.exp(o.exp(o.neg(x)))
        return {"first": first, "other": o.reduce_sum(o.mul(other, other)), "n": count}

    @op(name="test_keep_first")
    def keep_first(x, like):
        """As many of x as `like` has rows."""
        return Spec(like.shape[:1], x.dtype)

    @keep_first.compute
    def _(xp, x, like):
        return x[: like.shape[0]]

    x = floats(9)
    assert_engine_is_right(build(fn), [{"x": x}, {"x": -x}])


def test_an_output_that_is_an_input_survives_another_that_takes_its_memory(own_ops):
    @op(name="test_shift", outputs=("new", "old"), overwrites=((0, 0),))
    def shift(x):
        """(x + 1, x)"""
        return x, x

    @shift.compute
    def _(xp, x):
        return x + 1, x

    def fn(b):
        new, old = shift(o.tanh(b.input("x", (N,))))
        return {"new": new, "old": old}

    bound = bind(build(fn), {"N": 3})
    of = {v.name: b for v, b in bound.memory.of.items()}
    assert of["test_shift"] is of["tanh"]  # the case is what it should be
    out = step(bound, [1, 2, 3])
    np.testing.assert_allclose(out["old"], np.tanh([1, 2, 3]), rtol=1e-6)
    np.testing.assert_allclose(out["new"], np.tanh([1, 2, 3]) + 1, rtol=1e-6)


def test_a_view_of_memory_has_its_strides_and_an_empty_one_needs_none():
    arena = Arena(4096)
    array_at(arena.address, Array((4, 3), "float32", (3, 1)))[:] = np.arange(12).reshape(4, 3)
    turned = array_at(arena.address, Array((3, 4), "float32", (1, 3)))
    np.testing.assert_array_equal(turned, np.arange(12).reshape(4, 3).T)
    assert array_at(0, Array((0, 3), "int64", (3, 1))).shape == (0, 3)
