"""Optimisers beside formulas in float64, for a model whose gradient is written out here."""

import math

import numpy as np
import pytest

from noria.core.errors import ArgumentError, MissingError, ProgramError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.text import format_program
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.nn import init
from noria.nn.embedding import Embedding
from noria.nn.layers import BatchNorm1d, Linear
from noria.nn.module import Module, Parameter
from noria.ops import library  # noqa: F401  (all ops are registered)
from noria.optim.optimizer import SGD, Adagrad, Adam, AdamW, Momentum, Optimizer, RMSProp
from noria.runtime.executor import Executor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype(np.float32)
Y = RNG.normal(size=(5, 3)).astype(np.float32)
STEPS = 10


# ---- a linear model under squared error --------------------------------------------------------


def linear_program():
    model = Linear(4, 3)

    def loss(x, y):
        return {"loss": o.reduce_mean(o.square(o.sub(model(x), y)))}

    return trace(loss, x=spec("N", 4), y=spec("N", 3))


def linear_gradients(p):
    error = 2 / Y.size * (X @ p["weight"].T + p["bias"] - Y)
    return {"weight": error.T @ X, "bias": error.sum(0)}


def trained(optimizer, steps=STEPS, seed=1):
    """(state before, executor after) `steps` steps of the linear model."""
    program = optimizer.minimize(linear_program())
    verify(program)
    executor = Executor(program, seed=seed)
    before = executor.scope.state()
    for _ in range(steps):
        executor.run({"x": X, "y": Y}, fetch=[])
    return before, executor


def expected(before, update, steps=STEPS, gradients=linear_gradients):
    """What `update(param, grad, slots, step) -> param` makes of the model, in float64."""
    p = {n: before[n].astype(np.float64) for n in gradients(before)}
    slots = {n: {} for n in p}
    for t in range(1, steps + 1):
        grads = gradients(p)
        p = {n: update(p[n], grads[n], slots[n], t) for n in p}
    return p, slots


def assert_close(executor, wanted, tol=2e-5):
    for n, w in wanted.items():
        np.testing.assert_allclose(executor.scope[n], w, rtol=tol, atol=tol, err_msg=n)


# ---- the formulas ------------------------------------------------------------------------------


def sgd(p, g, s, t, lr=0.1):
    return p - lr * g


def momentum(p, g, s, t, lr=0.1, m=0.8, nesterov=False):
    s["velocity"] = m * s.get("velocity", 0) + g
    return p - lr * (g + m * s["velocity"] if nesterov else s["velocity"])


def adagrad(p, g, s, t, lr=0.1, epsilon=1e-10, initial=0.0):
    s["moment"] = s.get("moment", initial) + g * g
    return p - lr * g / (np.sqrt(s["moment"]) + epsilon)


def adam(p, g, s, t, lr=0.1, b1=0.9, b2=0.999, epsilon=1e-8, decoupled=0.0):
    s["moment1"] = b1 * s.get("moment1", 0) + (1 - b1) * g
    s["moment2"] = b2 * s.get("moment2", 0) + (1 - b2) * g * g
    first, second = s["moment1"] / (1 - b1**t), s["moment2"] / (1 - b2**t)
    return p - lr * decoupled * p - lr * first / (np.sqrt(second) + epsilon)


def rmsprop(p, g, s, t, lr=0.1, rho=0.99, epsilon=1e-8, m=0.0, centered=False):
    s["mean_square"] = rho * s.get("mean_square", 0) + (1 - rho) * g * g
    spread = s["mean_square"]
    if centered:
        s["mean_grad"] = rho * s.get("mean_grad", 0) + (1 - rho) * g
        spread = spread - s["mean_grad"] ** 2
    step = g / (np.sqrt(spread) + epsilon)
    if m:
        step = s["velocity"] = m * s.get("velocity", 0) + step
    return p - lr * step


def using(rule, **how):
    return lambda p, g, s, t: rule(p, g, s, t, **how)


