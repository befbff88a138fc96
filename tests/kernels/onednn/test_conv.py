import numpy as np
import pytest

from noria.ir.emit import Builder
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.kernels.onednn.conv import padded
from noria.runtime.executor import Executor
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

FORWARD, INPUT_GRAD, WEIGHT_GRAD = (f"onednn:conv{k}" for k in ("", "_input_grad", "_weight_grad"))
BATCH = {0: {0: "N"}}
# channels, outputs, image, kernel, attributes
CASES = [
    (3, 4, (7, 6), (3, 3), {}),
    (3, 4, (7, 6), (3, 3), {"padding": 1}),
    (1, 1, (5, 5), (1, 1), {}),
    (1, 6, (9, 9), (5, 5), {"padding": 2}),
    (17, 5, (8, 7), (3, 3), {"stride": 2, "padding": 1}),
    (4, 6, (9, 8), (2, 3), {"stride": (3, 1), "padding": (1, 0, 0, 2)}),
    (2, 3, (9, 9), (3, 2), {"dilation": 2, "padding": (1, 2)}),
    (2, 3, (7, 8), (3, 3), {"padding": "same", "stride": 2}),
    (6, 6, (6, 6), (3, 3), {"groups": 6, "padding": 1}),
    (6, 9, (6, 6), (3, 3), {"groups": 3, "padding": 1}),
    (4, 8, (6, 6), (3, 3), {"groups": 4}),
]


def text(case):
    channels, outputs, image, kernel, attrs = case
    return f"{channels}-{outputs}-{image}-{kernel}-{attrs}".replace(" ", "")


