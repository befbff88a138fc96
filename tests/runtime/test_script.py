"""What was decided about memory for one set of sizes holds for others, or is decided anew."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.kernels.registry import Array
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.script import Script, same_place
from tests.runtime.binding import step
from tests.runtime.programs import N, build, floats

M = symbol("M")


def bind(plan, **sizes):
    with flags.set(check_memory=True):
        return Bound(plan, sizes, {}, 1, block_functions)


def groups(bound):
    """Names of values that share memory."""
    found: dict[int, set[str]] = {}
    for v, buffer in bound.memory.of.items():
        found.setdefault(id(buffer), set()).add(v.name)
    return sorted(map(sorted, found.values()))


def chain(b):
    x = b.input("x", (N, 4))
    t = o.tanh(o.exp(x))
    return {"y": o.add(o.reshape(t, shape=(N * 4,)), 1.0), "z": o.reduce_sum(o.neg(x))}


@pytest.fixture
def follows(monkeypatch):
    """How often a script was followed."""
    count = []
    follow = Script.follow
    monkeypatch.setattr(Script, "follow", lambda *given: count.append(1) or follow(*given))
    return count


def test_other_sizes_share_as_the_first_did(follows):
    plan = make_plan(build(chain))
    first, second = bind(plan, N=3), bind(plan, N=70)
    assert len(follows) == 1 and groups(first) == groups(second)
    anew = bind(make_plan(build(chain)), N=70)
    assert groups(anew) == groups(second)
    assert (anew.arena_bytes, anew.naive_bytes) == (second.arena_bytes, second.naive_bytes)
    for bound, n in ((first, 3), (second, 70)):
        x = floats(n, 4)
        got = step(bound, x)
        np.testing.assert_allclose(got["y"], np.tanh(np.exp(x)).ravel() + 1, rtol=1e-5)
        np.testing.assert_allclose(got["z"], -x.sum(), rtol=1e-4, atol=1e-5)


def test_kernels_that_decline_other_sizes_are_no_reason_to_share_as_before(follows):
    plan = make_plan(build(chain))
    bind(plan, N=3)
    empty = bind(plan, N=0)
    got = step(empty, floats(0, 4))
    assert got["y"].shape == (0,) and got["z"] == 0


def test_finite_checks_are_another_script(follows):
    plan = make_plan(build(chain))
    bind(plan, N=3)
    with flags.set(check_finite="all"):
        apart = bind(plan, N=5)
    assert not follows
    assert all(len(group) <= 2 for group in groups(apart))  # views only


def test_what_shares_by_coincidence_of_sizes_does_not_when_they_differ():
    def fn(b):
        x, z = b.input("x", (N, 4)), b.input("z", (M, 4))
        rows = o.concat(o.tanh(x), o.tanh(z), axis=0)
        return {"y": o.neg(o.add(rows, 1.0)), "x": o.exp(x)}

    plan = make_plan(build(fn))
    for n, m in ((2, 2), (2, 5), (5, 2)):
        x, z = floats(n, 4), floats(m, 4)
        got = step(bind(plan, N=n, M=m), x, z)
        np.testing.assert_allclose(got["y"], -np.tanh(np.concatenate([x, z])) - 1, rtol=1e-5)
        np.testing.assert_allclose(got["x"], np.exp(x), rtol=1e-5)


def test_the_same_place_needs_shape_bytes_and_order():
    a = Array((2, 3), "float32", (3, 1))
    assert same_place(a, Array((2, 3), "int32", (3, 1)))
    assert not same_place(a, Array((2, 3), "float64", (3, 1)))
    assert not same_place(a, Array((2, 3), "float32", (1, 2)))
    assert not same_place(a, Array((3, 2), "float32", (2, 1)))
