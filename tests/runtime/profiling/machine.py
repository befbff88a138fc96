"""A machine of round numbers, and profiles of small Programs on it."""

import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.nn.layers import Linear, ReLU
from noria.nn.module import Sequential
from noria.optim.optimizer import Adam
from noria.runtime.executor import Executor
from noria.runtime.profiling import profile as module
from noria.runtime.profiling.peaks import Peaks
from tests.runtime.programs import floats

MACHINE = Peaks("a machine", 2, {"float32": 1e12, "bfloat16": 4e12}, {1000: 1e11, 10**9: 1e10})
FEEDS = {"x": floats(5, 4), "y": np.zeros(5, np.int64)}


@pytest.fixture
def machine(monkeypatch):
    """Nothing is measured but the steps."""
    monkeypatch.setattr(module, "peaks", lambda threads, fresh=False: MACHINE)
    return MACHINE


def training():
    """An Executor that trains two linear layers, 4 -> 8 -> 3."""
    net = Sequential(Linear(4, 8), ReLU(), Linear(8, 3))

    def step(x, y):
        return {"loss": o.reduce_mean(o.softmax_cross_entropy(net(x), y)[0]), "logits": net(x)}

    forward = trace(step, name="small", x=spec("N", 4), y=spec("N", dtype="int64"))
    return Executor(Adam(0.1).minimize(forward), threads=1)
