import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.passes.for_test import for_test
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case
from tests.ops.test_batch_norm import by_batch, vectors

ROWS = {0: {0: "N"}, 5: {0: "N"}}


def normed(x, scale, bias, mean, var, residual=None, **how):
    out, *rest = by_batch(x, scale, bias, mean, var, **how)
    return np.maximum(out if residual is None else out + residual, 0), *rest


def with_mask(x, *others, axis=1, **how):
    """Also the bytes of the signs, 8 channels each."""
    out, *rest = normed(x, *others, axis=axis, **how)
    last = np.moveaxis(np.asarray(out) > 0, axis, -1)
    full = np.zeros((*last.shape[:-1], -(-last.shape[-1] // 8) * 8), int)
    full[..., : last.shape[-1]] = last
    parts = full.reshape(*last.shape[:-1], -1, 8) @ 2 ** np.arange(8)
    return out, *rest, np.moveaxis(parts, -1, axis)


def with_branch(x, scale, bias, mean, var, residual, mean2, factors, axis=1, **how):
    """What is added is normalised by its mean and factors."""
    last = (np.moveaxis(residual, axis, -1) - mean2) * factors[0] + factors[1]
    return normed(x, scale, bias, mean, var, np.moveaxis(last, -1, axis), axis=axis, **how)


def gradients(x, scale, mean, inv_std, out, grad, more=None, axis=1, residual=False):
    masked = np.where(out > 0, grad if more is None else grad + more, 0)
    wide = np.moveaxis(x, axis, -1).astype(np.float64)
    g = np.moveaxis(masked, axis, -1).astype(np.float64)
    hat, others = (wide - mean) * inv_std, tuple(range(x.ndim - 1))
    gx = (g - g.mean(others) - hat * (g * hat).mean(others)) * scale * inv_std
    found = np.moveaxis(gx, -1, axis), (g * hat).sum(others), g.sum(others)
    return (*found, masked) if residual else found


def forward(shape, residual, symbolic=None, mask=False, **how):
    inputs = [arr(*shape), *vectors(shape[how.get("axis", 1)])]
    inputs += [arr(*shape)] if residual else []
    expect = lambda *a: (with_mask if mask else normed)(*a, **how)  # noqa: E731
    attrs = {**how, "mask": mask}
    return Case("batch_norm_relu", inputs, attrs, expect=expect, symbolic=symbolic)


def branched(shape, **how):
    c = shape[how.get("axis", 1)]
    inputs = [arr(*shape), *vectors(c), arr(*shape), arr(c), arr(2, c)]
    expect = lambda *a: with_branch(*a, **how)  # noqa: E731
    return Case("batch_norm_relu", inputs, how, expect=expect)


def backward(shape, more, **how):
    c = shape[how.get("axis", 1)]
    statistics = [arr(c), arr(c), arr(c, low=0.5)]
    inputs = [arr(*shape), *statistics, *[arr(*shape)] * (3 if more else 2)]
    expect = lambda *a: gradients(*a, **how)  # noqa: E731
    return Case("batch_norm_relu_grad", inputs, how, expect=expect)


def backward_by_bits(shape, more, **how):
    """The mask in the place of out."""
    case = backward(shape, more, **how)
    axis = how.get("axis", 1)
    packed = list(shape)
    packed[axis] = -(-shape[axis] // 8)
    inputs = [*case.inputs[:4], ints(*packed, high=256, dtype="uint8"), *case.inputs[5:]]

    def expect(*arrays):
        bits = np.unpackbits(arrays[4], axis, shape[axis], "little")
        return gradients(*arrays[:4], bits, *arrays[5:], **how)

    return Case("batch_norm_relu_grad", inputs, how, expect=expect)


@pytest.mark.parametrize(
    "case",
    [
        forward((5, 3), False),
        forward((4, 3, 5, 7), True, ROWS),
        forward((4, 3, 5), True, axis=2, momentum=0.3, epsilon=1e-2),
        *(forward((4, c, 2, 3), True, ROWS, mask=True) for c in (3, 7, 8, 17)),
        forward((5, 4, 16), False, mask=True, axis=-1),
        branched((4, 3, 5, 2)),
        branched((5, 3)),
        branched((4, 3, 5), axis=-1, epsilon=1e-2),
        backward((6, 3), False),
        backward((4, 3, 2, 5), True, residual=True),
        backward((4, 3, 5), False, residual=True, axis=-1),
        *(backward_by_bits((4, c, 2, 3), c > 7, residual=c < 17) for c in (3, 7, 8, 17)),
        backward_by_bits((3, 2, 16), False, axis=2),
    ],
    ids=str,
)
def test_case(case):
    check_case(case)


def test_sizes_that_differ_are_told():
    x, v = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ShapeError, match="residual"):
        o.batch_norm_relu(x, v, v, v, v, np.ones((2, 1), np.float32))
    with pytest.raises(ShapeError, match="residual_mean"):
        o.batch_norm_relu(x, v, v, v, v, x, v[:2], np.ones((2, 3), np.float32))
    with pytest.raises(ShapeError, match="residual_factors"):
        o.batch_norm_relu(x, v, v, v, v, x, v, np.ones((3, 3), np.float32))
    with pytest.raises(ArgumentError, match="mean and factors belong"):
        o.batch_norm_relu(x, v, v, v, v, x, v)
    with pytest.raises(ArgumentError, match="mean and factors belong"):
        o.batch_norm_relu(x, v, v, v, v, None, v, np.ones((2, 3), np.float32))
    with pytest.raises(ShapeError, match="more"):
        o.batch_norm_relu_grad(x, v, v, v, x, x, x[:, :1])
    with pytest.raises(ShapeError, match="the mask"):
        o.batch_norm_relu_grad(x, v, v, v, np.ones((2, 2), np.uint8), x)
    with pytest.raises(DTypeError, match="float dtype"):
        o.batch_norm_relu_grad(x, v, v, v, np.ones((2, 3), np.int8), x)
    with pytest.raises(ArgumentError, match="mask is a flag"):
        o.batch_norm_relu(x, v, v, v, v, mask=1)
    with pytest.raises(ArgumentError, match="residual is a flag"):
        o.batch_norm_relu_grad(x, v, v, v, x, x, residual=1)


def test_halves_are_rounded_once():
    x, v = (a.astype("float16") for a in (np.full((4, 3), 3.0), np.ones(3)))
    f = v.astype(np.float32)
    out, mean, *_ = o.batch_norm_relu(x, f, f, f, f, x)
    assert out.dtype == np.float16 and mean.dtype == np.float32
    np.testing.assert_array_equal(out, np.full((4, 3), 4.0))
    gx, *_, masked = o.batch_norm_relu_grad(x, f, f, f, out, x, residual=True)
    assert gx.dtype == masked.dtype == np.float16


def test_at_test_time_the_running_statistics_serve():
    def step(x, v, w, r):
        out, mean, *_, mask = o.batch_norm_relu(x, v, v, v, w, r, mask=True)
        return {"y": out, "m": mean, "mask": mask}

    program = trace(step, x=spec(2, 3), v=spec(3), w=spec(3), r=spec(2, 3))
    tested = for_test(program)
    x, v, w = np.ones((2, 3), np.float32), *np.full((2, 3), 4.0, np.float32)
    got = run_program(tested, {"x": x, "v": v, "w": w, "r": 3 * x}, {})[0]
    np.testing.assert_allclose(got["y"], np.full((2, 3), 1.0), rtol=1e-4)
    np.testing.assert_array_equal(got["m"], v)
    np.testing.assert_array_equal(got["mask"], [[7], [7]])


def test_at_test_time_a_branch_is_normalised_by_its_running_statistics():
    def step(x, v, w):
        factors, mean, *_ = o.batch_norm_factors(x, v, v, v, w)
        return {"y": o.batch_norm_relu(x, v, v, v, w, x, mean, factors)[0]}

    program = for_test(trace(step, x=spec(2, 3, 4), v=spec(3), w=spec(3)))
    x, v, w = np.full((2, 3, 4), 3.0, np.float32), *np.full((2, 3), 4.0, np.float32)
    got = run_program(program, {"x": x, "v": v, "w": w}, {})[0]
    # Each is (3 - 4) / 2 * 4 + 4.
    np.testing.assert_allclose(got["y"], np.full((2, 3, 4), 4.0), rtol=1e-4)


def test_the_bits_of_nan_and_of_zero_are_0():
    x = np.array([[1.0, 0.0], [-1.0, np.nan]], np.float32)
    v, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    *_, mask = o.batch_norm_relu(x, v, zero, v, v, mask=True)
    np.testing.assert_array_equal(mask, [[1], [0]])


def test_bits_and_signs_give_the_same_gradients():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 5, 19)).astype(np.float32)
    v = np.ones(19, np.float32)
    out, mean, inv_std, _, _, mask = o.batch_norm_relu(x, v, v, v, v, mask=True)
    found, want = (
        o.batch_norm_relu_grad(x, v, mean, inv_std, sign, g, residual=True) for sign in (mask, out)
    )
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)