OPTIMIZERS = {
    "sgd": (lambda **k: SGD(0.1, **k), sgd),
    "momentum": (lambda **k: Momentum(0.1, 0.8, **k), momentum),
    "nesterov": (
        lambda **k: Momentum(0.1, 0.8, nesterov=True, **k),
        using(momentum, nesterov=True),
    ),
    "adagrad": (lambda **k: Adagrad(0.1, **k), adagrad),
    "adagrad from 0.5": (
        lambda **k: Adagrad(0.1, initial=0.5, epsilon=0.01, **k),
        using(adagrad, initial=0.5, epsilon=0.01),
    ),
    "adam": (lambda **k: Adam(0.1, **k), adam),
    "adam with betas": (
        lambda **k: Adam(0.1, beta1=0.5, beta2=0.9, epsilon=0.01, **k),
        using(adam, b1=0.5, b2=0.9, epsilon=0.01),
    ),
    "adamw": (
        lambda **k: AdamW(0.1, **({"weight_decay": 0.2} | k)),
        using(adam, decoupled=0.2),
    ),
    "rmsprop": (lambda **k: RMSProp(0.05, **k), using(rmsprop, lr=0.05)),
    "rmsprop centered": (
        lambda **k: RMSProp(0.02, rho=0.9, epsilon=1e-3, centered=True, **k),
        using(rmsprop, lr=0.02, rho=0.9, epsilon=1e-3, centered=True),
    ),
    "rmsprop of everything": (
        lambda **k: RMSProp(0.01, rho=0.9, epsilon=1e-3, momentum=0.5, centered=True, **k),
        using(rmsprop, lr=0.01, rho=0.9, epsilon=1e-3, m=0.5, centered=True),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_are_the_formula(name):
    make, rule = OPTIMIZERS[name]
    before, executor = trained(make())
    wanted, slots = expected(before, rule)
    assert_close(executor, wanted)
    for n, kept in slots.items():
        assert_close(executor, {f"{n}.{slot}": v for slot, v in kept.items()})
    assert executor.scope["optimizer.step"] == STEPS
    assert any(np.abs(executor.scope[n] - before[n]).max() > 0.01 for n in wanted)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_reference_run_gives_what_the_engine_gives(name):
    program = OPTIMIZERS[name][0]().minimize(linear_program())
    before, executor = trained(OPTIMIZERS[name][0](), steps=2)
    state = dict(before)
    for _ in range(2):
        _, new = run_program(program, {"x": X, "y": Y}, state)
        state |= new
    assert_close(executor, state)
    assert set(new) == set(state) - {"optimizer.rate"}


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n != "adamw"])
def test_weight_decay_is_added_to_the_gradient(name):
    make, rule = OPTIMIZERS[name]
    before, executor = trained(make(weight_decay=0.3))
    wanted, _ = expected(before, lambda p, g, s, t: rule(p, g + 0.3 * p, s, t))
    assert_close(executor, wanted)


def test_adamw_decays_by_one_hundredth_unless_told():
    before, executor = trained(AdamW(0.1))
    wanted, _ = expected(before, using(adam, decoupled=0.01))
    assert_close(executor, wanted)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (SGD, lambda p, g, s, t: sgd(p, g + 0.3 * p if p.ndim > 1 else g, s, t)),
        (AdamW, lambda p, g, s, t: adam(p, g, s, t, decoupled=0.3 if p.ndim > 1 else 0)),
    ],
)
def test_decay_chooses_parameters_by_name(make, rule):
    asked = []

    def decay(name):
        asked.append(name)
        return not name.endswith("bias")

    before, executor = trained(make(0.1, weight_decay=0.3, decay=decay))
    wanted, _ = expected(before, rule)
    assert_close(executor, wanted)
    assert asked == ["weight", "bias"]


# ---- clipping ----------------------------------------------------------------------------------


def clipped(limit):
    def gradients(p):
        grads = linear_gradients(p)
        norm = math.sqrt(sum((g * g).sum() for g in grads.values()))
        return {n: g * min(1, limit / norm) for n, g in grads.items()}

    return gradients


@pytest.mark.parametrize("limit", [0.05, 1.0, 1e6])
@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam with betas"])
def test_gradients_are_clipped_by_their_global_norm(name, limit):
    make, rule = OPTIMIZERS[name]
    before, executor = trained(make(clip_norm=limit))
    wanted, _ = expected(before, rule, gradients=clipped(limit))
    assert_close(executor, wanted)


def test_clipping_comes_before_weight_decay():
    before, executor = trained(SGD(0.1, clip_norm=0.05, weight_decay=0.3))
    wanted, _ = expected(
        before, lambda p, g, s, t: sgd(p, g + 0.3 * p, s, t), gradients=clipped(0.05)
    )
    assert_close(executor, wanted)


# ---- sparse gradients --------------------------------------------------------------------------

