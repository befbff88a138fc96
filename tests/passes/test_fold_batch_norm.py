import pytest

from noria.passes.fold_batch_norm import fold_batch_norm
from tests.passes.programs import apply, assert_same_numbers, program, reasons

STATE = "\n".join(
    f"  state {n}: {{dtype}}[3] = fill(value=1.0)" for n in ("b", "scale", "bias", "mean", "var")
)


def text(product, x, w, out, norm="", dtype="float32", more=""):
    return program(f"""
      input x: {dtype}{x}
      state w: {dtype}{w} = fill(value=1.0)
      {STATE.format(dtype=dtype)}
      h: {dtype}{out} = {product}
      n: {dtype}{out} = batch_norm(h, scale, bias, mean, var{norm})
      {more}
      output y = n
    """)


CONV = ("[N, 2, 5, 5]", "[3, 2, 3, 3]", "[N, 3, 3, 3]")
PRODUCTS = [
    ("conv2d(x, w)", *CONV),
    ("conv2d(x, w, b)", *CONV),
    ("conv2d(x, w, b, stride=2, padding=1)", *CONV),
    ("conv1d(x, w)", "[N, 2, 5]", "[3, 2, 3]", "[N, 3, 3]"),
    ("conv3d(x, w, b)", "[N, 2, 3, 3, 3]", "[3, 2, 3, 3, 3]", "[N, 3, 1, 1, 1]"),
    ("linear(x, w)", "[N, 2]", "[3, 2]", "[N, 3]"),
    ("linear(x, w, b)", "[N, 2]", "[3, 2]", "[N, 3]"),
]


@pytest.mark.parametrize(("product", "x", "w", "out"), PRODUCTS)
def test_a_batch_norm_after_a_product_goes_into_its_weights(product, x, w, out):
    before = text(product, x, w, out, norm=", epsilon=0.1, momentum=0.3")
    after, report = apply(fold_batch_norm, before)
    assert len(report.fired) == 1
    assert after.operators[-1].type == before.operators[0].type
    assert after.operators[-1].attrs == before.operators[0].attrs
    assert "batch_norm" not in [o.type for o in after.operators]
    assert_same_numbers(before, after, exact=False)


def declined(*args, **more):
    before = text(*args, **more)
    after, report = apply(fold_batch_norm, before)
    assert after.operators == before.operators
    return reasons(report)


def test_weights_or_statistics_that_change_are_left_alone():
    more = "add: float32[3, 2, 3, 3] = add(w, w)\n  update w = add"
    assert declined("conv2d(x, w)", *CONV, more=more) == ["w may change at each step"]
    more = "add: float32[3] = add(mean, mean)\n  update mean = add"
    assert declined("conv2d(x, w)", *CONV, more=more) == ["mean may change at each step"]


def test_half_precision_is_left_alone():
    reason = "w is bfloat16, and would be rounded again"
    assert declined("conv2d(x, w)", *CONV, dtype="bfloat16") == [reason]


def test_a_convolution_that_others_need_is_left_alone():
    more = "e: float32[N, 3, 3, 3] = exp(h)\n  output z = e"
    assert declined("conv2d(x, w)", *CONV, more=more) == ["value h is used elsewhere"]


def test_channels_that_are_not_the_outputs_of_linear_are_left_alone():
    got = declined("linear(x, w)", "[N, 3, 2]", "[4, 2]", "[N, 3, 4]")
    assert got == ["axis 1 is not that of the outputs of linear"]


def test_the_training_form_is_left_alone():
    before = program("""
      input x: float32[N, 2]
      state w: float32[3, 2] = fill(value=1.0)
      state v: float32[3] = fill(value=1.0)
      h: float32[N, 3] = linear(x, w)
      n, a, b, c, d: float32[N, 3], float32[3], float32[3], float32[3], float32[3] =
        batch_norm(h, v, v, v, v, training=true)
      output y = n
    """)
    after, report = apply(fold_batch_norm, before)
    assert after.operators == before.operators
    assert reasons(report) == ["training of batch_norm is True, not False"]
