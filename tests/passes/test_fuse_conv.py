import pytest

from noria.passes.fuse_conv import fuse_conv
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

HEAD = """
  input x: float32[N, 4, 6, 6]
  input w: float32[4, 2, 3, 3]
  input w2: float32[4, 4, 1, 1]
  input b: float32[4]
  input c: float32[4, 1, 1]
  input r: float32[N, 4, 6, 6]
"""
OUT = "float32[N, 4, 6, 6]"
CONV = f"h: {OUT} = conv2d(x, w, padding=1, groups=2)"
BIASED = f"h: {OUT} = conv2d(x, w, b, padding=1, groups=2)"


def fused(*lines, head=HEAD, transform=fuse_conv):
    last = lines[-1].split(":")[0].strip()
    before = program("\n  ".join([head, *lines, f"output y = {last}"]))
    after, report = apply(transform, before)
    assert_same_numbers(before, after, exact=False)
    return after, report


@pytest.mark.parametrize("conv", [CONV, BIASED])
@pytest.mark.parametrize("call", ["relu(h)", "silu(h)", "clip(h, low=0.0, high=6.0)"])
def test_an_activation_is_taken_along(conv, call):
    after, _ = fused(conv, f"y: {OUT} = {call}")
    (operator,) = after.operators
    assert operator.type == "fused_conv2d"
    assert operator.attrs["padding"] == 1 and operator.attrs["groups"] == 2


@pytest.mark.parametrize("operands", ["h, r", "r, h"])
def test_a_residual_is_taken_along_with_its_activation(operands):
    after, _ = fused(BIASED, f"s: {OUT} = add({operands})", f"y: {OUT} = relu(s)")
    (operator,) = after.operators
    assert operator.attrs["activation"] == "relu" and operator.inputs[3].name == "r"


def test_a_residual_without_activation_is_taken_along():
    after, _ = fused(CONV, f"s: {OUT} = add(h, r)")
    assert types(after) == ["fused_conv2d"] and after.operators[0].attrs["activation"] is None


def test_of_two_convolutions_that_are_added_one_takes_the_other():
    shortcut = f"k: {OUT} = conv2d(x, w2)"
    after, _ = fused(CONV, shortcut, f"s: {OUT} = add(h, k)", f"y: {OUT} = relu(s)")
    assert types(after) == ["conv2d", "fused_conv2d"]


@pytest.mark.parametrize("operands", ["h, k", "k, h"])
def test_of_two_convolutions_that_are_added_the_one_used_once_takes_the_other(operands):
    shortcut, other = f"k: {OUT} = conv2d(x, w2)", f"z: {OUT} = exp(k)"
    last = [f"s: {OUT} = add({operands})", f"y: {OUT} = mul(s, z)"]
    after, _ = fused(shortcut, CONV, other, *last)
    assert sorted(types(after)) == ["conv2d", "exp", "fused_conv2d", "mul"]
    (added,) = [op for op in after.operators if op.type == "fused_conv2d"]
    assert added.inputs[3].name == "k"


def test_two_residuals_are_one_too_many():
    after, _ = fused(CONV, f"s: {OUT} = add(h, r)", f"t: {OUT} = add(s, x)")
    assert types(after) == ["fused_conv2d", "add"]


@pytest.mark.parametrize("shape", ["[4, 1, 1]", "[1, 4, 1, 1]"])
def test_one_number_for_each_channel_is_a_bias(shape):
    head = HEAD.replace("input c: float32[4, 1, 1]", f"input c: float32{shape}")
    after, _ = fused(CONV, f"s: {OUT} = add(h, c)", head=head)
    assert types(after) == ["reshape", "conv2d"]


def test_a_second_bias_is_no_residual():
    after, report = fused(BIASED, f"s: {OUT} = add(h, c)")
    assert types(after) == ["conv2d", "add"]
    assert reasons(report) == ["c is broadcast"]


def test_something_else_that_broadcasts_is_declined_with_the_reason():
    head = HEAD.replace("input c: float32[4, 1, 1]", "input c: float32[6, 6]")
    after, report = fused(CONV, f"s: {OUT} = add(h, c)", head=head)
    assert types(after) == ["conv2d", "add"]
    assert reasons(report) == ["c is not one number for each channel", "c is broadcast"]


def test_a_convolution_that_others_need_is_not_hidden():
    after, report = fused(CONV, f"y: {OUT} = relu(h)", f"z: {OUT} = mul(h, y)")
    assert types(after) == ["conv2d", "relu", "mul"]
    assert reasons(report) == ["value h is used elsewhere"]


@pytest.mark.parametrize(("n", "sizes"), [(1, "6"), (3, "6, 6, 6")])
def test_other_ranks_get_their_bias_and_nothing_more(n, sizes):
    kernel, ones = ", ".join(["3"] * n), ", ".join(["1"] * n)
    inner = ", ".join(["4"] * n)
    head = f"""
      input x: float32[N, 2, {sizes}]
      input w: float32[3, 2, {kernel}]
      input c: float32[3, {ones}]
    """
    out = f"float32[N, 3, {inner}]"
    lines = (f"h: {out} = conv{n}d(x, w)", f"s: {out} = add(h, c)", f"y: {out} = relu(s)")
    after, _ = fused(*lines, head=head)
    assert types(after) == ["reshape", f"conv{n}d", "relu"]
