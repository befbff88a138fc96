"""Look-ups with what pools their rows."""

import numpy as np
import pytest

import noria.ops.fused_bag
import noria.ops.sequence  # noqa: F401  (importing a family registers its ops)
from noria import nn, ops, optim
from noria.ir.trace import spec, trace
from noria.passes.fuse_embedding import fuse_embedding
from noria.runtime.executor import Executor
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

LOOKED_UP = """
  input w: float32[9, 3]
  input ids: int64[N, 4]
  rows: float32[N, 4, 3] = embedding(w, ids, sparse=true)
"""
PACKED = """
  input w: float32[9, 3]
  input ids: int64[6]
  input splits: int64[4]
  rows: float32[6, 3] = embedding(w, ids)
"""
IDS = np.array([[0, 3, 3, 8], [1, 1, 1, 1], [4, 0, 2, 7]])
SPLITS = {"ids": IDS.ravel()[:6], "splits": np.array([0, 2, 2, 6])}


def fused(lines, feeds=None, exact=False):
    before = program(lines)
    after, report = apply(fuse_embedding, before)
    assert_same_numbers(before, after, feeds=feeds or {"ids": IDS}, exact=exact)
    return types(after), report


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_rows_that_are_only_pooled_are_not_kept(mode):
    pooled = f"out: float32[N, 3] = reduce_{mode}(rows, axis=-2)\n output y = out"
    assert fused(LOOKED_UP + pooled)[0] == ["fused_bag"]


def test_rows_that_something_else_needs_are_kept():
    kept = """
      out: float32[N, 3] = reduce_sum(rows, axis=1)
      output y = out
      output rows = rows
    """
    found, report = fused(LOOKED_UP + kept)
    assert found == ["embedding", "reduce_sum"]
    assert reasons(report) == ["value rows is used elsewhere"]


@pytest.mark.parametrize(("axis", "shape"), [("0", "4, 3"), ("2", "N, 4"), ("(0, 1)", "3")])
def test_other_axes_are_no_bags(axis, shape):
    found, report = fused(
        LOOKED_UP + f"out: float32[{shape}] = reduce_sum(rows, axis={axis})\n output y = out"
    )
    assert found == ["embedding", "reduce_sum"]
    assert reasons(report) == ["it is not reduced along the last axis of ids alone"]


@pytest.mark.parametrize("mode", ["sum", "max"])
def test_packed_rows_are_pooled_too(mode):
    pooled = f"out: float32[3, 3] = sequence_{mode}(rows, splits)\n output y = out"
    assert fused(PACKED + pooled, SPLITS)[0] == ["fused_bag"]


def test_weights_are_taken_along():
    weighted = """
      input weights: float32[N, 4]
      unsqueeze: float32[N, 4, 1] = unsqueeze(weights, axis=-1)
      mul: float32[N, 4, 3] = mul(rows, unsqueeze)
      out: float32[N, 3] = reduce_sum(mul, axis=1)
      output y = out
    """
    assert fused(LOOKED_UP + weighted)[0] == ["fused_bag"]
    packed = """
      input weights: float32[6]
      unsqueeze: float32[6, 1] = unsqueeze(weights, axis=(1,))
      mul: float32[6, 3] = mul(rows, unsqueeze)
      out: float32[3, 3] = sequence_sum(mul, splits)
      output y = out
    """
    assert fused(PACKED + packed, SPLITS)[0] == ["fused_bag"]


def test_a_factor_of_another_shape_is_no_weight():
    scaled = """
      input scale: float32[4]
      unsqueeze: float32[4, 1] = unsqueeze(scale, axis=(1,))
      mul: float32[N, 4, 3] = mul(rows, unsqueeze)
      out: float32[N, 3] = reduce_sum(mul, axis=1)
      output y = out
    """
    found, report = fused(LOOKED_UP + scaled)
    assert "fused_bag" not in found
    assert reasons(report) == ["scale is not one weight for each row"]


MERGE = """
  input ids: int64[N, 4]
  input g: float32[{given}]
  rows: float32[{rows}] = broadcast_to(g, shape=[{rows}])
  unique, total: int64[4*N], float32[4*N, 3] = merge_rows(ids, rows, shape=(9, 3))
  output unique = unique
  output total = total
"""


def test_one_row_for_a_bag_is_not_copied_for_each_id():
    found, _ = fused(MERGE.format(given="N, 1, 3", rows="N, 4, 3"))
    assert found == ["reshape", "merge_rows"]


def test_one_row_for_all_bags_is_not_copied_either():
    found, _ = fused(MERGE.format(given="1, 1, 3", rows="N, 4, 3"))
    assert found == ["reshape", "merge_rows"]


@pytest.mark.parametrize(("given", "why"), [("4, 3", "for each id"), ("N, 4, 1", "for all ids")])
def test_other_broadcasts_stay(given, why):
    found, report = fused(MERGE.format(given=given, rows="N, 4, 3"))
    assert found == ["broadcast_to", "merge_rows"]
    assert why in reasons(report)[0]


METHODS = [
    optim.SGD(0.1),
    optim.Momentum(0.1),
    optim.Adagrad(0.1),
    optim.Adam(0.1),
    optim.RMSProp(0.1),
    optim.SGD(0.1, clip_norm=0.01),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_a_bag_learns_the_same_whether_fused_or_not(method, mode):
    layer = nn.EmbeddingBag(9, 3, mode=mode, sparse=True)

    def step(ids, y):
        return {"loss": ops.reduce_mean(ops.square(layer(ids) - y))}

    inputs = {"ids": spec("N", 4, dtype="int64"), "y": spec("N", 3)}
    trained = method.minimize(trace(step, **inputs))
    after = []
    for as_written in (False, True):
        executor = Executor(trained, seed=2, optimized=as_written)
        for _ in range(3):
            executor.run({"ids": IDS, "y": np.ones((3, 3), np.float32)}, [])
        after.append(executor.scope.state())
        names = [step.op.type for step in executor.plan([]).steps]
        assert ("fused_bag" in names) == (not as_written)
        if not as_written and method.clip_norm is None:
            assert "broadcast_to" not in names
    for name, array in after[0].items():
        np.testing.assert_allclose(array, after[1][name], rtol=1e-5, atol=1e-6, err_msg=name)
