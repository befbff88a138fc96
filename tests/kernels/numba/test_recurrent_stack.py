"""Stacks of layers, one by one and side by side, beside the reference."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.core.flags import flags
from noria.ir.trace import spec, trace
from noria.kernels.numba import parallel
from noria.nn.ragged import Ragged
from noria.nn.recurrent import LSTM
from noria.runtime.executor import Executor

WAYS = {False: "one by one", True: "side by side"}
RNG = np.random.default_rng(0)


def network(size, layers, **how):
    """A Program of stacked layers over ragged rows: all outputs and last states."""
    layer = LSTM(size, size, num_layers=layers, **how)

    def step(x, splits, h, c):
        out, last = layer(Ragged(x, splits), (h, c))
        return {"out": out.values, "h": last[0], "c": last[1]}

    ids = spec("N + 1", dtype="int64")
    state = spec(layers, "N", size)
    return trace(step, x=spec("T", size), splits=ids, h=state, c=state)


def feeds_of(splits, size, layers):
    rows, normal = len(splits) - 1, RNG.standard_normal
    arrays = {"x": (int(splits[-1]), size), "h": (layers, rows, size), "c": (layers, rows, size)}
    made = {n: normal(shape).astype(np.float32) for n, shape in arrays.items()}
    return {**made, "splits": np.asarray(splits)}


def runs(program, feeds, way, threads):
    """(outputs, how the stack ran)"""
    with flags.set(wavefront=way, threads=threads), parallel.always():
        executor = Executor(program)
        bound = executor.bound(feeds)
        kernels = [i.prepared for i in bound.items if i.step.op.type == "fused_recurrent"]
        got = executor.run(feeds)
        again = executor.run(feeds)
    for n in got:
        assert np.array_equal(got[n], again[n])
    return got, [p.detail for p in kernels if p is not None][-1]


def wanted(program, feeds):
    with flags.set(kernels="reference"):
        return Executor(program).run(feeds)


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_where_only_outputs_are_wanted_nothing_else_is_kept(layers, bidirectional):
    layer = LSTM(5, 20, num_layers=layers, bidirectional=bidirectional)

    def step(x, splits):
        return {"out": layer(Ragged(x, splits))[0].values}

    inputs = {"x": spec("T", 5), "splits": spec("N + 1", dtype="int64")}
    program = trace(step, **inputs)
    feeds = {"x": RNG.standard_normal((33, 5)).astype(np.float32), "splits": np.array([0, 30, 33])}
    executor = Executor(program)
    got, bound = executor.run(feeds), executor.bound(feeds)
    np.testing.assert_allclose(got["out"], wanted(program, feeds)["out"], rtol=1e-5, atol=1e-6)
    fused = [i.step.op for i in bound.items if i.step.op.type == "fused_recurrent"]
    assert len(fused) == (2 * layers if bidirectional else 1)
    assert all(len(op.outputs) == 1 for op in fused)


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("size", "layers", "splits"),
    [
        (7, 2, [0, 40]),
        (16, 3, [0, 3, 3, 21, 25]),
        (70, 5, [0, 9, 18]),
        (3, 8, np.arange(20)),
    ],
    ids=str,
)
def test_stacks_of_any_size(size, layers, splits, way, threads):
    program, feeds = network(size, layers), feeds_of(splits, size, layers)
    got, how = runs(program, feeds, way, threads)
    assert how == f"{layers} layers {WAYS[way]}"
    want = wanted(program, feeds)
    for n in want:
        np.testing.assert_allclose(got[n], want[n], atol=2e-6, err_msg=n)


@pytest.mark.usefixtures("fast_kernels")
def test_one_thread_runs_layers_one_by_one():
    program, feeds = network(5, 2, bias=False), feeds_of([0, 4, 9], 5, 2)
    got, how = runs(program, feeds, True, 1)
    assert how == "2 layers one by one"
    np.testing.assert_allclose(got["out"], wanted(program, feeds)["out"], atol=2e-6)


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("way", WAYS)
def test_nan_stays_in_its_row(way):
    program, feeds = network(9, 3), feeds_of([0, 5, 12], 9, 3)
    feeds["x"][1, 2] = np.nan
    got, _ = runs_with_nan(program, feeds, way)
    assert np.isnan(got["out"][1:5]).all() and np.isfinite(got["out"][5:]).all()


def runs_with_nan(program, feeds, way):
    with flags.set(wavefront=way, threads=2), parallel.always():
        return Executor(program).run(feeds), None


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", [[0, 5, 3, 12], [1, 5, 9, 12], [0, 5, 8, 11]], ids=str)
def test_wrong_splits_are_told(way, wrong):
    program, feeds = network(9, 3), feeds_of([0, 5, 8, 12], 9, 3)
    feeds["splits"] = np.array(wrong)
    with (
        flags.set(wavefront=way, threads=2),
        parallel.always(),
        pytest.raises(ArgumentError, match="do not divide"),
    ):
        Executor(program).run(feeds)


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_of_halves_keeps_only_outputs(bidirectional):
    layer = LSTM(7, 19, bidirectional=bidirectional)
    program = trace(
        lambda x, splits: {"out": layer(Ragged(x, splits))[0].values},
        x=spec("T", 7),
        splits=spec("N + 1", dtype="int64"),
    )
    feeds = {k: v for k, v in feeds_of([0, 4, 4, 9, 10], 7, 1).items() if k in ("x", "splits")}
    executor = Executor(program, precision="bf16")
    got = executor.run(feeds)["out"]
    with flags.set(kernels="reference"):
        want = Executor(program, precision="bf16").run(feeds)["out"]
    np.testing.assert_allclose(got, want, atol=1e-2)
    steps = [s for s in executor.plan().steps if s.op.type == "fused_recurrent"]
    assert len(steps) == 1 + bidirectional
    for step in steps:
        assert step.kernel is not None and [v.dtype for v in step.op.outputs] == ["bfloat16"]
