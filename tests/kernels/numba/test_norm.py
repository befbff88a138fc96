import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator
from noria.ir.trace import spec, trace
from noria.kernels.numba import norm
from noria.kernels.registry import Array, BoundOp
from noria.runtime.executor import Executor
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

NAME = "numba:batch_norm"
BATCH = {0: {0: "N"}}


def vectors(channels):
    """scale, bias, mean, var."""
    return [arr(channels, low=0.5), arr(channels), arr(channels), arr(channels, low=0.5)]


def backward(x, **options):
    """Check the gradient, with statistics that belong to x, an array."""
    channels = x.shape[1]
    scale, bias, mean, var = (v.make((i,)) for i, v in enumerate(vectors(channels)))
    _, batch_mean, inv_std, _, _ = o.batch_norm(x, scale, bias, mean, var, training=True)
    inputs = [x, scale, batch_mean, inv_std, arr(*x.shape)]
    check_kernel("batch_norm_grad", inputs, kernel=NAME, wide=True, **options)


def forward(x, attrs=None, **options):
    attrs = {"training": True, **(attrs or {})}
    check_kernel("batch_norm", [x, *vectors(x.shape[1])], attrs, kernel=NAME, wide=True, **options)


@pytest.mark.parametrize("rows", [1, 2, 3, 33, 64, 65, 1001])
@pytest.mark.parametrize("channels", [1, 7, 64])
def test_any_number_of_rows_and_channels(rows, channels):
    forward(arr(rows, channels), symbolic=BATCH)
    backward(arr(rows, channels).make((5,)))


@pytest.mark.parametrize("shape", [(523, 64), (70, 300), (1, 2048), (133, 2048)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_shorter_and_longer_than_a_line(shape, dtype):
    tol = 8e-3 if dtype == "bfloat16" else None
    forward(arr(*shape, dtype=dtype), tol=tol)
    inputs = [arr(*shape, dtype=dtype), *vectors(shape[1]), arr(*shape, dtype=dtype)]
    check_kernel("batch_norm_relu", inputs, kernel=NAME, wide=True, tol=tol)


@pytest.mark.parametrize("shape", [(523, 64), (70, 300), (133, 2048)])
def test_gradients_of_rows_shorter_and_longer_than_a_line(shape):
    backward(arr(*shape).make((5,)))
    inputs = [arr(*shape), *vectors(shape[1])[:2], arr(shape[1], low=0.5), arr(*shape), arr(*shape)]
    how = {"residual": True}
    check_kernel("batch_norm_relu_grad", inputs, how, kernel=NAME, wide=True)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 3, 5, 7), (2, 3, 2, 4, 3), (1, 5, 1, 1)])
def test_channels_are_axis_1_at_any_rank(shape):
    forward(arr(*shape), symbolic=BATCH)
    backward(arr(*shape).make((5,)))


@pytest.mark.parametrize(
    "attrs", [{"momentum": 0.0}, {"momentum": 1.0}, {"epsilon": 1e-2}, {"axis": -3}]
)
def test_attributes(attrs):
    forward(arr(4, 3, 5, 7), attrs)


@pytest.mark.parametrize("mean", [1e4, -3e5])
def test_a_large_mean_does_not_cancel_the_variance_away(mean):
    forward(arr(300, 5, 4, low=mean - 1, high=mean + 1))
    backward(arr(300, 5, 4, low=mean - 1, high=mean + 1).make((5,)))


def test_a_constant_input_has_no_variance():
    x = np.full((50, 3), 1e6, np.float32)
    forward(x)
    backward(x)


def test_nan_and_infinities_stay_in_their_channel():
    x = arr(12, 4).make((1,))
    x[3, 1], x[5, 2] = np.nan, np.inf
    scale, bias, mean, var = (v.make((i,)) for i, v in enumerate(vectors(4)))
    check_kernel("batch_norm", [x, scale, bias, mean, var], {"training": True}, kernel=NAME)


