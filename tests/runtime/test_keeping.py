"""The memory of what runs once: shared by all sizes, or nobody else's."""

import numpy as np

from noria.ir.opdef import vocabulary as o
from noria.ops.create import size_of
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.workspace import Kept, Workspace
from tests.runtime.binding import NONE, Negate, bind, step
from tests.runtime.programs import N, build, floats, mlp, value

DNN = frozenset({"onednn"})


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


def test_what_two_sizes_share_is_one_piece_and_the_rest_belongs_to_one():
    def fn(b):
        x = b.input("x", (N, 4))
        n = o.cast(size_of(x, axis=0), dtype="float32")
        return {"y": o.add(o.mul(x, o.exp(value(b, "c"))), o.exp(n))}

    program, kept, space = build(fn, c=floats(4)), Kept(), Workspace()
    plan, state = make_plan(program, NONE), {"c": floats(4)}
    how = {"kept": kept, "space": space}
    bounds = [Bound(plan, {"N": n}, state, 1, block_functions, **how) for n in (2, 3)]
    pieces = [{r.item.outputs[0]: r.pieces[0] for r in b.rare if r.pieces} for b in bounds]
    shared = {v for v in pieces[0] if pieces[0][v] is pieces[1][v]}
    assert shared == pieces[0].keys() - plan.sized and shared
    assert plan.sized & pieces[0].keys()


def test_a_view_that_runs_once_lies_where_its_input_does():
    def fn(b):
        c = o.reshape(o.exp(value(b, "c")), shape=(2, 4))
        return {"y": o.add(b.input("x", (N, 2, 4)), c)}

    bound = bind(build(fn, c=floats(8)), {"N": 3})
    views = [r for r in bound.rare if r.item.step.view]
    assert views and not any(r.pieces for r in views)
    of = bound.memory.of
    for r in views:
        assert of[r.item.outputs[0]] is of[r.item.inputs[0]]
    x = floats(3, 2, 4)
    want = x + np.exp(floats(8)).reshape(2, 4)
    np.testing.assert_allclose(step(bound, x)["y"], want, rtol=1e-6)


def test_scratch_of_what_runs_once_lives_as_long_as_the_bound(own_kernels):
    own_kernels(Negate())

    def fn(b):
        return {"y": o.add(b.input("x", (N, 4)), o.relu(value(b, "c")))}

    bound = bind(build(fn, c=floats(4)), {"N": 2}, frozenset({"test"}))
    (item,) = [r.item for r in bound.rare if r.item.prepared]
    (arena,) = bound._scratch
    assert item.scratch.nbytes == 100 and item.scratch.address == arena.address
    x = floats(2, 4)
    np.testing.assert_array_equal(step(bound, x)["y"], x - floats(4))
