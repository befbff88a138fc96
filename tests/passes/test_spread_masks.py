import numpy as np
import pytest

import noria.ops.pool  # noqa: F401  (importing a family registers its ops)
from noria.ir.interpret import run_program
from noria.passes.simplify import simplify
from tests.passes.programs import apply, program, types

HOW = "kernel=(3, 2), stride=(2, 2), padding=(1, 0, 1, 0)"
SIZES = "[N, 3, 4, 3]"


def gradient(how=HOW, pooled=SIZES, tail="output y = m", zero="0.0"):
    return program(f"""
      input x: float32[N, 3, 7, 6]
      input g: float32{pooled}
      fill: float32[] = fill(shape=(), value={zero})
      p: float32{pooled} = max_pool2d(x, {how})
      s: float32[N, 3, 7, 6] = max_pool2d_grad(x, p, g, {how})
      c: bool[N, 3, 7, 6] = greater(x, fill)
      m: float32[N, 3, 7, 6] = where(c, s, fill)
      {tail}
    """)


def same(before, after, rtol=0.0):
    """With ties, zeros, NaN and infinities among the numbers, to the last bit but for sums."""
    rng = np.random.default_rng(0)
    for special in (False, True):
        x = np.maximum(rng.integers(-3, 4, (2, 3, 7, 6)), 0).astype(np.float32)
        g = rng.standard_normal([2, *(int(n) for n in before.inputs["g"].shape[1:])])
        g = g.astype(np.float32)
        if special:
            x[0, 0, 2, 3], x[1, 1, 4, 4], x[1, 2] = np.nan, np.inf, np.nan
            g[0, 1, 0, 0] = np.inf
        with np.errstate(all="ignore"):
            want, got = (run_program(p, {"x": x, "g": g}, {})[0] for p in (before, after))
        for name, array in want.items():
            np.testing.assert_allclose(got[name], array, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize(
    ("how", "pooled"),
    [
        (HOW, SIZES),
        ("kernel=(2, 2), stride=(2, 2)", "[N, 3, 3, 3]"),
        ("kernel=(3, 3), stride=(1, 1)", "[N, 3, 5, 4]"),
    ],
)
def test_the_smaller_gradient_is_masked(how, pooled):
    before = gradient(how, pooled)
    after, _ = apply(simplify, before)
    kinds = [t for t in types(after) if t != "fill"]
    assert kinds == ["max_pool2d", "greater", "where", "max_pool2d_grad"]
    (where,) = (op for op in after.operators if op.type == "where")
    assert where.outputs[0].shape == before.inputs["g"].shape
    same(before, after)


def test_the_sum_for_a_bias_is_that_of_the_smaller_gradient():
    tail = "b: float32[3] = reduce_sum(m, axis=(0, 2, 3))\noutput y = m\noutput b = b"
    before = gradient(tail=tail)
    after, _ = apply(simplify, before)
    (total,) = (op for op in after.operators if op.type == "reduce_sum")
    assert total.operands[0].shape == before.inputs["g"].shape
    same(before, after, rtol=1e-5)


def test_other_sums_stay():
    tail = "b: float32[N, 3, 7] = reduce_sum(m, axis=3)\noutput b = b"
    before = gradient(tail=tail)
    after, _ = apply(simplify, before)
    (total,) = (op for op in after.operators if op.type == "reduce_sum")
    assert total.operands[0].ndim == 4 and total.operands[0].shape[2] == 7
    same(before, after, rtol=1e-5)


@pytest.mark.parametrize("tail", ["output y = m\noutput s = s", "output y = m\noutput c = c"])
def test_what_something_else_needs_stays(tail):
    after, report = apply(simplify, gradient(tail=tail))
    assert types(after)[-1] == "where"
    assert any("used elsewhere" in reason for _, reason in report.declined)


def test_a_mask_by_another_number_stays():
    after, _ = apply(simplify, gradient(zero="1.0"))
    assert types(after)[-1] == "where"