@pytest.mark.parametrize("shape", [(5, 7), (65, 3), (4, 3, 5, 7), (2, 64, 9, 9), (1, 17, 1, 1)])
@pytest.mark.parametrize("residual", [False, True])
def test_a_relu_and_a_residual_go_along(shape, residual):
    inputs = [arr(*shape), *vectors(shape[1]), *([arr(*shape)] if residual else [])]
    symbolic = {0: {0: "N"}, 5: {0: "N"}} if residual else BATCH
    check_kernel("batch_norm_relu", inputs, kernel=NAME, wide=True, symbolic=symbolic)


@pytest.mark.parametrize("shape", [(5, 7), (65, 3), (4, 3, 5, 7), (2, 64, 9, 9), (1, 17, 1, 1)])
@pytest.mark.parametrize("gradients", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_the_gradient_is_masked_on_the_way(shape, gradients, residual):
    c = shape[1]
    inputs = [arr(*shape), arr(c), arr(c), arr(c, low=0.5), *[arr(*shape)] * (1 + gradients)]
    check_kernel("batch_norm_relu_grad", inputs, {"residual": residual}, kernel=NAME, wide=True)


def branched(shape, dtype="float32"):
    """x, a branch's x, and what belongs to them."""
    c, x = shape[1], arr(*shape, dtype=dtype)
    return [x, *vectors(c), x, arr(c), arr(2, c)]


@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (2, 64, 9, 9), (1, 17, 1, 1), (3, 300, 5), (5, 7)])
def test_a_branch_is_normalised_as_it_is_added(shape):
    symbolic = {0: {0: "N"}, 5: {0: "N"}}
    check_kernel("batch_norm_relu", branched(shape), kernel=NAME, wide=True, symbolic=symbolic)


