"""Bounds made by a recipe: the same numbers, the same errors, and all that a Bound can tell."""

import weakref

import numpy as np
import pytest

import noria
from noria import optim
from noria.core.errors import NoriaError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.runtime.scope import Scope
from noria.zoo.lstm_classifier import LSTMClassifier, classify_texts
from tests.runtime.programs import N, build, floats
from tests.runtime.test_mold import ints

pytestmark = pytest.mark.usefixtures("fast_kernels", "unproved")


@pytest.fixture
def unproved():
    """Proving memory asks for all that a recipe saves."""
    with flags.set(check_memory=False):
        yield


def followed(bound):
    """Was it made by a recipe, and did nobody ask for more?"""
    return "items" not in bound.__dict__


def chain(b):
    x = b.input("x", (N, 4))
    total = o.reduce_sum(o.exp(x), axis=1)
    found = {"y": o.relu(x), "total": total, "mean": o.reduce_mean(total)}
    return {**found, "z": o.tanh(b.input("z", (4,)))}


def feeds(n):
    return {"x": floats(n, 4), "z": floats(4)}


def taught(program=None, sizes=(40, 30, 20, 10), make=feeds):
    """An Executor that has met enough sizes."""
    executor = Executor(program or build(chain), threads=2)
    for n in sizes:
        executor.run(make(n))
    return executor


def texts(n):
    rng = np.random.default_rng(n)
    lengths = rng.integers(0, 2 * n, 6)
    ids = rng.integers(0, 50, lengths.sum())
    splits = np.cumsum([0, *lengths])
    return {"ids": ids, "splits": splits, "label": rng.integers(0, 2, len(lengths))}


def classifier():
    function = classify_texts(LSTMClassifier(50, 32))
    specs = {"ids": ints("T"), "splits": ints("N + 1"), "label": ints("N")}
    return optim.Adam(1e-2).minimize(noria.trace(function, **specs))


def test_sizes_like_those_before_need_no_kernel_asked():
    executor = taught()
    for n in (11, 39, 25, 1):
        bound = executor.bound(feeds(n))
        assert followed(bound) and bound.feeds[0].shape == (n, 4)


@pytest.mark.parametrize("n", [33, 2, 17])
def test_results_are_those_of_numpy(n):
    executor, fed = taught(), feeds(n)
    got = executor.run(fed)
    assert followed(executor.bound(fed))
    total = np.exp(fed["x"]).sum(1)
    np.testing.assert_allclose(got["total"], total, rtol=1e-5)
    np.testing.assert_allclose(got["mean"], total.mean(), rtol=1e-5)
    np.testing.assert_array_equal(got["y"], np.maximum(fed["x"], 0))
    np.testing.assert_allclose(got["z"], np.tanh(fed["z"]), rtol=1e-5)


@pytest.mark.parametrize("sizes", [(0, 0), (41, 900), (5, 41), (0, 12)])
def test_sizes_unlike_those_before_are_bound_by_asking(sizes):
    executor = taught()
    for n in sizes:
        got = executor.run(feeds(n))
        np.testing.assert_array_equal(got["y"], np.maximum(feeds(n)["x"], 0))


def test_training_on_ragged_batches_equals_that_of_fresh_executors():
    program, count = classifier(), 0
    executor = Executor(program, threads=2)
    for n in (30, 25, 20, 15, 22, 28, 19, 29, 24, 17, 26, 23, 8):
        scope = Scope().initialize(program, values=executor.scope.state())
        fresh, fed = Executor(program, scope, threads=2), texts(n)
        got, want = executor.run(fed), fresh.run(fed)
        count += followed(executor.bound(fed))
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array, name)
        for name, array in scope.state().items():
            np.testing.assert_array_equal(executor.scope.state()[name], array, name)
    assert count > 3


