"""A Bound made in the memory of another one computes what one of its own does, to the last bit."""

import numpy as np
import pytest

import noria
from noria import nn, optim
from noria.core.dims import symbol
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.runtime.bind import Bound
from noria.runtime.executor import Executor
from noria.runtime.mold import MOST, Mold
from noria.runtime.scope import Scope
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet
from noria.zoo.lstm_classifier import LSTMClassifier, classify_texts
from noria.zoo.mlp import MLP
from noria.zoo.transformer import TransformerLM, language_model
from tests.runtime.fuzz import Fuzz
from tests.runtime.programs import N, build, feeds_of, floats, value

T = symbol("T")


def ints(*shape):
    return noria.spec(*shape, dtype="int64")


def images(rng, top=24):
    n = int(rng.integers(0 if rng.random() < 0.1 else 1, top))
    label = rng.integers(0, 10, n)
    return {"image": rng.normal(size=(n, 1, 28, 28)).astype("float32"), "label": label}


def vectors(rng):
    image = images(rng, 900 if rng.random() < 0.2 else 40)
    return {**image, "image": image["image"].reshape(-1, 784)[:, :48]}


def texts(rng):
    lengths = rng.integers(0, 30, rng.integers(1, 12))
    ids = rng.integers(0, 50, lengths.sum())
    splits = np.cumsum([0, *lengths])
    return {"ids": ids, "splits": splits, "label": rng.integers(0, 2, len(lengths))}


def lines(rng):
    shape = rng.integers(1, 6), rng.integers(1, 17)
    return {"ids": rng.integers(0, 40, shape), "targets": rng.integers(0, 40, shape)}


def trained(function, rate=1e-2, **specs):
    return optim.Adam(rate).minimize(noria.trace(function, **specs))


NETWORKS = {
    "perceptron": (
        lambda: trained(classify(MLP(48, 40, 10)), image=noria.spec("N", 48), label=ints("N")),
        vectors,
    ),
    "convolutions": (
        lambda: trained(classify(LeNet()), image=noria.spec("N", 1, 28, 28), label=ints("N")),
        images,
    ),
    "ragged": (
        lambda: trained(
            classify_texts(LSTMClassifier(50, 32)),
            ids=ints("T"),
            splits=ints("N + 1"),
            label=ints("N"),
        ),
        texts,
    ),
    "attention": (
        lambda: trained(
            language_model(TransformerLM(40, 16, 2, 32, 2, 64)),
            ids=ints("N", "T"),
            targets=ints("N", "T"),
        ),
        lines,
    ),
}


def assert_as_fresh(program, runs, **how):
    """Steps of one Executor, and each of them by one that has seen no sizes before."""
    executor = Executor(program, threads=2, **how)
    for feeds in runs:
        scope = Scope().initialize(program, values=executor.scope.state())
        fresh = Executor(program, scope, threads=2, **how)
        got, want = executor.run(feeds), fresh.run(feeds)
        for name, array in want.items():
            np.testing.assert_array_equal(got[name], array, name)
        after = executor.scope.state()
        for name, array in scope.state().items():
            np.testing.assert_array_equal(after[name], array, name)
    return executor


@pytest.fixture
def casts(monkeypatch):
    """Of each Bound that had a mold to try: whether that served."""
    found = []
    cast = Mold.cast

    def noted(*given):
        got = cast(*given)
        found.append(got is not None)
        return got

    monkeypatch.setattr(Mold, "cast", noted)
    return found


@pytest.fixture
def follows(monkeypatch):
    """The Bounds that were made by a recipe."""
    found = []
    follow = Bound._follow

    def noted(bound, *given):
        found.append(bound)
        follow(bound, *given)

    monkeypatch.setattr(Bound, "_follow", noted)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_random_sizes_give_what_a_fresh_executor_gives(name, casts, follows):
    make, draw = NETWORKS[name]
    rng = np.random.default_rng(7)
    assert_as_fresh(make(), [draw(rng) for _ in range(14)])
    assert sum(casts) + len(follows) > 3  # or it would show nothing


def test_random_sizes_in_mixed_precision(casts):
    make, draw = NETWORKS["attention"]
    rng = np.random.default_rng(3)
    assert_as_fresh(make(), [draw(rng) for _ in range(6)], precision="bf16")
    assert any(casts)


@pytest.mark.parametrize("kernels", ["all", "reference"])
@pytest.mark.parametrize("seed", range(12))
def test_random_programs_at_random_sizes_give_what_a_fresh_executor_gives(seed, kernels):
    program = Fuzz(2000 + seed).program
    rng = np.random.default_rng(seed)
    sizes = [9, *rng.choice([0, 1, 2, 3, 5, 8, 13, 40], 9)]
    with flags.set(kernels=kernels, check_memory=True):
        assert_as_fresh(program, [feeds_of(program, seed=i, N=n) for i, n in enumerate(sizes)])


# ---- what is shared ------------------------------------------------------------------------------


def chain(b):
    return {"y": o.exp(o.relu(b.input("x", (N, 4)))), "z": o.tanh(b.input("z", (4,)))}


def bound(executor, n):
    return executor.bound({"x": floats(n, 4), "z": floats(4)})


