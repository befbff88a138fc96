import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.passes.fuse_norm_pairs import fuse_norm_pairs
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

X, C = "float32[N, 4, 3, 3]", "float32[4]"
HEAD = f"""
  input x: {X}
  input y: {X}
  input out: {X}
  input g: {X}
  input scale: {C}
  input m: {C}
  input s: {C}
"""
ENDS = ["gx", "gs", "gb", "hx", "hs", "hb"]


def norm(x, grad, names="hx, hs, hb", mean="m"):
    return f"{names}: {X}, {C}, {C} = batch_norm_grad({x}, scale, {mean}, s, {grad})"


RELU = f"gx, gs, gb, gr: {X}, {C}, {C}, {X} = batch_norm_relu_grad(x, scale, m, s, out, g, residual=true)"  # noqa: E501
FIRST = norm("x", "g", "gx, gs, gb")


def fused(*lines, outputs=ENDS):
    before = program("\n  ".join([HEAD, *lines, *(f"output {n} = {n}" for n in outputs)]))
    after, report = apply(fuse_norm_pairs, before)
    assert_same_numbers(before, after, exact=False)
    return after, report


def names(values):
    return [None if v is None else v.name for v in values]


def test_the_pictures_are_true():
    check_rule(fuse_norm_pairs)


def test_two_gradients_of_one_are_read_together():
    after, report = fused(FIRST, norm("y", "g"))
    (op,) = after.operators
    assert op.type == "batch_norm_pair_grad" and len(report.fired) == 1
    assert names(op.inputs) == ["x", "scale", "m", "s", "y", "scale", "m", "s", "g", None, None]
    assert names(op.outputs) == ENDS


def test_a_mask_and_a_second_gradient_go_along():
    after, _ = fused(RELU.replace("out, g,", "out, g, y,"), norm("y", "gr"))
    (op,) = after.operators
    assert names(op.inputs[8:]) == ["g", "out", "y"]


def test_of_three_two_are_a_pair():
    after, _ = fused(FIRST, norm("y", "g"), norm("out", "g", "a, b, c"), outputs=[*ENDS, "a"])
    assert types(after) == ["batch_norm_pair_grad", "batch_norm_grad"]


def test_four_are_two_pairs():
    more = norm("out", "g", "a, b, c"), norm("g", "g", "d, e, f")
    after, _ = fused(FIRST, norm("y", "g"), *more, outputs=[*ENDS, "a", "d"])
    assert types(after) == ["batch_norm_pair_grad"] * 2


@pytest.mark.parametrize(
    ("lines", "outputs", "reason"),
    [
        ([RELU, norm("y", "gr")], [*ENDS, "gr"], "used elsewhere"),
        ([FIRST, f"z: {X} = exp(y)", norm("z", "g")], ENDS, "made later"),
        ([FIRST, norm("y", "g", mean="gs")], ENDS, "made later"),
        ([RELU, norm("gr", "gr")], ENDS, "made later"),
        ([FIRST, norm("g", "y")], ENDS, "used otherwise"),
    ],
)
def test_what_stays_is_told(lines, outputs, reason):
    after, report = fused(*lines, outputs=outputs)
    assert "batch_norm_pair_grad" not in types(after)
    assert reason in reasons(report)[0]


def test_channels_of_other_axes_stay_apart():
    head = HEAD.replace("[N, 4, 3, 3]", "[4, 4]")
    lines = [FIRST, norm("y", "g").replace(", g)", ", g, axis=0)")]
    text = "\n  ".join([head, *(x.replace("[N, 4, 3, 3]", "[4, 4]") for x in lines)])
    after, report = apply(fuse_norm_pairs, program(text + "\n output gx = gx\n output hx = hx"))
    assert types(after) == ["batch_norm_grad"] * 2 and "different axes" in reasons(report)[0]


