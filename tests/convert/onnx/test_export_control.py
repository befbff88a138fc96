"""Branches and loops."""

import numpy as np
import pytest

from noria import ops


@pytest.mark.parametrize("flag", [True, False])
def test_cond_becomes_if(flag, same_in_onnx):
    def fn(flag, x):
        return {"y": ops.cond(flag, lambda: ops.relu(x), lambda: x - 1.0)}

    x = np.array([-1, 2], np.float32)
    same_in_onnx(fn, {"x": ("N",)}, flag=np.array(flag), x=x)


@pytest.mark.parametrize("start", [0.5, 3.0, 100.0])
def test_while_becomes_loop_and_may_not_run_at_all(start, same_in_onnx):
    def fn(x, by):
        n, last = ops.while_loop(lambda c: c[1] > 1.0, lambda c: (c[0] + 1, c[1] / by), (0, x))
        return {"n": n, "last": last}

    same_in_onnx(fn, x=np.array(start, np.float32), by=np.array(2, np.float32))


@pytest.mark.parametrize("length", [0, 1, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_becomes_loop(length, reverse, same_in_onnx):
    def fn(x, w):
        def step(total, row):
            total = ops.tanh(total @ w + row)
            return total, (total, ops.reduce_sum(row))

        total, (all_, sums) = ops.scan(step, ops.zeros_like(w[0]), x, reverse=reverse)
        return {"total": total, "all": all_, "sums": sums}

    rng = np.random.default_rng(0)
    x = rng.normal(size=(length, 3)).astype(np.float32)
    w = rng.normal(size=(3, 3)).astype(np.float32)
    same_in_onnx(fn, {"x": ("T", 3)}, x=x, w=w)


def test_a_loop_inside_a_branch_uses_sizes_and_values_around_it(same_in_onnx):
    def fn(x, go):
        def sums():
            return ops.scan(lambda s, r: (s + r, None), ops.zeros_like(x[0]), x)[0]

        rows = ops.cast(ops.dim_value(dim=x.shape[0]), dtype="float32")
        return {"y": ops.cond(go, lambda: sums() / rows, lambda: ops.zeros_like(x[0]))}

    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    same_in_onnx(fn, {"x": ("N", 2)}, x=x, go=np.array(True))


def test_a_scan_without_slices_counts(same_in_onnx):
    def fn(x):
        last, each = ops.scan(lambda c, _: (c * 2.0, c), x, length=5)
        return {"last": last, "each": each}

    same_in_onnx(fn, x=np.array([1.0, 3.0], np.float32))