def test_a_bound_tells_what_others_tell_when_it_is_asked():
    executor = taught()
    bound, plain = executor.bound(feeds(13)), Executor(executor.program).bound(feeds(13))
    assert followed(bound) and bound.size == plain.size
    assert bound.memory.naive_bytes == plain.memory.naive_bytes
    assert not followed(bound) and set(bound.kernels.values()) == set(plain.kernels.values())
    assert len(bound.timed()()) == len(plain.timed()())
    with pytest.raises(AttributeError):
        bound.nothing  # noqa: B018


def test_wrong_ids_are_explained():
    executor = taught(classifier(), (30, 25, 20, 15), texts)
    wrong = texts(17)
    assert followed(executor.bound(wrong))
    wrong["ids"][3] = 50
    with pytest.raises(NoriaError, match="50"):
        executor.run(wrong)


def test_what_only_sizes_tell_is_computed_again_when_state_was_written():
    executor, fed = taught(classifier(), (30, 25, 20, 15), texts), texts(12)
    executor.run(fed)
    assert followed(executor.bound(fed))
    before = executor.scope.state()
    for _ in range(2):
        for name, array in before.items():
            executor.scope[name] = array
        fresh = Executor(executor.program, Scope().initialize(executor.program, values=before))
        got, want = executor.run(fed), fresh.run(fed)
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array)


def test_another_arena_ends_a_recipe():
    executor = taught()
    executor.run(feeds(5000))
    for n in (12, 4000, 13):
        got = executor.run(feeds(n))
        np.testing.assert_array_equal(got["y"], np.maximum(feeds(n)["x"], 0))


LOOKING = [{"validate": True}, {"check_finite": "all"}, {"check_memory": True}]


@pytest.mark.parametrize("how", LOOKING)
def test_flags_that_look_at_steps_are_heeded(how):
    executor = taught()
    with flags.set(**how):
        bound = executor.bound(feeds(19))
        assert not followed(bound)
        np.testing.assert_array_equal(executor.run(feeds(19))["y"], np.maximum(feeds(19)["x"], 0))


def test_predictors_follow_recipes_too():
    predictor = Predictor(build(chain), {}, threads=1)
    for n in (40, 30, 20, 10, 15, 25):
        got = predictor.run(feeds(n))
        np.testing.assert_array_equal(got["y"], np.maximum(feeds(n)["x"], 0))
    (space,) = predictor._idle
    assert sum(map(followed, space.bounds.values())) >= 2


def test_steps_of_python_keep_a_plan_from_being_traced():
    with flags.set(kernels="reference"):
        executor = taught()
        for n in (40, 35, 25, 15):
            assert not followed(executor.bound(feeds(n)))


@pytest.mark.parametrize("first", [(), (200,)])
def test_a_bound_that_was_asked_goes_on_as_one_that_was_not(first):
    executor = taught(classifier(), (*first, 30, 25, 20, 15), texts)
    executor.run(texts(15))
    executor.run(texts(60))  # in memory of its own, where smaller ones have room too
    asked = 0
    for n in (17, 18, 19, 21):
        bound = executor.bound(texts(n))
        asked += followed(bound)
        for step in range(3):
            before, fed = executor.scope.state(), texts(n)
            if step == n % 3:  # before it ran first, too
                assert bound.memory.naive_bytes
            fresh = Executor(executor.program, Scope().initialize(executor.program, values=before))
            got, want = executor.run(fed), fresh.run(fed)
            assert executor.bound(fed) is bound
            for name, array in (want | fresh.scope.state()).items():
                found = got[name] if name in got else executor.scope.state()[name]
                np.testing.assert_array_equal(found, array, name)
    assert asked


def test_a_larger_arena_is_taken_when_the_one_of_recipes_is_given_back():
    executor = taught()
    for n in (15, 12):
        executor.run(feeds(n))
    old = weakref.ref(executor._space._arena)
    executor.run(feeds(50_000))
    assert old() is None
    for n in (13, 14, 9, 8, 7):
        executor.run(feeds(n))
    bound, arena = executor.bound(feeds(6)), executor._space._arena
    at = bound.feeds[0].ctypes.data
    assert followed(bound) and arena.address <= at < arena.address + arena.nbytes