def addresses(bound):
    at = bound._how.address
    return {v.name: at(buffer) for v, buffer in bound.memory.of.items()}


def test_smaller_sizes_have_the_places_of_larger_ones_and_the_rows_of_what_stays():
    executor = Executor(build(chain))
    large, small = bound(executor, 9), bound(executor, 5)
    assert addresses(large) == addresses(small) and small.arena_bytes == large.arena_bytes
    kept = {i.step.op.outputs[0].name for i in small.items if i in large.items}
    assert kept == {i.step.op.outputs[0].name for i in large.items if not i.step.symbols}
    assert kept or flags.kernels == "reference"


def test_larger_sizes_get_a_mold_with_room_for_more(casts):
    executor = Executor(build(chain))
    bound(executor, 40)
    for n, served in ((80, False), (99, True), (101, False), (100, True)):
        casts.clear()
        bound(executor, n)
        assert any(casts) is served, n


def test_the_first_sizes_get_no_byte_more_than_they_need():
    executor = Executor(build(chain))
    assert bound(executor, 64).arena_bytes <= bound(executor, 64).naive_bytes + 64 * 4 * 4 + 16


def test_far_smaller_sizes_get_memory_of_their_own(casts):
    executor = Executor(build(chain))
    large = bound(executor, 1 << 18)
    small = bound(executor, 1 << 10)
    assert casts == [False] and small.arena_bytes < large.arena_bytes / 100


def test_molds_of_a_plan_are_few():
    executor = Executor(build(chain))
    for n in range(1, 20):
        bound(executor, 1 << n)
    (molds,) = executor._space.molds.values()
    assert len(molds) == MOST


def test_what_depends_on_sizes_and_runs_once_has_memory_for_each_set_of_sizes():
    def fn(b):
        share = o.div(o.fill(shape=(), value=1.0), o.cast(o.dim_value(dim=N), dtype="float32"))
        y = o.mul(o.mul(value(b, "w"), share), b.input("x", (4,)))
        return {"y": y, "n": o.dim_value(dim=N), "z": o.neg(b.input("z", (N,)))}

    executor = Executor(build(fn, w=floats(4)))
    x = floats(4)
    for n in (5, 3, 5, 2, 3):
        got = executor.run({"x": x, "z": floats(n)})
        np.testing.assert_allclose(got["y"], floats(4) / n * x, rtol=1e-6)
        assert got["n"] == n


def test_another_arena_gets_rows_of_its_own():
    executor = Executor(build(chain))
    for n in (8, 5, 1 << 16, 7, 8, 1 << 15):
        x = floats(n, 4)
        got = executor.run({"x": x, "z": x[0]})
        np.testing.assert_array_equal(
            got["y"], Executor(build(chain)).run({"x": x, "z": x[0]})["y"]
        )


def test_state_at_other_addresses_gets_a_mold_of_its_own():
    program = build(lambda b: {"y": o.mul(b.input("x", (N, 4)), value(b, "w"))}, w=floats(4))
    executor = Executor(program)
    x = floats(3, 4)
    np.testing.assert_array_equal(executor.run({"x": x})["y"], x * floats(4))
    executor.scope.arrays["w"] = np.ones(4, np.float32)
    np.testing.assert_array_equal(executor.run({"x": x[:2]})["y"], x[:2])


def test_sequences_within_a_loop_take_any_sizes():
    model = nn.GRU(8, 8)

    def step(x):
        out, last = model(x)
        return {"out": out, "last": last}

    program = noria.trace(step, x=noria.spec("N", "T", 8))
    rng = np.random.default_rng(0)
    assert_as_fresh(program, [{"x": floats(*rng.integers(1, 9, 2), 8)} for _ in range(8)])


def test_weights_of_the_same_size_are_packed_by_the_same_rows(fast_kernels):
    make, _ = NETWORKS["ragged"]
    executor = Executor(make())

    def one(lengths):
        splits, ids = np.cumsum([0, *lengths]), np.zeros(sum(lengths), np.int64)
        label = np.zeros(len(lengths), np.int64)
        return executor.bound({"ids": ids, "splits": splits, "label": label})

    large, small = one((9, 8, 7)), one((6, 8, 2))
    packing = [i for i in small.items if i.pack is not None]
    assert packing and all(i in large.items for i in packing)
    assert any(i not in large.items for i in small.items)


def test_a_kernel_that_packs_in_another_way_and_back_reads_what_it_asked_for(fast_kernels, casts):
    ragged = {"ids": ints("T"), "splits": ints("N + 1"), "label": ints("N")}
    program = trained(classify_texts(LSTMClassifier(50, 128)), **ragged)
    rng = np.random.default_rng(1)

    def feeds(lengths):
        ids, label = rng.integers(0, 50, sum(lengths)), rng.integers(0, 2, len(lengths))
        return {"ids": ids, "splits": np.cumsum([0, *lengths]), "label": label}

    many, some, one = rng.integers(20, 50, 20), rng.integers(20, 50, 7), [41]
    assert_as_fresh(program, [feeds(lengths) for lengths in (many, some, one)])
    assert all(casts)
