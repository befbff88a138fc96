import pytest

from noria.ops.fused import ACTIVATIONS
from noria.passes.fuse_linear import fuse_linear
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

TEXT = """
  input x: float32[N, 3]
  {w}
  {b}
  {body}
  output y = {last}
"""
W, B = "input w: float32[5, 3]", "input b: float32[5]"
CALLS = {
    "relu": "relu(h)",
    "relu6": "clip(h, low=0.0, high=6.0)",
    "gelu": "gelu(h)",
    "gelu_tanh": 'gelu(h, approximate="tanh")',
    "sigmoid": "sigmoid(h)",
    "silu": "silu(h)",
    "tanh": "tanh(h)",
}


def fused(*lines, w=W, b=B, last=None):
    """(types left, report) of a Program of these lines."""
    last = last or lines[-1].split(":")[0].strip()
    before = program(TEXT.format(w=w, b=b, body="\n  ".join(lines), last=last))
    after, report = apply(fuse_linear, before)
    assert_same_numbers(before, after, exact=False)
    return types(after), report


PRODUCT = "m: float32[N, 5] = matmul(x, w, transpose_y=true)"
ADD = "h: float32[N, 5] = add(b, m)"


def test_a_product_and_a_bias_are_linear():
    assert fused(PRODUCT, ADD)[0] == ["linear"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_a_kernel_takes_along_is_fused(name):
    assert fused(PRODUCT, ADD, f"y: float32[N, 5] = {CALLS[name]}")[0] == ["fused_linear"]


@pytest.mark.parametrize("call", ["clip(h, low=0.0, high=1.0)", "elu(h)", "exp(h)"])
def test_other_functions_stay_behind(call):
    assert len(fused(PRODUCT, ADD, f"y: float32[N, 5] = {call}")[0]) == 2


def test_a_product_without_bias_takes_an_activation_too():
    plain = "h: float32[N, 5] = matmul(x, w, transpose_y=true)"
    assert fused(plain, "y: float32[N, 5] = relu(h)")[0] == ["fused_linear"]
    plain = "h: float32[N, 5] = linear(x, w)"
    assert fused(plain, "y: float32[N, 5] = relu(h)")[0] == ["fused_linear"]


def test_a_bias_is_added_to_linear_without_one():
    assert fused("m: float32[N, 5] = linear(x, w)", ADD)[0] == ["linear"]
    assert fused("m: float32[N, 5] = linear(x, w, b)", ADD)[0] == ["linear", "add"]


@pytest.mark.parametrize("shape", ["[1, 5]", "[N, 5]", "[]", "[1]"])
def test_what_is_added_must_be_a_vector_of_the_outputs(shape):
    left, report = fused(PRODUCT, ADD, b=f"input b: float32{shape}")
    assert left == ["matmul", "add"]
    assert reasons(report) == ["b is not a vector of 5 elements"]


def test_one_output_is_not_spread_over_a_longer_bias():
    one = "m: float32[N, 1] = matmul(x, w, transpose_y=true)"
    assert fused(one, ADD, w="input w: float32[1, 3]")[0] == ["matmul", "add"]


def test_integers_and_batches_of_weights_are_declined():
    lines = """
      input x: int64[N, 3]
      input w: int64[5, 3]
      input b: int64[5]
      m: int64[N, 5] = matmul(x, w, transpose_y=true)
      h: int64[N, 5] = add(m, b)
      output y = h
    """
    assert reasons(apply(fuse_linear, program(lines))[1]) == ["w is int64, not a float"]
    batch = "m: float32[2, N, 5] = matmul(x, w, transpose_y=true)"
    added = "h: float32[2, N, 5] = add(m, b)"
    assert reasons(fused(batch, added, w="input w: float32[2, 5, 3]")[1]) == ["w is not a matrix"]


def test_a_weight_by_columns_is_transposed_once_if_it_never_changes():
    lines = ("m: float32[N, 5] = matmul(x, w)", ADD)
    fixed = "state w: float32[3, 5] = fill(value=0.0)"
    assert fused(*lines, w=fixed)[0] == ["transpose", "linear"]
    left, report = fused(*lines, w="input w: float32[3, 5]")
    assert left == ["matmul", "add"]
    assert reasons(report) == ["w changes, so it would have to be transposed at each step"]


def test_a_product_that_others_need_is_not_hidden():
    left, report = fused(PRODUCT, ADD, "y: float32[N, 5] = gelu(h)", "z: float32[N, 5] = mul(h, y)")
    assert left == ["linear", "gelu", "mul"]
    assert reasons(report) == ["value linear is used elsewhere"]


def test_the_backward_pass_of_relu_needs_its_output_only():
    before = program("""
      input x: float32[N, 3]
      input g: float32[N, 5]
      input w: float32[5, 3]
      linear: float32[N, 5] = linear(x, w)
      relu: float32[N, 5] = relu(linear)
      zero: float32[] = fill(shape=(), value=0.0)
      greater: bool[N, 5] = greater(relu, zero)
      where: float32[N, 5] = where(greater, g, zero)
      output y = relu
      output gx = where
    """)
    after, _ = apply(fuse_linear, before)
    assert "fused_linear" in types(after) and "relu" not in types(after)
    assert_same_numbers(before, after)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_float_dtypes_are_fused_too(dtype):
    before = program(f"""
      input x: {dtype}[N, 3]
      input w: {dtype}[5, 3]
      h: {dtype}[N, 5] = linear(x, w)
      y: {dtype}[N, 5] = relu(h)
      output y = y
    """)
    after, _ = apply(fuse_linear, before)
    assert types(after) == ["fused_linear"]
    assert_same_numbers(before, after)
