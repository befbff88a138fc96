import pytest

import noria.ops.library  # noqa: F401  (registers every op)
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.nn.layers import BatchNorm2d, Conv2d
from noria.nn.module import Module, Sequential
from noria.optim.optimizer import SGD
from noria.passes.fuse_batch_norm import fuse_batch_norm
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

X, C = "float32[N, 4, 3, 3]", "float32[4]"
HEAD = f"""
  input x: {X}
  input r: {X}
  input g: {X}
  input h: {X}
  input scale: {C}
  input bias: {C}
  input mean: {C}
  input var: {C}
  zero: float32[] = fill(shape=(), value=0.0)
"""
OUTPUTS = f"n, m, s, m2, v2: {X}, {C}, {C}, {C}, {C}"
NORM = f"{OUTPUTS} = batch_norm(x, scale, bias, mean, var, training=true"
MASK = ["p: bool[N, 4, 3, 3] = greater(r, zero)", f"w: {X} = where(p, g, zero)"]
GRAD = f"gx, gs, gb: {X}, {C}, {C} = batch_norm_grad(x, scale, mean, var, w)"


def fused(*lines, outputs=("y",), head=HEAD):
    ends = [f"output {n} = {n}" for n in outputs]
    before = program("\n  ".join([head, *lines, *ends]))
    after, report = apply(fuse_batch_norm, before)
    assert_same_numbers(before, after, exact=False)
    return after, report


def names(values):
    return [None if v is None else v.name for v in values]


def norm(attrs=""):
    return f"{NORM}{attrs})"


def test_the_pictures_are_true():
    check_rule(fuse_batch_norm)


def test_a_relu_is_taken_along_with_the_attributes():
    after, _ = fused(norm(", momentum=0.3, epsilon=0.01"), f"y: {X} = relu(n)", outputs=("y", "m2"))
    (op,) = after.operators
    assert op.type == "batch_norm_relu" and op.inputs[5] is None
    assert (op.attrs["momentum"], op.attrs["epsilon"]) == (0.3, 0.01)


@pytest.mark.parametrize("operands", ["n, r", "r, n"])
def test_a_residual_is_taken_along_from_either_side(operands):
    after, _ = fused(norm(), f"a: {X} = add({operands})", f"y: {X} = relu(a)")
    (op,) = after.operators
    assert op.type == "batch_norm_relu" and op.inputs[5].name == "r"


def test_of_two_batch_norms_that_are_added_one_is_the_residual_of_the_other():
    second = norm().replace("n, m, s, m2, v2", "k, m3, s3, m4, v4").replace("(x,", "(r,")
    after, _ = fused(norm(), second, f"a: {X} = add(n, k)", f"y: {X} = relu(a)")
    assert types(after) == ["batch_norm", "batch_norm_relu"]


@pytest.mark.parametrize(
    "lines",
    [
        [norm(), f"y: {X} = relu(n)", f"z: {X} = mul(n, y)"],
        [norm(), f"a: {X} = add(n, r)", f"y: {X} = relu(a)", f"z: {X} = mul(a, y)"],
        [norm(), f"a: {X} = add(n, n)", f"z: {X} = relu(a)"],
        [norm(), f"a: {X} = add(n, mean4)", f"z: {X} = relu(a)"],
        [f"n: {X} = batch_norm(x, scale, bias, mean, var)", f"z: {X} = relu(n)"],
    ],
    ids=["of another use", "of another use of the sum", "to itself", "broadcast", "the test form"],
)
def test_it_is_left_alone_where_fusing_would_be_wrong(lines):
    wide = "mean4: float32[4, 1, 1] = reshape(mean, shape=(4, 1, 1))"
    after, _ = fused(wide, *lines, outputs=("z",))
    assert "batch_norm" in types(after) and "batch_norm_relu" not in types(after)


def test_statistics_used_before_the_relu_keep_it_apart():
    lines = [norm(), f"b: {X} = batch_norm(r, scale, bias, m, var)", f"a: {X} = add(n, b)"]
    after, report = fused(*lines, f"y: {X} = relu(a)")
    assert "batch_norm_relu" not in types(after)
    assert reasons(report) == ["its statistics are used before the ReLU"]


def test_a_mask_goes_into_the_gradient():
    after, _ = fused(*MASK, GRAD, outputs=("gx", "gs", "gb"))
    (op,) = after.operators
    assert op.type == "batch_norm_relu_grad" and not op.attrs["residual"]
    assert names(op.inputs[4:]) == ["r", "g", None]


