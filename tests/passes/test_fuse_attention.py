import numpy as np
import pytest

from noria.grad import append_backward
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.nn.layers import Linear
from noria.nn.module import Module
from noria.passes.fuse_attention import SWAP, fuse_attention
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, assert_same_numbers, program, types

HEADS = "float32[2, 3, 4, 5]"


class Turned(Module):
    """Attention as PyTorch users write it: heads brought to the front and back."""

    def __init__(self, masked=False):
        self.qkv = Linear(6, 18)
        self.masked = masked

    def __call__(self, x):
        parts = o.split(self.qkv(x), num=3, axis=2)
        shape = (*x.shape[:2], 2, 3)
        q, k, v = (o.transpose(o.reshape(p, shape=shape), perm=SWAP) for p in parts)
        mask = np.tri(4, dtype=bool) if self.masked else None
        out, _ = o.attention(q, k, v, mask, causal=True)
        return o.reshape(o.transpose(out, perm=SWAP), shape=x.shape)


def test_its_picture_is_true():
    check_rule(fuse_attention)


@pytest.mark.parametrize("masked", [False, True])
def test_no_transpose_is_left_of_a_training_step(masked):
    model = Turned(masked)
    before = trace(lambda x: {"loss": o.reduce_sum(o.square(model(x)))}, x=spec(2, 4, 6))
    before, grads = append_backward(before)
    before.outputs.update(grads)
    before.block.outputs = list(before.outputs.values())
    after = optimize(before)
    assert "transpose" in types(before) and "transpose" not in types(after)
    for op in after.operators:
        if op.type.startswith("attention"):
            assert op.attrs["layout"] == "nthd" and op.attrs["causal"]
    assert_same_numbers(before, after, exact=False)


PRODUCTS = """
  input x: float32[2, 4, 6]
  {states}
  a: float32[2, 4, 6] = linear(x, q{bias})
  b: float32[2, 4, 6] = linear(x, k{bias})
  c: float32[2, 4, 6] = linear({y}, v{last})
  d: float32[2, 4, 2, 3] = reshape(a, shape=[2, 4, 2, 3])
  e: float32[2, 4, 2, 3] = reshape(b, shape=[2, 4, 2, 3])
  f: float32[2, 4, 2, 3] = reshape(c, shape=[2, 4, 2, 3])
  out, log_sum: float32[2, 4, 2, 3], float32[2, 2, 4] = attention(d, e, f, layout="nthd")
  output y = out
"""
STATES = "\n  ".join(
    f"state {n}: float32[6, 6] = normal(mean=0.0, std=1.0)" for n in ("q", "k", "v")
)
BIAS = STATES + "\n  state z: float32[6] = normal(mean=0.0, std=1.0)"


def joined(**how):
    given = {"states": STATES, "bias": "", "last": "", "y": "x"} | how
    before = program(PRODUCTS.format(**given))
    after, report = apply(fuse_attention, before)
    assert_same_numbers(before, after, exact=False)
    return types(after), [reason for _, reason in report.declined]


def test_three_products_of_one_value_become_one():
    assert joined()[0] == ["concat", "linear", "reshape", "self_attention"]
    kinds, _ = joined(states=BIAS, bias=", z", last=", z")
    assert sorted(kinds) == ["concat", "concat", "linear", "reshape", "self_attention"]


def test_what_cannot_be_one_product_stays_apart():
    kinds, reasons = joined(states=BIAS, bias=", z")
    assert kinds.count("linear") == 3 and "some have a bias" in reasons[0]
    assert joined(states=STATES + "\n  input w: float32[2, 4, 6]", y="w")[0].count("linear") == 3


def test_weights_that_learn_stay_apart():
    states = STATES.replace("std=1.0)", "std=1.0) trainable", 1)
    text = PRODUCTS.format(states=states, bias="", last="", y="x")
    text += "  n: float32[6, 6] = neg(q)\n  update q = n\n"
    after, report = apply(fuse_attention, program(text))
    assert types(after).count("linear") == 3
    assert "changes" in report.declined[0][1]