def inputs_of(case, batch=2, dtype="float32"):
    """(x, weight, gradient of the output)."""
    channels, outputs, image, kernel, attrs = case
    x = arr(batch, channels, *image, dtype=dtype)
    weight = arr(outputs, channels // attrs.get("groups", 1), *kernel, dtype=dtype)
    name = f"conv{len(image)}d"
    out = lookup(name)(x.make((0,)), weight.make((1,)), **attrs)
    return x, weight, arr(*out.shape, dtype=dtype)


def check_all(case, batch=2, dtype="float32", symbolic=None, **options):
    """The convolution and both gradients."""
    _, _, image, kernel, attrs = case
    x, weight, grad = inputs_of(case, batch, dtype)
    name, both = f"conv{len(image)}d", symbolic and {0: {0: "N"}, 1: {0: "N"}}
    options = {"symbolic": symbolic, **options}
    check_kernel(name, [x, weight], attrs, kernel=FORWARD, **options)
    how = {**attrs, "sizes": image}
    check_kernel(f"{name}_input_grad", [grad, weight], how, kernel=INPUT_GRAD, **options)
    options["symbolic"], how = both, {**attrs, "kernel": kernel}
    check_kernel(f"{name}_weight_grad", [x, grad], how, kernel=WEIGHT_GRAD, **options)


@pytest.mark.parametrize("case", CASES, ids=text)
def test_a_convolution_and_its_gradients(case):
    check_all(case, symbolic=BATCH)


@pytest.mark.parametrize(
    "case",
    [
        (3, 5, (11,), (4,), {"stride": 2, "padding": 1}),
        (2, 4, (9,), (3,), {"dilation": 2, "groups": 2}),
        (2, 3, (4, 5, 6), (2, 3, 2), {"stride": (1, 2, 1), "padding": (0, 1, 0)}),
    ],
    ids=text,
)
def test_one_and_three_spatial_axes(case):
    check_all(case, symbolic=BATCH)


@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[9]], ids=text)
@pytest.mark.usefixtures("halves")
def test_bfloat16(case):
    check_all(case, dtype="bfloat16", tol=4e-2)


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.usefixtures("halves")
def test_a_weight_gradient_of_halves_takes_no_image_narrower_than_a_stride(kernel, stride):
    for width in (stride - 1, stride):
        how = {"stride": stride, "padding": kernel // 2}
        case = 17, 8, (11, width), (kernel, kernel), how
        x, _, grad = inputs_of(case, dtype="bfloat16")
        checked = "conv2d_weight_grad", [x, grad], {**how, "kernel": (kernel, kernel)}
        if width == stride:
            check_kernel(*checked, kernel=WEIGHT_GRAD)
            continue
        with pytest.raises(AssertionError, match="narrower than a stride"):
            check_kernel(*checked, kernel=WEIGHT_GRAD)


@pytest.mark.parametrize(("channels", "outputs"), [(20, 3), (3, 20), (17, 40)])
def test_gradients_of_odd_channels_are_padded_where_that_pays(channels, outputs):
    rows = 4 * 18 * 16
    assert padded(20, rows, 1, "float32") == 32 and padded(20, rows, 2, "float32") == 20
    assert padded(16, rows, 1, "float32") == padded(16, 10**6, 1, "float32") == 16
    assert padded(20, 100, 1, "float32") == 20 == padded(20, rows, 1, "bfloat16")
    check_all((channels, outputs, (18, 16), (3, 3), {"padding": 1}), batch=4, symbolic=BATCH)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("channels", "outputs", "image", "kernel", "attrs"),
    [
        (3, 4, (5, 6), (3, 3), {}),
        (4, 6, (5, 4), (2, 3), {"stride": (2, 3), "output_padding": (1, 2), "padding": (1, 0)}),
        (6, 9, (4, 4), (3, 3), {"groups": 3, "stride": 2, "padding": (1, 0, 0, 1)}),
        (6, 6, (5, 4), (4, 4), {"groups": 6, "stride": 2, "padding": 1}),
        (17, 5, (4, 5), (3, 2), {"dilation": 2}),
        (3, 2, (7,), (4,), {"stride": 2, "padding": 1}),
        (2, 3, (3, 4, 2), (2, 2, 3), {"stride": 2}),
    ],
)
def test_transposed_convolutions(channels, outputs, image, kernel, attrs, bias):
    x = arr(2, channels, *image)
    weight = arr(channels, outputs // attrs.get("groups", 1), *kernel)
    inputs = [x, weight, *([arr(outputs)] if bias else [])]
    name = f"conv_transpose{len(image)}d"
    check_kernel(name, inputs, attrs, kernel="onednn:conv_transpose", symbolic=BATCH)


@pytest.mark.parametrize("bias", [False, True])
def test_a_bias_is_added(bias):
    x, weight, _ = inputs_of(CASES[1])
    check_kernel("conv2d", [x, weight, arr(4) if bias else None], CASES[1][4], kernel=FORWARD)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_bias_residual_and_activation_are_fused(bias, residual, activation):
    x, weight, out = inputs_of(CASES[1])
    inputs = [x, weight, arr(4) if bias else None, out if residual else None]
    attrs = {**CASES[1][4], "activation": activation}
    check_kernel("fused_conv2d", inputs, attrs, kernel=FORWARD)


def test_the_residual_may_be_the_image_itself():
    """Then its memory must not be taken for the result."""
    program = Program()
    with Builder(program) as builder:
        x, w = builder.input("x", (2, 4, 5, 5)), builder.input("w", (4, 4, 3, 3))
        program.outputs = {"y": o.fused_conv2d(x, w, None, x, padding=1)}
    feeds = {"x": arr(2, 4, 5, 5).make((0,)), "w": arr(4, 4, 3, 3).make((1,))}
    got = Executor(program).run(feeds)["y"]
    want = o.conv2d(feeds["x"], feeds["w"], padding=1) + feeds["x"]
    np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "attrs", "reason"),
    [("float64", {}, "is float64"), ("float16", {}, "is float16")],
)
def test_what_is_left_to_the_reference(dtype, attrs, reason):
    x, weight = arr(1, 2, 5, 5, dtype=dtype), arr(3, 2, 3, 3, dtype=dtype)
    with pytest.raises(AssertionError, match=reason):
        check_kernel("conv2d", [x, weight], attrs, kernel=FORWARD)


@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[9]], ids=text)
@pytest.mark.usefixtures("halves")
def test_a_bias_of_float32_and_a_float32_gradient_beside_bfloat16(case):
    _, outputs, _, kernel, attrs = case
    x, weight, grad = inputs_of(case, dtype="bfloat16")
    check_kernel("conv2d", [x, weight, arr(outputs)], attrs, kernel=FORWARD, tol=4e-2)
    how = {**attrs, "kernel": kernel, "dtype": "float32"}
    check_kernel("conv2d_weight_grad", [x, grad], how, kernel=WEIGHT_GRAD, tol=1e-5)
