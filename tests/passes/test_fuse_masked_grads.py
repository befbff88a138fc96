import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.passes.fuse_masked_grads import WHOLE, fuse_masked_grads
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, program, reasons, types


def back(dtype="bfloat16", outs=64, taps=1, how="", grads="more, part", tail="", small=4):
    x, c = f"{dtype}[N, 64, 4, 4]", "float32[64]"
    return program(f"""
      input g: {dtype}[N, {outs}, {small}, {small}]
      input w: {dtype}[{outs}, 64, {taps}, {taps}]
      input more: {x}
      input x: {x}
      input scale: {c}
      input m: {c}
      input s: {c}
      input mask: uint8[N, 8, 4, 4]
      part: {x} = conv2d_input_grad(g, w, sizes=(4, 4){how})
      gx, gs, gb: {x}, {c}, {c} = batch_norm_relu_grad(x, scale, m, s, mask, {grads})
      {tail}
      output gx = gx
      output gs = gs
      output gb = gb
    """)


def test_the_pictures_are_true():
    check_rule(fuse_masked_grads, tol=2e-2)  # halves are rounded once less


def test_the_sum_gets_a_name_if_it_had_none():
    after, report = apply(fuse_masked_grads, back(grads="part, more"))
    first, second = after.operators
    assert [first.type, second.type] == ["masked_input_grad", "batch_norm_grad"]
    assert [v.name for v in first.operands] == ["g", "w", "more", "mask"]
    assert first.outputs[0].name == "part.masked" and len(report.fired) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": "float32"}, "not all is bfloat16"),
        ({"outs": WHOLE + 16}, "multiples"),
        ({"taps": 3, "how": ", padding=1"}, "more than one tap"),
        ({"how": ", stride=2", "small": 2}, "strided"),
        ({"tail": "output part = part"}, "used elsewhere"),
    ],
)
def test_what_stays_is_told(changes, reason):
    after, report = apply(fuse_masked_grads, back(**changes))
    assert types(after) == ["conv2d_input_grad", "batch_norm_relu_grad"]
    assert reason in reasons(report)[0]


def test_one_gradient_alone_stays():
    after, report = apply(fuse_masked_grads, back(grads="part"))
    assert types(after) == ["conv2d_input_grad", "batch_norm_relu_grad"] and not report.declined


class Block(nn.Module):
    def __init__(self, channels, small):
        self.down = nn.Conv2d(channels, small, 1, bias=False)
        self.norm = nn.BatchNorm2d(small)
        self.up = nn.Conv2d(small, channels, 1, bias=False)
        self.last = nn.BatchNorm2d(channels)

    def __call__(self, x):
        inside = ops.relu(self.norm(self.down(x)))
        return ops.relu(ops.add(self.last(self.up(inside)), x))


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Conv2d(3, 2 * WHOLE, 3, bias=False)
        self.blocks = nn.Sequential(*(Block(2 * WHOLE, WHOLE) for _ in range(3)))
        self.head = nn.Linear(2 * WHOLE, 4)

    def __call__(self, x):
        return self.head(ops.reduce_mean(self.blocks(self.first(x)), axis=(2, 3)))


def trained(steps=3, **how):
    net = Net()
    forward = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(net(x)))}, x=noria.spec("N", 3, 7, 6)
    )
    training = optim.SGD(0.01).minimize(forward)
    x = np.random.default_rng(0).standard_normal((3, 3, 7, 6)).astype(np.float32)
    executor = noria.Executor(training, seed=0, **how)
    return training, [executor.run({"x": x}, ["loss"])["loss"] for _ in range(steps)]


def test_a_residual_network_takes_it_between_its_blocks_and_learns_the_same():
    training, losses = trained(precision="bf16")
    kinds = types(optimize(training, "bf16"))
    assert kinds.count("masked_input_grad") == 2
    assert "masked_input_grad" not in types(optimize(training))  # in float32
    _, want = trained(optimized=True)  # no pass runs
    np.testing.assert_allclose(losses, want, rtol=5e-2)
    assert losses[-1] < losses[0]
