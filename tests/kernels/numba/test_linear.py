"""Products of a few rows with a weight that never changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.kernels.numba import parallel
from noria.kernels.numba.linear import ACTIVATIONS
from noria.runtime.executor import Executor
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

pytestmark = pytest.mark.usefixtures("fast_kernels")


def executor(
    ins: int, outs: int, bias: bool, activation: str | None, threads: int | None = None
) -> Executor:
    def body(x: Any) -> Any:
        state = building().state
        w = state("w", (outs, ins), init=("uniform", {"low": -1.0, "high": 1.0}))
        b = state("b", (outs,), init=("uniform", {})) if bias else None
        if activation is None:
            return o.linear(x, w, b)
        return o.fused_linear(x, w, b, activation=activation)

    return Executor(trace(body, x=spec("N", ins)), optimized=True, threads=threads)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
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


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize(("ins", "outs"), [(400, 400), (3, 37), (33, 8), (5, 7), (1000, 65)])
def test_outputs_are_dealt_out_to_a_team(ins: int, outs: int, threads: int) -> None:
    """Also to one with more threads than there are vectors of outputs."""
    run = executor(ins, outs, True, "relu", threads)
    x = np.random.default_rng(0).standard_normal((1, ins), np.float32)
    with parallel.always(), flags.set(validate=True, check_memory=True):
        run.run({"x": x})
    step = run.plan().steps[-1]
    assert step.engine == "numba:linear"
    assert "numba:linear" not in dict(step.refused)


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("ins", "outs"), [(400, 1), (13, 7), (33, 3)])
def test_a_few_outputs_take_a_residual(
    ins: int, outs: int, bias: bool, activation: str | None
) -> None:
    x, weight, residual = arr(70, ins), arr(outs, ins), arr(70, outs)
    inputs = [x, weight, arr(outs) if bias else None, residual]
    attrs = {"activation": activation}
    check_kernel("fused_linear", inputs, attrs, kernel="numba:linear", special=True)


def test_a_few_outputs_take_a_weight_that_changes() -> None:
    def body(x: Any) -> Any:
        w = building().state("w", (2, 9), init=("uniform", {}))
        building().update(w, o.mul(w, 0.5))
        return o.linear(x, w, None)

    run = Executor(trace(body, x=spec("N", 9)), optimized=True)
    with flags.set(validate=True):
        first, second = (run.run({"x": np.ones((300, 9), np.float32)})["out"] for _ in range(2))
    np.testing.assert_allclose(second, 0.5 * first)
    (step,) = (s for s in run.plan().steps if s.op.type == "linear")
    assert "numba:linear" not in dict(step.refused)


def test_a_large_product_goes_to_the_next_kernel() -> None:
    run = executor(64, 64, True, "relu")
    with flags.set(validate=True):
        run.run({"x": np.ones((500, 64), np.float32)})
    step = run.plan().steps[-1]
    assert ("numba:linear", "at binding: the product is large") in step.refused
    others = ["strassen", "packed_linear", "row_product", "few_rows"]
    assert [k.name for k in step.others] == [*(f"numba:{n}" for n in others), "onednn:linear"]


def test_nan_and_infinity_pass_through() -> None:
    run = executor(9, 5, True, "relu")
    x = np.ones((3, 9), np.float32)
    x[0, 0], x[1, 1] = np.nan, np.inf
    with flags.set(validate=True):
        out = run.run({"x": x})["out"]
    assert np.isnan(out[0]).all()
    assert not np.isnan(out[2]).any()