IDS = [np.array(ids) for ids in ([1, 3, 3, 1, 1], [0, 3, 3, 3, 3], [5, 1, 0, 0, 5])]
ROWS = 7


class Bag(Module):
    def __init__(self, sparse):
        self.table = Embedding(ROWS, 2, sparse=sparse)
        self.scale = Parameter((2,), init.constant(1.5))

    def __call__(self, ids):
        return o.reduce_sum(o.square(self.table(ids) * self.scale))


def table_run(optimizer, sparse, steps=6):
    model = Bag(sparse)
    program = trace(lambda ids: {"loss": model(ids)}, ids=spec("N", dtype="int64"))
    executor = Executor(optimizer.minimize(program), seed=3)
    before = executor.scope.state()
    for t in range(steps):
        executor.run({"ids": IDS[t % len(IDS)]})
    return before, executor


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sparse_gradient_touches_only_its_rows(name):
    before, executor = table_run(OPTIMIZERS[name][0](), sparse=True)
    never = [2, 4, 6]
    for state, array in executor.scope.state().items():
        if state.startswith("table"):
            np.testing.assert_array_equal(array[never], before[state][never])
    moved = np.any(executor.scope["table.weight"] != before["table.weight"], axis=1)
    assert np.flatnonzero(moved).tolist() == [0, 1, 3, 5]


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "adagrad from 0.5"])
def test_sparse_equals_dense_where_rows_without_gradient_stand_still(name, clip):
    make = OPTIMIZERS[name][0]
    _, sparse = table_run(make(clip_norm=clip), sparse=True)
    _, dense = table_run(make(clip_norm=clip), sparse=False)
    assert_close(sparse, dense.scope.state())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparse_is_the_formula_of_the_rows_that_have_a_gradient(name):
    make, rule = OPTIMIZERS[name]
    before, executor = table_run(make(), sparse=True, steps=3)
    p, scale = before["table.weight"].astype(np.float64), before["scale"].astype(np.float64)
    slots, own = [{} for _ in range(ROWS)], {}
    for t, ids in enumerate(IDS, 1):
        new = p.copy()
        for i in set(ids.tolist()):
            grad = 2 * p[i] * scale**2 * (ids == i).sum()
            new[i] = rule(p[i], grad, slots[i], t)
        scale = rule(scale, 2 * scale * (p[ids] ** 2).sum(0), own, t)
        p = new
    assert_close(executor, {"table.weight": p, "scale": scale}, tol=1e-4)


def test_clipping_adds_the_rows_of_one_id_first():
    model = Embedding(4, 1, sparse=True)
    model.weight.init = init.zeros()
    program = trace(lambda ids: {"loss": o.reduce_sum(model(ids))}, ids=spec("N", dtype="int64"))
    executor = Executor(SGD(1.0, clip_norm=1.0).minimize(program))
    executor.run({"ids": np.array([0, 0, 0, 2, 2, 2, 2])})  # gradient 3, 0, 4, 0: norm 5
    np.testing.assert_allclose(executor.scope["weight"][:, 0], [-0.6, 0, -0.8, 0], rtol=1e-5)


def test_l2_decay_of_a_sparse_table_reaches_every_row():
    _, sparse = table_run(SGD(0.1, weight_decay=0.1), sparse=True)
    before, dense = table_run(SGD(0.1, weight_decay=0.1), sparse=False)
    assert_close(sparse, dense.scope.state())
    np.testing.assert_allclose(
        sparse.scope["table.weight"][4], before["table.weight"][4] * 0.99**6, rtol=1e-5
    )


# ---- the learning rate -------------------------------------------------------------------------


def test_the_rate_may_be_changed_while_training():
    before, executor = trained(SGD(0.1), steps=3)
    assert executor.scope["optimizer.rate"] == np.float32(0.1)
    executor.scope["optimizer.rate"] = 0.02
    for _ in range(3):
        executor.run({"x": X, "y": Y})
    wanted, _ = expected(before, lambda p, g, s, t: p - (0.1 if t <= 3 else 0.02) * g, steps=6)
    assert_close(executor, wanted)


def test_a_rate_of_zero_changes_nothing():
    before, executor = trained(Adam(0.0), steps=2)
    for n in ("weight", "bias"):
        np.testing.assert_array_equal(executor.scope[n], before[n])


