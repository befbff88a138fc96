import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.passes.fuse_taken import PATCH, SEEN, fuse_taken
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, program, reasons, types


def back(ins=1, sizes=(6, 6), how="kernel=2", conv="kernel=(3, 3)", small=2, tail=""):
    high, wide = sizes
    h, w = high - 2, wide - 2
    return program(f"""
      input x: float32[N, {ins}, {high}, {wide}]
      input g: float32[N, 8, {small}, {small}]
      input places: uint8[N, 8, {small}, {small}]
      s: float32[N, 8, {h}, {w}] = max_pool2d_spread(g, places, sizes=({h}, {w}), {how})
      gw: float32[8, {ins}, 3, 3] = conv2d_weight_grad(x, s, {conv})
      {tail}
      output gw = gw
    """)


def test_the_pictures_are_true():
    check_rule(fuse_taken)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tail": "output s = s"}, "used elsewhere"),
        ({"ins": SEEN // 9 + 1}, "see more than"),
        ({"how": "kernel=2, stride=1", "small": 3}, "close together"),
        ({"how": "kernel=2, dilation=2, stride=2", "small": 1}, "dilated"),
    ],
)
def test_what_stays_is_told(changes, reason):
    after, report = apply(fuse_taken, back(**changes))
    assert types(after)[0] == "max_pool2d_spread"
    assert reason in reasons(report)[0]


def by_input(ins=4, kernel=4, how="kernel=2", small=2, tail=""):
    size = 3 + kernel
    return program(f"""
      input w: float32[8, {ins}, {kernel}, {kernel}]
      input g: float32[N, 8, {small}, {small}]
      input places: uint8[N, 8, {small}, {small}]
      s: float32[N, 8, 4, 4] = max_pool2d_spread(g, places, sizes=(4, 4), {how})
      gx: float32[N, {ins}, {size}, {size}] = conv2d_input_grad(s, w, sizes=({size}, {size}))
      {tail}
      output gx = gx
    """)


def test_the_gradient_by_the_input_takes_places_too():
    after, _ = apply(fuse_taken, by_input())
    assert types(after) == ["taken_input_grad"]
    after, _ = apply(fuse_taken, by_input(tail="output s = s"))
    assert types(after) == ["max_pool2d_spread", "taken_input_grad"]


def test_both_gradients_leave_nothing_spread():
    both = by_input(
        tail="""input x: float32[N, 4, 7, 7]
      gw: float32[8, 4, 4, 4] = conv2d_weight_grad(x, s, kernel=(4, 4))
      output gw = gw"""
    )
    after, _ = apply(fuse_taken, both)
    assert sorted(types(after)) == ["taken_input_grad", "taken_weight_grad"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ins": PATCH // 16 + 1}, "see more than"),
        ({"kernel": 3}, "fewer than"),
        ({"how": "kernel=2, padding=1", "small": 3}, "border"),
        ({"how": "kernel=2, stride=1", "small": 3}, "close together"),
    ],
)
def test_what_stays_of_gradients_by_the_input_is_told(changes, reason):
    after, report = apply(fuse_taken, by_input(**changes))
    assert types(after) == ["max_pool2d_spread", "conv2d_input_grad"]
    assert reason in reasons(report)[0]


class Net(nn.Module):
    def __init__(self):
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.end = nn.Sequential(nn.Conv2d(6, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(5 * 2 * 2, 3)

    def __call__(self, x):
        return self.head(self.end(self.body(x)))


def trained(steps=3, **how):
    net = Net()
    forward = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(net(x)))}, x=noria.spec("N", 1, 12, 12)
    )
    training = optim.SGD(0.1).minimize(forward)
    x = np.random.default_rng(0).standard_normal((3, 1, 12, 12)).astype(np.float32)
    executor = noria.Executor(training, seed=0, **how)
    return training, [executor.run({"x": x}, ["loss"])["loss"] for _ in range(steps)]


def test_a_network_takes_it_for_its_first_layer_and_learns_the_same():
    training, losses = trained()
    kinds = types(optimize(training))
    assert kinds.count("taken_weight_grad") == 1 and kinds.count("max_pool2d_spread") == 1
    _, want = trained(optimized=True)  # no pass runs
    np.testing.assert_allclose(losses, want, rtol=1e-5)
    assert losses[-1] < losses[0]