def test_a_sum_of_two_gradients_goes_along():
    total = f"t: {X} = add(g, h)"
    after, _ = fused(MASK[0], total, MASK[1].replace("g,", "t,"), GRAD, outputs=("gx", "gs"))
    (op,) = after.operators
    assert names(op.inputs[4:]) == ["r", "g", "h"]


def test_two_gradients_of_one_masked_gradient_mask_it_once():
    second = GRAD.replace("gx, gs, gb", "gx2, gs2, gb2").replace("(x,", "(h,")
    after, _ = fused(*MASK, GRAD, second, outputs=("gx", "gx2", "gs2"))
    assert types(after) == ["batch_norm_relu_grad", "batch_norm_grad"]
    assert after.operators[0].attrs["residual"]


@pytest.mark.parametrize(
    "mask",
    [
        ["p: bool[N, 4, 3, 3] = less(r, zero)", MASK[1]],
        ["p: bool[N, 4, 3, 3] = greater(r, g)", MASK[1]],
        [MASK[0], f"w: {X} = where(p, g, h)"],
        [MASK[0], f"w: {X} = where(p, zero, zero)"],
    ],
)
def test_other_masks_are_left_alone(mask):
    after, _ = fused(*mask, GRAD, outputs=("gx",))
    assert "batch_norm_relu_grad" not in types(after)


def test_a_masked_gradient_needed_before_stays():
    early = f"z: {X} = exp(w)"
    last = GRAD.replace("(x,", "(z,")
    after, report = fused(*MASK, early, last, outputs=("gx", "z"))
    assert "batch_norm_relu_grad" not in types(after)
    assert reasons(report) == ["the masked gradient is used before"]


class Block(Module):
    def __init__(self):
        self.conv, self.bn = Conv2d(4, 4, 3, padding=1), BatchNorm2d(4)

    def __call__(self, x):
        return o.relu(o.add(self.bn(self.conv(x)), x))


def test_nothing_between_the_convolutions_of_a_residual_block_is_left():
    blocks = Sequential(Block(), Block())
    program = trace(lambda x: {"loss": o.reduce_mean(o.square(blocks(x)))}, x=spec("N", 4, 6, 6))
    found = types(optimize(SGD(0.1).minimize(program)))
    assert found.count("batch_norm_relu") == found.count("batch_norm_relu_grad") == 2
    assert "relu" not in found and "where" not in found


def many(lines):
    """The same with 16 channels."""
    pairs = ("[N, 4, ", "[N, 16, "), ("float32[4]", "float32[16]")
    return [line.replace(*pairs[0]).replace(*pairs[1]) for line in lines]


def both(grad=GRAD):
    """A ReLU, and the gradient masked by it."""
    mask = [MASK[0].replace("(r,", "(y,"), MASK[1]]
    return [norm(), f"y: {X} = relu(n)", *mask, grad]


def test_bits_go_from_the_relu_to_the_gradient():
    after, _ = fused(*many(both()), head=many([HEAD])[0], outputs=("y", "gx", "gs"))
    relu, grad = after.operators
    assert relu.attrs["mask"] and len(relu.outputs) == 6
    assert grad.inputs[4] is relu.outputs[5]
    assert (str(relu.outputs[5]), relu.outputs[5].name) == ("uint8[N, 2, 3, 3]", "y.mask")


def test_two_gradients_share_the_bits():
    second = [line.replace("w", "w2", 1) for line in MASK[1:]]
    again = GRAD.replace("gx, gs, gb", "gx2, gs2, gb2").replace("w)", "w2)")
    lines = many([*both(), *(x.replace("g,", "h,") for x in second), again])
    after, _ = fused(*lines, head=many([HEAD])[0], outputs=("gx", "gx2"))
    relu, *grads = after.operators
    assert [g.inputs[4] for g in grads] == [relu.outputs[5]] * 2


def test_channels_that_are_no_whole_words_are_masked_by_the_output():
    after, report = fused(*both(), outputs=("gx",))
    relu, grad = after.operators
    assert not relu.attrs["mask"] and grad.inputs[4] is relu.outputs[0]
    assert reasons(report) == ["its channels are no whole words of bits"]


def test_a_relu_without_a_gradient_writes_no_bits():
    after, _ = fused(*many([norm(), f"y: {X} = relu(n)"]), head=many([HEAD])[0])
    (op,) = after.operators
    assert not op.attrs["mask"] and len(op.outputs) == 5
