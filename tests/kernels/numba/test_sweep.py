"""Updates in one call, beside the same updates one by one."""

import numpy as np
import pytest

import noria.ops.linalg
import noria.ops.reduce  # noqa: F401  (importing a family registers its ops)
from noria.core.flags import flags
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.kernels.numba import parallel
from noria.kernels.numba.sweep import kernel_of
from noria.kernels.registry import Declined
from noria.optim.optimizer import SGD, Adagrad, Adam, AdamW, Momentum, RMSProp
from noria.passes.pipeline import OPTIMIZE, run
from noria.runtime.executor import Executor
from tests.passes.programs import program

pytestmark = pytest.mark.usefixtures("fast_kernels")

SHAPES = [(5,), (3, 7), (1,), (33, 65), (17,), (2, 3, 5), (0, 4), (130, 130), (9,)]
OPTIMIZERS = {
    "sgd": SGD(0.1),
    "sgd, decay, clipped": SGD(0.1, weight_decay=0.01, clip_norm=0.5),
    "momentum": Momentum(0.1, nesterov=True),
    "adam": Adam(0.1),
    "adam, clipped": Adam(0.1, clip_norm=1.0),
    "adamw": AdamW(0.1, clip_norm=1.0),
    "adagrad": Adagrad(0.1),
    "rmsprop": RMSProp(0.1),
    "rmsprop, centred": RMSProp(0.1, centered=True, momentum=0.5),
}


def training(optimizer):
    """Each parameter's gradient is its row of numbers in x, times 2."""

    def step(**given):
        total = None
        for name, x in given.items():
            shape = x.shape
            w = building().state(
                f"p.{name}", shape, init=("uniform", {"low": -1.0}), trainable=True
            )
            part = o.reduce_sum(o.mul(o.mul(w, x), 2.0))
            total = part if total is None else o.add(total, part)
        return {"loss": total}

    given = {f"w{i}": spec(*shape) for i, shape in enumerate(SHAPES)}
    return optimizer.minimize(trace(step, **given))


def feeds(seed, special=False):
    rng = np.random.default_rng(seed)
    arrays = {f"w{i}": rng.standard_normal(s).astype(np.float32) for i, s in enumerate(SHAPES)}
    if special:
        arrays["w3"][0, :3] = np.nan, np.inf, -np.inf
    return arrays


def trained(optimizer, together, threads, special=False):
    """(state after three steps, kernels that ran)"""
    lines = [line for line in OPTIMIZE if together or line.name != "gather_updates"]
    with flags.set(check_memory=True), parallel.always():
        executor = Executor(
            run(training(optimizer), lines), optimized=True, threads=threads, seed=3
        )
        for seed in range(3):
            executor.run(feeds(seed, special and seed == 1), [])
    names = [step.engine for step in executor.plan([]).steps]
    return executor.scope.state(), names


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_together_or_one_by_one_the_result_is_the_same_to_the_last_bit(name, threads):
    got, names = trained(OPTIMIZERS[name], True, threads)
    want, others = trained(OPTIMIZERS[name], False, threads)
    assert "numba:sweep" in names and "numba:sweep" not in others
    assert len(names) <= len(others) - len(SHAPES) + 2
    for key, array in want.items():
        np.testing.assert_array_equal(got[key], array, err_msg=key)


@pytest.mark.parametrize("name", ["sgd", "adam, clipped", "rmsprop, centred"])
def test_so_it_is_for_nan_and_infinities(name):
    got, _ = trained(OPTIMIZERS[name], True, 2, special=True)
    want, _ = trained(OPTIMIZERS[name], False, 2, special=True)
    assert any(np.isnan(array).any() for array in want.values())
    for key, array in want.items():
        np.testing.assert_array_equal(got[key], array, err_msg=key)


def test_the_reference_agrees():
    optimizer = OPTIMIZERS["adam, clipped"]
    with flags.set(validate=True):
        trained(optimizer, True, 2)


def test_what_is_no_loop_is_declined():
    other = program("input x: float32[4]\ns: float32[4] = softmax(x)\noutput y = s").operators[0]
    with pytest.raises(Declined, match="'softmax' is no loop"):
        kernel_of(other)