@pytest.mark.parametrize("shape", [(4, 32, 5, 7), (2, 512, 3), (9, 2048, 1), (4, 7, 3)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_signs_and_halves_beside_a_branch(shape, dtype):
    how, tol = {"mask": shape[1] % 16 == 0}, 8e-3 if dtype == "bfloat16" else None
    check_kernel("batch_norm_relu", branched(shape, dtype), how, kernel=NAME, wide=True, tol=tol)


def test_a_large_mean_of_a_branch_cancels_nothing():
    inputs = branched((40, 16, 3))
    inputs[5:7] = arr(40, 16, 3, low=3e5 - 1, high=3e5 + 1), arr(16, low=3e5 - 1, high=3e5 + 1)
    check_kernel("batch_norm_relu", inputs, kernel=NAME, wide=True)


def test_nan_and_infinities_of_a_branch_stay_in_their_channel():
    inputs = [v.make((i,)) for i, v in enumerate(branched((12, 16, 3)))]
    inputs[5][3, 1], inputs[5][5, 2], inputs[0][1, 4] = np.nan, np.inf, np.nan
    check_kernel("batch_norm_relu", inputs, {"mask": True}, kernel=NAME)


def test_nan_passes_through_the_relu_as_in_the_reference():
    x = arr(12, 4).make((1,))
    x[3, 1], x[5, 2] = np.nan, np.inf
    residual = arr(12, 4).make((2,))
    residual[0, 0] = np.nan
    check_kernel("batch_norm_relu", [x, *vectors(4), residual], kernel=NAME)


MASKED = [(5, 16), (1, 48), (65, 64), (4, 32, 5, 7), (9, 304), (2, 512, 3, 1), (9, 2048)]


@pytest.mark.parametrize("shape", MASKED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("residual", [False, True])
def test_signs_are_written_as_bits(shape, dtype, residual):
    x = arr(*shape, dtype=dtype)
    inputs = [x, *vectors(shape[1]), *([x] if residual else [])]
    tol = 8e-3 if dtype == "bfloat16" else None
    symbolic = {0: {0: "N"}, 5: {0: "N"}} if residual else BATCH
    how = {"mask": True}
    check_kernel("batch_norm_relu", inputs, how, kernel=NAME, symbolic=symbolic, tol=tol)


@pytest.mark.parametrize("shape", MASKED)
@pytest.mark.parametrize("gradients", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_the_gradient_is_masked_by_bits(shape, gradients, residual):
    x, c = arr(*shape), shape[1]
    mask = ints(shape[0], c // 8, *shape[2:], high=256, dtype="uint8")
    inputs = [x, arr(c), arr(c), arr(c, low=0.5), mask, *[x] * gradients]
    how = {"residual": residual}
    check_kernel("batch_norm_relu_grad", inputs, how, kernel=NAME, wide=True, special=True)


@pytest.mark.parametrize("shape", [(65, 48), (4, 32, 5, 7), (9, 2048)])
def test_bits_beside_bfloat16(shape):
    x, c = arr(*shape, dtype="bfloat16"), shape[1]
    mask = ints(shape[0], c // 8, *shape[2:], high=256, dtype="uint8")
    inputs = [x, *(arr(c, low=0.5) for _ in range(3)), mask, x, x]
    how = {"residual": True}
    check_kernel("batch_norm_relu_grad", inputs, how, kernel=NAME, wide=True, tol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_infinities_and_zeros_have_the_bits_of_the_reference(dtype):
    x = arr(12, 32, dtype=dtype).make((1,))
    x[3, 1], x[5, 2], x[:, 5] = np.nan, np.inf, 0
    residual = arr(12, 32, dtype=dtype).make((2,))
    residual[0, 0], residual[1, 3], residual[2, 4] = np.nan, np.inf, -np.inf
    tol = 8e-3 if dtype == "bfloat16" else None
    inputs = [x, *vectors(32), residual]
    check_kernel("batch_norm_relu", inputs, {"mask": True}, kernel=NAME, tol=tol)


@pytest.mark.parametrize("channels", [3, 7, 17, 8])
def test_bits_of_other_numbers_of_channels_are_left_to_the_reference(channels):
    x, v = arr(4, channels), vectors(channels)
    with pytest.raises(AssertionError, match="not a multiple of 16"):
        check_kernel("batch_norm_relu", [x, *v], {"mask": True}, kernel=NAME)
    mask = ints(4, -(-channels // 8), high=256, dtype="uint8")
    with pytest.raises(AssertionError, match="not a multiple of 16"):
        check_kernel("batch_norm_relu_grad", [x, *v[:3], mask, x], kernel=NAME)


def test_with_and_without_a_residual_it_is_the_same_code(monkeypatch):
    found = []
    monkeypatch.setattr(norm, "launch", lambda name, source, *_, **__: found.append(source))
    x, c = Array((4, 16), "float32", (16, 1)), Array((16,), "float32", (1,))
    attrs = {"momentum": 0.1, "epsilon": 1e-5, "residual": False}
    for kind, inputs in (
        ("batch_norm", [x, c, c, c, c]),
        ("batch_norm_relu", [x, c, c, c, c, None, None, None]),
        ("batch_norm_relu", [x, c, c, c, c, x, None, None]),
        ("batch_norm_grad", [x, c, c, c, x]),
        ("batch_norm_relu_grad", [x, c, c, c, Array((4, 2), "uint8", (2, 1)), x, x]),
    ):
        op = Operator(kind, (), (), attrs, {}, None, None)
        bound = BoundOp(op, attrs, inputs, [x, c, c], 1, [False] * len(inputs))
        norm.BatchNorm().bind(bound).emit([8] * len(inputs), [8, 8, 8], [], 8)
    assert len(found) == 5 and len(set(found)) == 2


def test_it_serves_no_other_form():
    x, vs = arr(4, 3, 5), vectors(3)
    with pytest.raises(AssertionError, match="the test form"):
        check_kernel("batch_norm", [x, *vs], kernel=NAME)
    with pytest.raises(AssertionError, match="channels are not axis 1"):
        check_kernel("batch_norm", [arr(4, 5, 3), *vs], {"training": True, "axis": 2}, kernel=NAME)
    with pytest.raises(AssertionError, match="is float16"):
        x = arr(4, 3, dtype="float16")
        check_kernel("batch_norm", [x, *vs], {"training": True}, kernel=NAME)
    with pytest.raises(AssertionError, match="different dtypes"):
        inputs = [arr(4, 3), *(arr(3) for _ in range(3)), arr(4, 3, dtype="bfloat16")]
        check_kernel("batch_norm_grad", inputs, kernel=NAME)


@pytest.mark.parametrize("shape", [(1, 3), (65, 17), (4, 3, 5, 7), (2, 64, 3, 3)])
def test_bfloat16_beside_float32_statistics(shape):
    x, channels = arr(*shape, dtype="bfloat16"), shape[1]
    forward(x, symbolic=BATCH, tol=8e-3)
    inputs = [x, *(arr(channels, low=0.5) for _ in range(3)), arr(*shape, dtype="bfloat16")]
    check_kernel("batch_norm_grad", inputs, kernel=NAME, wide=True, tol=8e-3)


# Of one row nothing would be left to compare: the gradient, rounded to bfloat16, cancels itself.
@pytest.mark.parametrize("shape", [(65, 17), (4, 3, 5, 7), (2, 64, 3, 3)])
def test_bfloat16_with_a_relu(shape):
    x = y = arr(*shape, dtype="bfloat16")
    check_kernel("batch_norm_relu", [x, *vectors(shape[1]), y], kernel=NAME, wide=True, tol=8e-3)
    inputs = [x, *(arr(shape[1], low=0.5) for _ in range(3)), y, y, y]
    how = {"residual": True}
    check_kernel("batch_norm_relu_grad", inputs, how, kernel=NAME, wide=True, tol=1e-2)


def test_nan_of_bfloat16_stays_in_its_channel():
    x = arr(12, 4, dtype="bfloat16").make((1,))
    x[3, 1], x[5, 2] = np.nan, np.inf
    scale, bias, mean, var = (v.make((i,)) for i, v in enumerate(vectors(4)))
    check_kernel("batch_norm", [x, scale, bias, mean, var], {"training": True}, kernel=NAME)


@pytest.mark.parametrize("shape", [(5, 7), (65, 3), (4, 3, 5, 7), (2, 64, 9, 9), (133, 2048)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_factors_are_the_first_pass_alone(shape, dtype):
    inputs = [arr(*shape, dtype=dtype), *vectors(shape[1])]
    check_kernel("batch_norm_factors", inputs, kernel=NAME, wide=True, symbolic=BATCH)


def test_factors_of_a_large_mean_make_up_for_its_rounding():
    """What is normalised is then that of batch norm, though float32 has no such mean."""
    x = arr(300, 5, 4, low=1e6, high=1e6 + 1).make((1,))
    ones, zeros = np.ones(5, np.float32), np.zeros(5, np.float32)

    def step(x, one, zero):
        factors, mean, *_ = o.batch_norm_factors(x, one, zero, zero, one)
        return {"factors": factors, "mean": mean}

    program = trace(step, x=spec(300, 5, 4), one=spec(5), zero=spec(5))
    got = Executor(program).run({"x": x, "one": ones, "zero": zeros})
    wide = x.astype(np.float64)
    want = (wide - wide.mean((0, 2), keepdims=True)) / wide.std((0, 2))[:, None]
    factor, offset = got["factors"].astype(np.float64)[:, :, None]
    found = (wide - got["mean"].astype(np.float64)[:, None]) * factor + offset
    np.testing.assert_allclose(found, want, atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 32, 5, 7), (9, 304, 2), (9, 2048, 1, 1)])
def test_the_gradient_is_masked_by_factors(shape):
    x, c = arr(*shape), shape[1]
    inputs = [x, arr(c), arr(c), arr(c, low=0.5), arr(2, c), x]
    check_kernel("batch_norm_relu_grad", inputs, kernel=NAME, wide=True, special=True)
    for how, more in (({"residual": True}, []), ({}, [x])):
        with pytest.raises(AssertionError, match="by factors one gradient"):
            check_kernel("batch_norm_relu_grad", [*inputs, *more], how, kernel=NAME)
