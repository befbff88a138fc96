import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.passes.fuse_pooled_norm import fuse_pooled_norm
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, program, reasons, types

VECTORS = "float32[16], float32[16], float32[16], float32[16]"
BOTH = "float32[N, 16, 3, 3], uint8[N, 16, 3, 3]"
MASKED = {"norm": "x, s, b, m, v, _, mask=true", "mask": ", k", "bits": ", uint8[N, 2, 6, 6]"}
STATE = """
      state s: float32[16] = fill(value=1.0) trainable
      state b: float32[16] = fill(value=0.0) trainable
      state m: float32[16] = fill(value=0.0)
      state v: float32[16] = fill(value=1.0)
"""


def front(norm="x, s, b, m, v, _", dtype="float32", how="kernel=2", mask="", bits="", tail=""):
    return program(f"""
      input x: {dtype}[N, 16, 6, 6]
      input r: {dtype}[N, 16, 6, 6]{STATE}
      c, bm, bi, nm, nv{mask}: {dtype}[N, 16, 6, 6], {VECTORS}{bits} = batch_norm_relu({norm})
      {tail}
      y, p: {BOTH.replace("float32", dtype)} = max_pool2d_places(c, {how})
      output y = y
      output p = p
    """)


def back(dtype="float32", how="kernel=2", small=3, axis="", tail=""):
    return program(f"""
      input x: {dtype}[N, 16, 6, 6]
      input g: float32[N, 16, {small}, {small}]
      input p: uint8[N, 16, {small}, {small}]{STATE}
      c: float32[N, 16, 6, 6] = max_pool2d_spread(g, p, sizes=(6, 6), {how})
      gx, gs, gb: {dtype}[N, 16, 6, 6], float32[16], float32[16] = batch_norm_grad(x, s, m, v, c)
      {tail}
      output gx = gx
    """)


def test_the_pictures_are_true():
    check_rule(fuse_pooled_norm)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tail": "output c = c"}, "used elsewhere"),
        ({"tail": "z: float32[16] = relu(bm)\noutput z = z"}, "used before"),
        ({"norm": "x, s, b, m, v, r"}, "residual"),
        (MASKED, "mask"),
        ({"dtype": "float16"}, "of float16"),
        ({"how": "kernel=9, stride=2, padding=4"}, "large windows"),
    ],
)
def test_what_stays_is_told(changes, reason):
    after, report = apply(fuse_pooled_norm, front(**changes))
    assert types(after)[0] == "batch_norm_relu"
    assert reason in reasons(report)[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tail": "output c = c"}, "used elsewhere"),
        ({"dtype": "bfloat16"}, "of bfloat16"),
        ({"how": "kernel=2, stride=5", "small": 1}, "far apart"),
    ],
)
def test_what_stays_of_the_gradient_is_told(changes, reason):
    after, report = apply(fuse_pooled_norm, back(**changes))
    assert types(after) == ["max_pool2d_spread", "batch_norm_grad"]
    assert reason in reasons(report)[0]


class Net(nn.Module):
    def __init__(self):
        conv = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.body = nn.Sequential(conv, nn.BatchNorm2d(16), nn.ReLU(), pool, nn.Flatten())
        self.head = nn.Linear(16 * 6 * 6, 3)

    def __call__(self, x):
        return self.head(self.body(x))


def trained(steps=3, **how):
    net = Net()
    forward = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(net(x)))}, x=noria.spec("N", 1, 12, 12)
    )
    training = optim.SGD(1e-3).minimize(forward)
    x = np.random.default_rng(0).standard_normal((3, 1, 12, 12)).astype(np.float32)
    executor = noria.Executor(training, seed=0, **how)
    return training, [executor.run({"x": x}, ["loss"])["loss"] for _ in range(steps)]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_network_takes_both_for_its_first_layer_and_learns_the_same(precision):
    training, losses = trained(precision=precision)
    kinds = types(optimize(training, precision))
    assert {"pooled_batch_norm", "pooled_batch_norm_grad"} <= set(kinds)
    assert not {"batch_norm_relu", "max_pool2d_spread"} & set(kinds)
    _, want = trained(optimized=True)  # no pass runs
    np.testing.assert_allclose(losses, want, rtol=1e-5 if precision == "float32" else 2e-2)
    assert losses[-1] < losses[0]
