"""Further optimisers beside formulas in float64, dense and on the rows of a table."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.nn.embedding import Embedding
from noria.nn.layers import Linear
from noria.ops import library  # noqa: F401  (all ops are registered)
from noria.optim import adaptive
from noria.optim.optimizer import Optimizer
from noria.runtime.executor import Executor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)
Y = RNG.normal(size=(5, 3)).astype(np.float32)


def adadelta(p, g, s, t, rho=0.9, epsilon=1e-6):
    s["square"] = rho * s.get("square", 0) + (1 - rho) * g * g
    step = np.sqrt((s.get("step", 0) + epsilon) / (s["square"] + epsilon)) * g
    s["step"] = rho * s.get("step", 0) + (1 - rho) * step * step
    return p - step


def decayed_adagrad(p, g, s, t):
    s["m"] = 0.95 * s.get("m", 0) + 0.05 * g * g
    return p - 0.1 * g / (np.sqrt(s["m"]) + 1e-6)


def adamax(p, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = np.maximum(np.abs(g), 0.999 * s.get("u", 0) + 1e-8)
    return p - 0.1 / (1 - 0.9**t) * s["m"] / s["u"]


def lamb(p, g, s, t, decay=0.01):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    r = s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-6) + decay * p
    length, of_step = np.linalg.norm(p), np.linalg.norm(r)
    return p - 0.1 * (length / of_step if length and of_step else 1) * r


def lars(p, g, s, t, decay=0.0005):
    length, of_grad = np.linalg.norm(p), np.linalg.norm(g)
    local = 0.5 * length / (of_grad + decay * length) if length and of_grad else 1
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * local * (g + decay * p)
    return p - s["v"]


def shrunk(p, rate, l1, l2):
    return np.sign(p) * np.maximum(np.abs(p) - rate * l1, 0) / (1 + rate * l2)


def proximal_sgd(p, g, s, t):
    return shrunk(p - 0.1 * g, 0.1, 0.3, 0.2)


def proximal_adagrad(p, g, s, t):
    s["m"] = s.get("m", 0.1) + g * g
    return shrunk(p - 0.1 * g / np.sqrt(s["m"]), 0.1, 0.3, 0.2)


def ftrl(p, g, s, t, power=-0.5, l1=0.05, l2=0.2):
    old = s.get("n", 0.1)
    s["n"] = old + g * g
    sigma = (s["n"] ** -power - old**-power) / 0.1
    s["z"] = s.get("z", 0) + g - sigma * p
    new = (np.sign(s["z"]) * l1 - s["z"]) / (s["n"] ** -power / 0.1 + 2 * l2)
    return np.where(np.abs(s["z"]) > l1, new, 0)


OPTIMIZERS = {
    "adadelta": (lambda: adaptive.Adadelta(), adadelta),
    "decayed adagrad": (lambda: adaptive.DecayedAdagrad(0.1), decayed_adagrad),
    "adamax": (lambda: adaptive.Adamax(0.1), adamax),
    "lamb": (lambda: adaptive.LAMB(0.1), lamb),
    "lars": (lambda: adaptive.LARS(0.1, coefficient=0.5), lars),
    "proximal sgd": (lambda: adaptive.ProximalSGD(0.1, l1=0.3, l2=0.2), proximal_sgd),
    "proximal adagrad": (lambda: adaptive.ProximalAdagrad(0.1, l1=0.3, l2=0.2), proximal_adagrad),
    "ftrl": (lambda: adaptive.FTRL(0.1, l1=0.05, l2=0.2), ftrl),
    "ftrl of another power": (
        lambda: adaptive.FTRL(0.1, l1=0.05, l2=0.2, power=-0.3),
        lambda *a: ftrl(*a, power=-0.3),
    ),
    "clipped sgd": (
        lambda: adaptive.DPSGD(0.1, clip=0.5, sigma=0.0),
        lambda p, g, s, t: p - 0.1 * g * 0.5 / max(np.linalg.norm(g), 0.5),
    ),
}


def linear_program():
    model = Linear(4, 3)
    return trace(
        lambda x, y: {"loss": o.reduce_mean(o.square(o.sub(model(x), y)))},
        x=spec("N", 4),
        y=spec("N", 3),
    )


def gradients(p):
    error = 2 / Y.size * (X @ p["weight"].T + p["bias"] - Y)
    return {"weight": error.T @ X, "bias": error.sum(0)}


def trained(optimizer: Optimizer, steps: int):
    program = optimizer.minimize(linear_program())
    verify(program)
    executor = Executor(program, seed=1)
    before = executor.scope.state()
    for _ in range(steps):
        executor.run({"x": X, "y": Y}, fetch=[])
    return before, executor


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_the_formula(name: str) -> None:
    make, rule = OPTIMIZERS[name]
    before, executor = trained(make(), 8)
    p = {n: before[n].astype(np.float64) for n in ("weight", "bias")}
    slots: dict = {n: {} for n in p}
    for t in range(1, 9):
        g = gradients(p)
        p = {n: rule(p[n], g[n], slots[n], t) for n in p}
    for n, wanted in p.items():
        np.testing.assert_allclose(executor.scope[n], wanted, rtol=1e-4, atol=1e-5)


BY_ROWS = [n for n in OPTIMIZERS if n not in ("lamb", "lars", "clipped sgd", "proximal sgd")]
BATCHES = [np.array([2, 0, 2]), np.array([1, 2, 5])]


@pytest.mark.parametrize("name", BY_ROWS)
def test_only_the_rows_named_change_and_as_the_formula_says(name: str) -> None:
    make, rule = OPTIMIZERS[name]
    model = Embedding(6, 2, sparse=True)

    def loss(ids):
        return {"loss": o.reduce_sum(o.square(model(ids)))}

    program = make().minimize(trace(loss, ids=spec("N", dtype="int64")))
    verify(program)
    assert any(op.type == "put_rows" for op in program.operators)
    executor = Executor(program, seed=2)
    p = executor.scope.state()["weight"].astype(np.float64)
    slots: dict = {i: {} for i in range(6)}
    for t, ids in enumerate(BATCHES, 1):
        executor.run({"ids": ids}, fetch=[])
        for i in sorted(set(ids)):
            grad = 2 * p[i] * np.sum(ids == i)
            p[i] = rule(p[i], grad, slots[i], t)
    np.testing.assert_allclose(executor.scope["weight"], p, rtol=1e-4, atol=1e-5)


def test_noise_has_the_deviation_it_should() -> None:
    optimizer = adaptive.DPSGD(1.0, clip=2.0, sigma=3.0, batch=4)
    model = Linear(200, 100, bias=False)
    program = optimizer.minimize(
        trace(lambda x: {"loss": o.mul(o.reduce_sum(model(x)), 0.0)}, x=spec("N", 200))
    )
    executor = Executor(program, seed=3)
    before = executor.scope.state()["weight"].copy()
    executor.run({"x": np.ones((1, 200), np.float32)}, fetch=[])
    moved = executor.scope["weight"] - before
    assert abs(moved.std() - 1.5) < 0.05
    assert abs(moved.mean()) < 0.05


def test_what_was_not_sent_waits_and_nothing_is_lost() -> None:
    optimizer = adaptive.DGCMomentum(1.0, momentum=0.0, share=0.25, dense=1)
    before, executor = trained(optimizer, 1)
    g = gradients({n: before[n].astype(np.float64) for n in ("weight", "bias")})["weight"]
    moved = before["weight"] - executor.scope["weight"]
    assert np.count_nonzero(moved) == 3  # a quarter of 12
    np.testing.assert_allclose(moved + executor.scope["weight.waiting"], g, atol=1e-6)
    largest = np.sort(np.abs(g).ravel())[-3:]
    np.testing.assert_allclose(np.sort(np.abs(moved[moved != 0])), largest, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: adaptive.Adadelta(rho=1.0),
        lambda: adaptive.FTRL(0.1, power=0.5),
        lambda: adaptive.FTRL(0.1, l1=-1.0),
        lambda: adaptive.DPSGD(0.1, clip=0.0),
        lambda: adaptive.DGCMomentum(0.1, share=0.0),
        lambda: adaptive.LAMB(beta1=1.5),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make) -> None:
    with pytest.raises(ArgumentError):
        make()
