"""Whole networks on older CPUs than this one: the code of NORIA_CPU beside the references."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from noria.kernels.numba.loader import X86

STEPS = '''
import numpy as np
import noria
from noria import nn, ops, optim
from noria.core.flags import flags
from noria.kernels.numba import loader, tile_sizes
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet

rng = np.random.default_rng(0)


def train(name, program, feeds, precision="float32"):
    """Two steps, every kernel beside its reference; prints what is left to the reference alone."""
    executor = noria.Executor(optim.SGD(0.1).minimize(program), seed=1, precision=precision)
    with flags.set(validate=True):
        losses = [float(executor.run(feeds, ["loss"])["loss"]) for _ in range(2)]
    with flags.set(kernels="reference"):
        plain = noria.Executor(optim.SGD(0.1).minimize(program), seed=1)
        wanted = [float(plain.run(feeds, ["loss"])["loss"]) for _ in range(2)]
    np.testing.assert_allclose(losses, wanted, rtol=2e-2 if precision == "bf16" else 1e-4)
    items = executor.bound(feeds, ["loss"]).items
    slow = [i.step.op.type for i in items if not (i.kernel or i.pack or i.reorders or i.step.view)]
    print(name, sorted(set(slow)))


program = noria.trace(
    classify(LeNet()), image=noria.spec("N", 1, 28, 28), label=noria.spec("N", dtype="int64")
)
images = {"image": rng.standard_normal((4, 1, 28, 28), np.float32), "label": np.arange(4)}
train("lenet", program, images)

lstm, head = nn.LSTM(20, 24), nn.Linear(24, 5)
program = noria.trace(
    lambda x: {"loss": ops.reduce_mean(ops.square(head(lstm(x)[0])))}, x=noria.spec("N", 7, 20)
)
steps = {"x": rng.standard_normal((5, 7, 20), np.float32)}
train("lstm", program, steps)
train("lstm on halves", program, steps, "bf16")

attention = nn.MultiheadAttention(32, 2)
program = noria.trace(
    lambda x: {"loss": ops.reduce_mean(ops.square(attention(x, x, x)))}, x=noria.spec("N", 19, 32)
)
train("attention", program, {"x": rng.standard_normal((3, 19, 32), np.float32)})

mlp = nn.Sequential(nn.Linear(30, 40), nn.ReLU(), nn.Linear(40, 10))
program = noria.trace(
    lambda x: {"loss": ops.reduce_mean(ops.square(mlp(x)))}, x=noria.spec("N", 30)
)
train("mlp", program, {"x": rng.standard_normal((50, 30), np.float32)}, "bf16")
print(loader.cpu()[0], tile_sizes.WIDTH)
'''


@pytest.mark.skipif(not X86, reason="levels of x86-64")
def test_networks_train_on_a_cpu_without_avx512() -> None:
    """Only moving elements is left to the reference."""
    environment = {k: v for k, v in os.environ.items() if k != "NORIA_KERNELS"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", STEPS],
        env=environment | {"NORIA_CPU": "avx2"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    names = "lenet", "lstm", "lstm on halves", "attention", "mlp"
    assert ran.stdout.splitlines() == [*(f"{name} []" for name in names), "x86-64-v3 8"]
