"""Slices of a batch on groups of threads, and one update: what one large batch gives."""

import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.nn.layers import Conv2d
from noria.runtime.replicas import cuts
from noria.zoo.transformer import TransformerLM, language_model
from tests.runtime.programs import N, build, value

RNG = np.random.default_rng(0)


def both(program, batches, fetch=None, *, replicas=2, tol=1e-5, **how):
    """Steps by one Executor and by replicas: outputs and all state agree."""
    one = noria.Executor(program, threads=2)
    many = noria.Executor(program, threads=2, replicas=replicas, **how)
    for feeds in batches:
        want, got = one.run(feeds, fetch), many.run(feeds, fetch)
        assert want.keys() == got.keys()
        for name in want:
            np.testing.assert_allclose(got[name], want[name], rtol=tol, atol=tol, err_msg=name)
    for name, array in one.scope.state().items():
        np.testing.assert_allclose(many.scope[name], array, rtol=tol, atol=tol, err_msg=name)
    return many


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def double(b):
    """x w, its mean squared error, and gradient descent, in float64."""
    x, y = b.input("x", (N, 5), "float64"), b.input("y", (N, 3), "float64")
    w = value(b, "w")
    error = o.sub(o.matmul(o.tanh(x), w), y)
    share = o.div(2.0, o.cast(o.dim_value(dim=3 * N), dtype="float64"))
    grad = o.matmul(o.tanh(x), o.mul(error, share), transpose_x=True)
    b.program.updates["w"] = o.sub(w, o.mul(grad, 0.1))
    return {"loss": o.reduce_mean(o.square(error)), "grad": grad}


@pytest.mark.parametrize("rows", [8, 7, 5, 2, 1])
@pytest.mark.parametrize("replicas", [2, 3])
def test_in_float64_it_equals_one_batch_also_in_uneven_slices(rows, replicas):
    program = build(double, w=RNG.normal(size=(5, 3)))
    batches = [{"x": RNG.normal(size=(rows, 5)), "y": RNG.normal(size=(rows, 3))} for _ in range(3)]
    both(program, batches, replicas=replicas, tol=1e-13)


def perceptron():
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))

    def step(x, label):
        logits = model(x)
        loss = ops.reduce_mean(ops.softmax_cross_entropy(logits, label)[0])
        return {"loss": loss, "accuracy": ops.accuracy(logits, label), "logits": logits}

    program = noria.trace(step, x=noria.spec("N", 6), label=noria.spec("N", dtype="int64"))
    return optim.Adam(1e-2).minimize(program)


def points(rows):
    return {"x": normal(rows, 6), "label": RNG.integers(0, 4, rows)}


def test_batches_of_changing_sizes_and_all_that_can_be_fetched():
    many = both(perceptron(), [points(n) for n in (16, 5, 33, 1, 16, 40, 5)])
    got = many.run(points(9), ["logits"])
    assert got.keys() == {"logits"} and got["logits"].shape == (9, 4)
    assert many.run(points(9), []) == {}


def test_state_written_from_outside_is_seen():
    program = perceptron()
    one, many = noria.Executor(program), noria.Executor(program, replicas=2)
    feeds = points(8)
    for executor in (one, many):
        executor.run(feeds)
        executor.scope["2.weight"] = np.ones((4, 32), np.float32)
    np.testing.assert_allclose(
        many.run(feeds)["logits"], one.run(feeds)["logits"], rtol=1e-5, atol=1e-5
    )


def test_convolutions_and_channels_last_sums():
    conv, end = Conv2d(3, 16, 3).named("conv"), nn.Linear(16, 1).named("end")

    def step(x, y):
        hidden = ops.reduce_mean(ops.relu(conv(x)), axis=(2, 3))
        return {"loss": ops.reduce_mean(ops.square(end(hidden) - y))}

    program = noria.trace(step, x=noria.spec("N", 3, 8, 8), y=noria.spec("N", 1))
    program = optim.Adam(1e-2).minimize(program)
    both(program, [{"x": normal(n, 3, 8, 8), "y": normal(n, 1)} for n in (6, 5)])


def test_a_transformer_whose_rows_are_words_of_the_batch():
    program = noria.trace(
        language_model(TransformerLM(20, 8, 1, 16, 2, 32)),
        ids=noria.spec("N", "T", dtype="int64"),
        targets=noria.spec("N", "T", dtype="int64"),
    )
    program = optim.SGD(0.1).minimize(program)
    ids = RNG.integers(0, 20, (5, 8))
    both(program, [{"ids": ids, "targets": ids[:, ::-1].copy()}], ["loss"], tol=1e-4)


def normalised():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    program = noria.trace(
        lambda x, y: {"loss": ops.reduce_mean(ops.square(model(x) - y))},
        x=noria.spec("N", 3),
        y=noria.spec("N", 1),
    )
    return optim.SGD(0.1).minimize(program)


def test_statistics_of_the_batch_are_refused():
    executor = noria.Executor(normalised(), replicas=2)
    with pytest.raises(ArgumentError, match="own_statistics"):
        executor.run({"x": normal(8, 3), "y": normal(8, 1)})


def test_own_statistics_are_those_of_each_slice_and_running_ones_their_mean():
    program = normalised()
    both_halves = np.concatenate([part := normal(4, 3), part])
    y = np.concatenate([target := normal(4, 1), target])
    both(program, [{"x": both_halves, "y": y}], own_statistics=True, tol=2e-2)
    executor = noria.Executor(program, replicas=2, own_statistics=True)
    x = normal(7, 3)
    before = executor.scope.state()
    executor.run({"x": x, "y": normal(7, 1)})
    hidden = x @ before["0.weight"].T + before["0.bias"]
    mean = (4 * hidden[:4].mean(0) + 3 * hidden[4:].mean(0)) / 7
    moved = executor.scope["1.running_mean"]
    np.testing.assert_allclose(moved, 0.1 * mean, rtol=1e-4, atol=1e-5)


def test_wrong_feeds_and_numbers_of_replicas_are_told():
    executor = noria.Executor(perceptron(), replicas=2)
    with pytest.raises(ShapeError, match="feed 'label"):
        executor.run({"x": normal(4, 6), "label": np.zeros(5, np.int64)})
    for count in (0, -1, 1.5, True):
        with pytest.raises(ArgumentError, match="replicas"):
            noria.Executor(perceptron(), replicas=count)


def test_slices_are_as_equal_as_can_be():
    assert cuts(7, 3) == [slice(0, 3), slice(3, 5), slice(5, 7)]
    assert [c.stop - c.start for c in cuts(4, 4)] == [1, 1, 1, 1]
