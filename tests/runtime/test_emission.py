"""What an item does when it runs: tapes, the reference between them, errors."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError, ShapeError
from noria.core.flags import flags
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.create import size_of
from tests.runtime.binding import Negate, bind, relu, step
from tests.runtime.programs import N, assert_engine_is_right, build, floats, mlp

# ---- tapes ---------------------------------------------------------------------------------------


def test_a_kernel_that_fails_names_the_line(own_kernels):
    own_kernels(Negate()).status = 7
    bound = bind(build(relu), {"N": 2}, frozenset({"test"}))
    with pytest.raises(EngineError, match="test:negate failed") as error:
        step(bound, floats(2, 4))
    assert "relu at" in error.value.where and "binding.py" in error.value.where


def test_what_is_wrong_with_the_input_of_a_kernel_is_told_by_the_reference():
    def fn(b):
        loss, _ = o.softmax_cross_entropy(b.input("x", (N, 3)), b.input("label", (N,), "int64"))
        return {"loss": loss}

    bound = bind(build(fn), {"N": 2}, frozenset({"numba"}))
    assert bound.items[0].kernel is not None
    with pytest.raises(ArgumentError, match="a label is no class") as error:
        step(bound, floats(2, 3), [1, 9])
    assert "test_emission.py" in error.value.where


def test_validation_finds_a_kernel_that_is_wrong(own_kernels):
    own_kernels(Negate())
    with flags.set(validate=True):
        bound = bind(build(relu), {"N": 2}, frozenset({"test"}))
        with pytest.raises(EngineError, match="test:negate differs from the reference"):
            step(bound, floats(2, 4))
        right = bind(mlp(4, 3, 2), {"N": 2}, frozenset({"onednn", "numba"}))
        step(right, floats(2, 4))


def test_all_native_steps_are_one_tape():
    bound = bind(mlp(64, 64, 64, 64), {"N": 8}, frozenset({"onednn", "numba"}))
    assert len(bound.actions) == 1


# ---- sizes that only a run tells -----------------------------------------------------------------


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


# ---- memory of the reference ---------------------------------------------------------------------


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