def test_numbers_of_numpy_are_rates():
    _, executor = trained(SGD(np.float32(0.1)), steps=1)
    assert executor.scope["optimizer.rate"] == np.float32(0.1)


# ---- what minimise makes -----------------------------------------------------------------------


def test_state_is_named_after_parameter_and_slot():
    program = Adam().minimize(linear_program())
    assert set(program.updates) == {
        "weight",
        "weight.moment1",
        "weight.moment2",
        "bias",
        "bias.moment1",
        "bias.moment2",
        "optimizer.step",
    }
    assert set(program.state) == {*program.updates, "optimizer.rate"}
    assert list(program.parameters()) == ["weight", "bias"]
    assert program.state["weight.moment1"].value.shape == (3, 4)


def test_the_given_program_stays_as_it_is():
    program = linear_program()
    before = format_program(program)
    SGD(0.1).minimize(program)
    assert format_program(program) == before
    assert not program.updates


def test_only_the_parameters_named_are_learned():
    program = Momentum(0.1).minimize(linear_program(), wrt=["bias"])
    assert set(program.updates) == {"bias", "bias.velocity", "optimizer.step"}


def test_parameters_without_a_path_to_the_loss_stand_still():
    used, unused = Linear(4, 1).named("used"), Linear(4, 1).named("unused")
    program = trace(lambda x: {"loss": used(x).sum(), "y": unused(x)}, x=spec("N", 4))
    trained = AdamW(0.1).minimize(program)
    assert not [n for n in trained.updates if n.startswith("unused")]


def test_running_statistics_are_updated_but_not_learned():
    norm = BatchNorm1d(4)
    program = trace(lambda x: {"loss": o.reduce_sum(o.square(norm(x)))}, x=spec("N", 4))
    executor = Executor(SGD(0.1, weight_decay=0.5).minimize(program))
    executor.run({"x": X})
    np.testing.assert_allclose(executor.scope["running_mean"], 0.1 * X.mean(0), rtol=1e-5)
    assert "running_mean.velocity" not in executor.scope


def test_a_shared_parameter_gets_the_sum_of_its_gradients():
    layer = Linear(1, 1, bias=False)
    program = trace(lambda x: {"loss": layer(layer(x)).sum()}, x=spec("N", 1))
    executor = Executor(SGD(0.1).minimize(program))
    w = executor.scope["weight"]
    executor.run({"x": np.ones((1, 1), np.float32)})
    np.testing.assert_allclose(executor.scope["weight"], w - 0.1 * 2 * w, rtol=1e-5)


def two_losses():
    a, b = Linear(4, 3).named("a"), Linear(3, 3).named("b")

    def fn(x):
        return {"one": o.reduce_mean(a(x)), "two": o.reduce_mean(o.square(b(a(x))))}

    return trace(fn, x=spec("N", 4))


def test_two_optimisers_of_one_program_have_their_own_rates():
    program = SGD(0.1).minimize(two_losses(), "one", wrt=["a.weight", "a.bias"])
    program = Adam(0.01, name="second").minimize(program, "two", wrt=["b.weight", "b.bias"])
    executor = Executor(program)
    before = executor.scope.state()
    assert (before["optimizer.rate"], before["second.rate"]) == (
        np.float32(0.1),
        np.float32(0.01),
    )
    executor.run({"x": X})
    assert (executor.scope["optimizer.step"], executor.scope["second.step"]) == (1, 1)
    grad = np.tile(X.mean(0) / 3, (3, 1))
    np.testing.assert_allclose(
        executor.scope["a.weight"], before["a.weight"] - 0.1 * grad, rtol=1e-4, atol=1e-6
    )
    step = before["b.weight"] - executor.scope["b.weight"]
    np.testing.assert_allclose(np.abs(step), 0.01, rtol=1e-3)  # Adam's first step is the rate


def test_two_optimisers_need_names():
    program = SGD(0.1).minimize(two_losses(), "one", wrt=["a.weight"])
    with pytest.raises(ArgumentError, match=r"already has state called 'optimizer\.step'"):
        Adam(0.01).minimize(program, "two", wrt=["b.weight"])


def test_a_parameter_is_learned_by_one_optimiser():
    program = SGD(0.1).minimize(two_losses(), "one")
    with pytest.raises(ArgumentError, match=r"'a\.weight' is updated in this Program already"):
        Adam(0.01, name="second").minimize(program, "two")


