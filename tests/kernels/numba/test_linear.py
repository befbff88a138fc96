"""Products of a few rows with a weight that never changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.kernels.numba.linear import _ACTIVATIONS
from noria.runtime.executor import Executor

pytestmark = pytest.mark.usefixtures("fast_kernels")


def executor(ins: int, outs: int, bias: bool, activation: str | None) -> Executor:
    def body(x: Any) -> Any:
        state = building().state
        w = state("w", (outs, ins), init=("uniform", {"low": -1.0, "high": 1.0}))
        b = state("b", (outs,), init=("uniform", {})) if bias else None
        if activation is None:
            return o.linear(x, w, b)
        return o.fused_linear(x, w, b, activation=activation)

    return Executor(trace(body, x=spec("N", ins)), optimized=True)


@pytest.mark.parametrize("activation", list(_ACTIVATIONS))
@pytest.mark.parametrize(
    ("ins", "outs", "bias"),
    [(64, 64, True), (7, 3, True), (1, 1, False), (9, 17, False), (130, 100, True)],
)
def test_small_products_equal_the_reference(
    ins: int, outs: int, bias: bool, activation: str | None
) -> None:
    rng = np.random.default_rng(0)
    run = executor(ins, outs, bias, activation)
    with flags.set(validate=True, check_memory=True):
        for rows in (1, 2, 5):
            run.run({"x": rng.standard_normal((rows, ins), np.float32)})
    assert run.plan().steps[-1].engine == "numba:linear"


def test_a_large_product_goes_to_the_next_kernel() -> None:
    run = executor(64, 64, True, "relu")
    with flags.set(validate=True):
        run.run({"x": np.ones((500, 64), np.float32)})
    step = run.plan().steps[-1]
    assert ("numba:linear", "at binding: the product is large") in step.refused
    assert [k.name for k in step.others] == ["onednn:linear"]


def test_nan_and_infinity_pass_through() -> None:
    run = executor(9, 5, True, "relu")
    x = np.ones((3, 9), np.float32)
    x[0, 0], x[1, 1] = np.nan, np.inf
    with flags.set(validate=True):
        out = run.run({"x": x})["out"]
    assert np.isnan(out[0]).all()
    assert not np.isnan(out[2]).any()
