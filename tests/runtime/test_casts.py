"""Casts of state that packing makes superfluous, and those that it does not."""

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.kernels.numba import tile_sizes
from noria.kernels.numba.tile_sizes import PAIRS
from noria.kernels.registry import Kernel, Pack, Prepared
from noria.optim.optimizer import Momentum
from noria.runtime import items
from noria.runtime.executor import Executor
from noria.zoo.digits import classify
from noria.zoo.resnet import ResNet
from tests.runtime.binding import bind
from tests.runtime.programs import N, build, value


class Reads(Kernel):
    """maximum, whose first input is read in a packed copy only. Nothing is computed."""

    name = "test:reads"
    ops = ("maximum",)

    def __init__(self, replaces=True, full=True):
        self.replaces, self.full = replaces, full

    def bind(self, bound):
        full = (lambda source, copy: []) if self.full else None
        pack = Pack(0, "copy", 64, lambda source, copy: [], replaces=self.replaces, full=full)
        return Prepared(lambda ins, outs, packs, scratch: [], packs=[pack])


def updated(fn):
    """A Program with a state w, which fn renews: of (builder, w, x) gives outputs and the new w."""

    def body(b):
        w = value(b, "w")
        outputs, new = fn(b, w, b.input("x", (4, 4), "bfloat16"))
        b.program.updates["w"] = new
        return outputs

    return build(body, w=np.zeros((4, 4), np.float32))


def once(b, w, x):
    return {"y": o.maximum(o.cast(w, dtype="bfloat16"), x)}, o.add(w, 1.0)


def steps(program):
    """The operators of the items, and where each pack reads."""
    made = bind(program, {"N": 3}, frozenset({"test"})).items
    types = ["pack" if i.pack else i.step.op.type for i in made]
    return types, {i.pack[1].dtype for i in made if i.pack}


def test_who_packs_reads_the_state_before_it_is_renewed(own_kernels):
    own_kernels(Reads())
    types, packed = steps(updated(once))
    assert "cast" not in types and packed == {"float32"}
    assert types.index("pack") < types.index("maximum") < types.index("add")


@pytest.mark.parametrize("how", [{"replaces": False}, {"full": False}])
def test_a_kernel_that_reads_the_halves_gets_them(own_kernels, how):
    own_kernels(Reads(**how))
    types, packed = steps(updated(once))
    assert "cast" in types and packed == {"bfloat16"}


def test_one_reader_that_does_not_pack_is_enough(own_kernels):
    def fn(b, w, x):
        half = o.cast(w, dtype="bfloat16")
        return {"y": o.maximum(half, x), "z": o.neg(half)}, o.add(w, 1.0)

    own_kernels(Reads())
    assert "cast" in steps(updated(fn))[0]


def test_what_is_fetched_is_computed(own_kernels):
    def fn(b, w, x):
        half = o.cast(w, dtype="bfloat16")
        return {"y": o.maximum(half, x), "half": half}, o.add(w, 1.0)

    own_kernels(Reads())
    assert "cast" in steps(updated(fn))[0]


def test_a_state_that_is_renewed_first_is_cast_before(own_kernels):
    def fn(b, w, x):
        half, new = o.cast(w, dtype="bfloat16"), o.add(w, 1.0)
        return {"y": o.maximum(half, o.cast(new, dtype="bfloat16"))}, new

    own_kernels(Reads())
    types, packed = steps(updated(fn))
    assert types.count("cast") == 2 and packed == {"bfloat16"}


def test_what_a_step_computes_is_cast_as_before(own_kernels):
    def fn(b, w, x):
        y = o.maximum(o.cast(o.neg(w), dtype="bfloat16"), x)
        return {"y": y}, o.add(w, 1.0)

    own_kernels(Reads())
    assert "cast" in steps(updated(fn))[0]


def test_what_never_changes_is_cast_and_packed_once(own_kernels):
    def fn(b):
        x = b.input("x", (N, 4), "bfloat16")
        return {"y": o.maximum(o.cast(value(b, "w"), dtype="bfloat16"), x)}

    own_kernels(Reads())
    bound = bind(build(fn, w=np.zeros((1, 4), np.float32)), {"N": 3}, frozenset({"test"}))
    assert [i.step.op.type for i in bound.items] == ["maximum"]
    assert [r.item.step.op.type for r in bound.rare if not r.item.pack] == ["cast"]


def network():
    model = ResNet((1, 1, 1, 1), classes=5)
    image = spec("N", 3, 64, 64)
    forward = trace(classify(model), image=image, label=spec("N", dtype="int64"))
    return Momentum(0.1).minimize(forward)


def trained(program, sizes=(4, 2, 4)):
    """State after steps of several sizes, and which weights were cast in the last."""
    executor = Executor(program, seed=1, precision="bf16")
    rng = np.random.default_rng(0)
    for n in sizes:
        image = rng.standard_normal((n, 3, 64, 64), np.float32)
        feeds = {"image": image, "label": np.arange(n) % 5}
        executor.run(feeds, [])
    state = {s.value: n for n, s in program.state.items()}
    cast = {
        state[i.inputs[0]]
        for i in executor.bound(feeds, []).items
        if i.step.op.type == "cast" and i.inputs[0] in state
    }
    return executor.scope.state(), cast


@pytest.mark.skipif(not PAIRS, reason="the CPU multiplies no bfloat16")
def test_a_network_learns_bit_by_bit_what_it_learns_with_casts(fast_kernels, monkeypatch):
    """Of Winograd's kernels, of one tap, and of oneDNN's panels; sizes have one memory in turn."""
    monkeypatch.setattr(tile_sizes, "MATRIX_UNITS", False)
    program = network()
    found, cast = trained(program)
    assert cast == {"conv1.weight", "fc.weight"}
    monkeypatch.setattr(items, "leave_out_casts", lambda made, program: list(made))
    wanted, cast = trained(program)
    assert len(cast) == sum(n.endswith("weight") and s.ndim > 1 for n, s in wanted.items())
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].tobytes() == array.tobytes(), name


def test_the_reference_beside_kernels_sees_halves(fast_kernels):
    program = network()
    with flags.set(validate=True):
        trained(program, sizes=(2,))