def test_a_slot_does_not_take_state_of_the_model():
    class Odd(Module):
        def __init__(self):
            self.weight = Parameter((2,), init.ones())

        def __call__(self, x):
            with_velocity = Parameter((2,), init.ones(), trainable=False)
            setattr(self, "weight.velocity", with_velocity)
            return (x * self.weight + with_velocity).sum()

    program = trace(lambda x: {"loss": Odd()(x)}, x=spec(2))
    with pytest.raises(ArgumentError, match=r"'weight\.velocity'"):
        Momentum(0.1).minimize(program)


def test_an_optimiser_of_ones_own_is_a_class_with_apply():
    class SignSGD(Optimizer):
        def apply(self, param, grad, slots, rate, count, decay):
            return [o.sub(param, o.mul(o.sign(grad), rate))]

    before, executor = trained(SignSGD(0.1))
    wanted, _ = expected(before, lambda p, g, s, t: p - 0.1 * np.sign(g))
    assert_close(executor, wanted)


def test_the_base_class_has_no_update():
    with pytest.raises(NotImplementedError):
        Optimizer(0.1).minimize(linear_program())


# ---- errors ------------------------------------------------------------------------------------


def test_an_unknown_loss_is_an_error():
    with pytest.raises(MissingError, match="did you mean 'loss'"):
        SGD(0.1).minimize(linear_program(), "los")


def test_a_loss_that_is_no_scalar_is_an_error():
    model = Linear(4, 3)
    program = trace(lambda x: {"loss": model(x)}, x=spec("N", 4))
    with pytest.raises(ArgumentError, match="must be a scalar"):
        SGD(0.1).minimize(program)


def test_a_loss_of_integers_is_an_error():
    program = trace(lambda x: {"loss": o.reduce_sum(x)}, x=spec("N", dtype="int64"))
    with pytest.raises(ArgumentError, match="only float values have gradients"):
        SGD(0.1).minimize(program)


def test_an_unknown_parameter_is_an_error():
    with pytest.raises(ArgumentError, match=r"'wieght'(\n.*)*did you mean 'weight'"):
        SGD(0.1).minimize(linear_program(), wrt=["wieght"])


def test_a_feed_cannot_be_learned():
    with pytest.raises(ArgumentError, match="'x' is no state"):
        SGD(0.1).minimize(linear_program(), wrt=["x"])


@pytest.mark.parametrize("wrt", [None, []])
def test_a_program_without_parameters_is_an_error(wrt):
    program = trace(lambda x: {"loss": o.reduce_sum(x)}, x=spec("N", 4))
    with pytest.raises(ProgramError, match="nothing that can be learned leads to 'loss'"):
        SGD(0.1).minimize(program, wrt=wrt)


def test_a_loss_behind_stop_gradient_is_an_error():
    model = Linear(4, 3)
    program = trace(lambda x: {"loss": o.stop_gradient(model(x)).sum()}, x=spec("N", 4))
    with pytest.raises(ProgramError, match=r"nothing that can be learned|stop_gradient"):
        SGD(0.1).minimize(program)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(-0.1),
        lambda: SGD(math.nan),
        lambda: SGD(math.inf),
        lambda: SGD("0.1"),
        lambda: SGD(None),
        lambda: SGD(0.1, weight_decay=-1),
        lambda: SGD(0.1, weight_decay=None),
        lambda: SGD(0.1, clip_norm=0),
        lambda: SGD(0.1, clip_norm=math.nan),
        lambda: SGD(0.1, clip_norm="1"),
        lambda: SGD(0.1, decay=["weight"]),
        lambda: Momentum(0.1, 1.0),
        lambda: Momentum(0.1, -0.5),
        lambda: Adagrad(0.1, epsilon=-1),
        lambda: Adagrad(0.1, initial=-1),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=-0.1),
        lambda: Adam(epsilon=math.nan),
        lambda: AdamW(weight_decay=-0.1),
        lambda: RMSProp(rho=1.0),
        lambda: RMSProp(momentum=1.0),
        lambda: RMSProp(epsilon=-1e-8),
    ],
)
def test_bad_arguments_are_refused(make):
    with pytest.raises(ArgumentError):
        make()


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="learning_rate"):
        Adam(learning_rate=0.1)


def test_minimise_inside_a_builder_makes_its_own_program():
    outer = trace(lambda x: x, x=spec())
    with Builder(outer):
        program = SGD(0.1).minimize(linear_program())
    verify(program)
    assert not outer.operators
