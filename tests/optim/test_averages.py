"""Averages of parameters, beside sums in float64."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, MissingError
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.nn.layers import Linear
from noria.ops import library  # noqa: F401  (all ops are registered)
from noria.optim.averages import ExponentialMovingAverage, Lookahead, ModelAverage
from noria.optim.optimizer import SGD
from noria.runtime.executor import Executor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)


def program():
    model = Linear(4, 3)
    return trace(lambda x: {"loss": o.reduce_mean(o.square(model(x)))}, x=spec("N", 4))


def run(training, steps):
    """(executor, weight after each step, before the first one)."""
    verify(training)
    executor = Executor(training, seed=1)
    seen = [executor.scope["weight"].copy()]
    for _ in range(steps):
        executor.run({"x": X}, fetch=[])
        seen.append(executor.scope["weight"].copy())
    return executor, seen


def test_the_exponential_average_is_one_of_the_parameters_so_far() -> None:
    ema = ExponentialMovingAverage(0.8)
    executor, seen = run(ema.attach(SGD(0.5).minimize(program())), 6)
    weights = 0.8 ** np.arange(5, -1, -1.0)
    wanted = np.average(seen[1:], axis=0, weights=weights)
    got = ema.averaged(executor.scope.state())
    np.testing.assert_allclose(got["weight"], wanted, rtol=1e-5)
    assert got["weight"].dtype == np.float32


def test_before_the_first_step_the_average_is_the_parameter() -> None:
    ema = ExponentialMovingAverage()
    executor, seen = run(ema.attach(SGD(0.5).minimize(program())), 0)
    np.testing.assert_array_equal(ema.averaged(executor.scope.state())["weight"], seen[0])


def test_the_mean_is_of_late_steps_only() -> None:
    average = ModelAverage(0.5, low=2, high=3)
    executor, seen = run(average.attach(SGD(0.5).minimize(program())), 9)
    state = executor.scope.state()
    count = int(state["weight.accumulated"] + state["weight.accumulated_before"])
    assert 2 <= count <= 6
    got = average.averaged(state)["weight"]
    np.testing.assert_allclose(got, np.mean(seen[-count:], axis=0), rtol=1e-5)


def test_slow_weights_go_half_the_way_of_every_third_step() -> None:
    training = Lookahead(0.5, k=3).attach(SGD(0.5).minimize(program()))
    _, seen = run(training, 3)
    _, plain = run(SGD(0.5).minimize(program()), 3)
    np.testing.assert_allclose(seen[1:3], plain[1:3], rtol=1e-6)
    np.testing.assert_allclose(seen[3], plain[0] + 0.5 * (plain[3] - plain[0]), rtol=1e-5)


def test_what_cannot_be_averaged_is_told() -> None:
    with pytest.raises(ArgumentError, match="learns nothing"):
        Lookahead().attach(program())
    with pytest.raises(ArgumentError, match="'nothing' is no state"):
        ModelAverage().attach(SGD(0.5).minimize(program()), wrt=["nothing"])
    with pytest.raises(MissingError):
        ExponentialMovingAverage().averaged({"weight": X})
    with pytest.raises(ArgumentError):
        ExponentialMovingAverage(1.0)
