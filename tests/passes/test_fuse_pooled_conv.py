import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.passes.fuse_pooled_conv import fuse_pooled_conv
from noria.passes.fuse_taken import SEEN
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, program, reasons, types


def front(ins=1, how="kernel=2", conv='activation="relu"', small=2, given="x, w, b", tail=""):
    pooled = f"N, 8, {small}, {small}"
    return program(f"""
      input x: float32[N, {ins}, 6, 6]
      input r: float32[N, 8, 4, 4]
      state w: float32[8, {ins}, 3, 3] = fill(value=0.0) trainable
      state b: float32[8] = fill(value=0.0) trainable
      c: float32[N, 8, 4, 4] = fused_conv2d({given}, {conv})
      y, p: float32[{pooled}], uint8[{pooled}] = max_pool2d_places(c, {how})
      {tail}
      output y = y
      output p = p
    """)


def test_the_pictures_are_true():
    check_rule(fuse_pooled_conv)


def test_bias_and_activation_go_along():
    after, _ = apply(fuse_pooled_conv, front())
    assert types(after) == ["pooled_conv2d"]
    (op,) = after.operators
    assert [v.name for v in op.operands] == ["x", "w", "b"]
    assert op.attrs["activation"] == "relu"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tail": "output c = c"}, "used elsewhere"),
        ({"ins": SEEN // 9 + 1}, "see more than"),
        ({"given": "x, w, b, r"}, "residual"),
        ({"conv": 'activation="tanh"'}, "no bound"),
        ({"how": "kernel=2, stride=1", "small": 3}, "overlap"),
        ({"how": "kernel=4", "small": 1}, "more than 9 elements"),
        ({"how": "kernel=2, padding=1", "small": 3}, "border"),
        ({"how": "kernel=3, ceil_mode=true"}, "border"),
        ({"how": "kernel=2, dilation=2", "small": 1}, "dilated"),
    ],
)
def test_what_stays_is_told(changes, reason):
    after, report = apply(fuse_pooled_conv, front(**changes))
    assert types(after)[0] == "fused_conv2d"
    assert reason in reasons(report)[0]


class Net(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(6 * 5 * 5, 3)

    def __call__(self, x):
        return self.head(self.body(x))


def trained(steps=3, **how):
    net = Net()
    forward = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(net(x)))}, x=noria.spec("N", 1, 12, 12)
    )
    training = optim.SGD(0.01).minimize(forward)
    x = np.random.default_rng(0).standard_normal((3, 1, 12, 12)).astype(np.float32)
    executor = noria.Executor(training, seed=0, **how)
    return training, [executor.run({"x": x}, ["loss"])["loss"] for _ in range(steps)]


def test_a_network_takes_it_for_its_first_layer_and_learns_the_same():
    training, losses = trained()
    kinds = types(optimize(training))
    assert "pooled_conv2d" in kinds and "fused_conv2d" not in kinds
    _, want = trained(optimized=True)  # no pass runs
    np.testing.assert_allclose(losses, want, rtol=1e-5)
    assert losses[-1] < losses[0]