def test_other_dtypes_stay_apart():
    lines = [FIRST, norm("h", "g").replace(f"hx, hs, hb: {X}", "hx, hs, hb: float16[N, 4, 3, 3]")]
    text = "\n  ".join([HEAD, "input h: float16[N, 4, 3, 3]", *lines])
    after, report = apply(fuse_norm_pairs, program(text + "\n output gx = gx\n output hx = hx"))
    assert types(after) == ["batch_norm_grad"] * 2 and "dtypes" in reasons(report)[0]


OUTS = ("b, c, d, e, f", "y, m2, s2, u, v")
BRANCH = f"{OUTS[0]}: {X}, {C}, {C}, {C}, {C} = batch_norm(x, scale, m, m, s, training=true)"
ADDED = f"{OUTS[1]}: {X}, {C}, {C}, {C}, {C} = batch_norm_relu(out, scale, m, m, s, b)"
RESULTS = ["d", "e", "f", "y", "u"]


def test_what_is_added_is_normalised_by_the_one_that_adds_it():
    how = ", momentum=0.25, epsilon=0.5)"
    head, branch = HEAD.replace("input y", "input y2"), BRANCH.replace(")", how)
    lines = [head, branch, ADDED, *(f"output {n} = {n}" for n in RESULTS)]
    before = program("\n  ".join(lines))
    after, report = apply(fuse_norm_pairs, before)
    assert_same_numbers(before, after, exact=False)
    first, second = after.operators
    assert first.type == "batch_norm_factors" and first.attrs["momentum"] == 0.25
    assert names(second.inputs[5:]) == ["x", "c", "b.factors"] and len(report.fired) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text + "\n output b = b", "used elsewhere"),
        (lambda text: text.replace("s, b)", "s, b, axis=2)").replace("3, 3]", "4, 4]"), "axes"),
        (lambda text: text.replace("[N, 4, 3, 3]", "[N, 4]"), "matrices"),
    ],
)
def test_branches_that_stay_are_told(change, reason):
    text = "\n  ".join([HEAD.replace("input y", "input y2"), BRANCH, ADDED, "output y = y"])
    after, report = apply(fuse_norm_pairs, program(change(text)))
    assert types(after) == ["batch_norm", "batch_norm_relu"] and reason in reasons(report)[0]


def test_a_branch_at_test_time_stays():
    branch = f"b: {X} = batch_norm(x, scale, m, m, s)"
    text = "\n  ".join([HEAD.replace("input y", "input y2"), branch, ADDED, "output y = y"])
    after, report = apply(fuse_norm_pairs, program(text))
    assert types(after) == ["batch_norm", "batch_norm_relu"] and not report.declined


class Block(nn.Module):
    """Of a residual network, whose branch changes the channels."""

    def __init__(self, before, small, after):
        self.down = nn.Conv2d(before, small, 1, bias=False)
        self.up, self.last = nn.Conv2d(small, after, 1, bias=False), nn.BatchNorm2d(after)
        self.branch, self.norm = nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)

    def __call__(self, x):
        inside = self.last(self.up(ops.relu(self.down(x))))
        return ops.relu(ops.add(inside, self.norm(self.branch(x))))


def trained(precision, passes=True, steps=3):
    blocks = nn.Sequential(Block(3, 64, 128), Block(128, 64, 64), Block(64, 64, 64))
    forward = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(blocks(x)))}, x=noria.spec("N", 3, 7, 6)
    )
    training = optim.SGD(0.01).minimize(forward)
    x = np.random.default_rng(0).standard_normal((3, 3, 7, 6)).astype(np.float32)
    executor = noria.Executor(training, seed=0, precision=precision, optimized=not passes)
    return training, [executor.run({"x": x}, ["loss"])["loss"] for _ in range(steps)]


@pytest.mark.parametrize(("precision", "tol"), [("bf16", 5e-2), ("float32", 1e-4)])
def test_branches_of_a_residual_network_take_it_and_learn_the_same(precision, tol):
    training, losses = trained(precision)
    kinds = types(optimize(training, precision))
    assert kinds.count("batch_norm_pair_grad") == kinds.count("batch_norm_factors") == 3
    _, want = trained("float32", passes=False)
    np.testing.assert_allclose(losses, want, rtol=tol)
    assert losses[-1] < losses[0]
