"""Quantised numbers, against formulas on whole numbers."""

import numpy as np
import pytest

from noria import ops
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.testing.case import Case, arr
from noria.testing.check import check_case

X = np.array([[-1.0, 0.05, 0.15], [0.25, 300.0, -300.0]], np.float32)


@pytest.mark.parametrize(("dtype", "zero"), [("uint8", 128), ("int8", -3), ("uint16", 40000)])
def test_numbers_are_rounded_to_even_and_stay_in_range(dtype: str, zero: int) -> None:
    got = ops.quantize(X, np.float32(0.1), np.array(zero, dtype))
    info = np.iinfo(dtype)
    wanted = np.clip(np.rint(X / np.float32(0.1)) + zero, info.min, info.max)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, wanted.astype(dtype))


def test_halves_go_to_the_even_number_before_the_zero_point_is_added() -> None:
    x = np.array([0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(ops.quantize(x, np.float32(1), np.uint8(1)), [1, 3, 3])


def test_infinity_goes_to_the_end_of_the_range() -> None:
    x = np.array([np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(ops.quantize(x, np.float32(1), np.int8(0)), [127, -128])


def test_what_was_quantised_comes_back_within_half_a_step() -> None:
    x = np.linspace(-2, 2, 23, dtype=np.float32)
    whole, scale, zero = ops.dynamic_quantize(x)
    back = ops.dequantize(whole, scale, zero)
    assert np.abs(back - x).max() <= scale / 2 + 1e-6


def test_a_range_of_nothing_but_zeros_can_be_quantised() -> None:
    whole, scale, zero = ops.dynamic_quantize(np.zeros(3, np.float32))
    assert not whole.any() and scale == 0 and zero == 0


def test_scales_along_an_axis_and_of_blocks() -> None:
    scale = np.array([0.1, 0.5, 2.0], np.float32)
    np.testing.assert_array_equal(
        ops.quantize(X, scale, np.zeros(3, np.int8), axis=1),
        np.clip(np.rint(X / scale), -128, 127).astype(np.int8),
    )
    blocks = np.array([[0.1, 2.0], [1.0, 4.0]], np.float32)
    wide = np.repeat(blocks, 2, axis=1)[:, :3]
    got = ops.dequantize(np.full((2, 3), 3, np.int8), blocks, axis=1, block=2)
    np.testing.assert_allclose(got, 3 * wide, rtol=1e-6)


def test_products_of_integers_are_exact() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 3, 300)).astype(np.uint8)
    b = rng.integers(-128, 128, (300, 5)).astype(np.int8)
    zeros = np.array([1, 2, 250], np.uint8)
    wanted = (a.astype(np.int64) - zeros[:, None].astype(np.int64)) @ (b.astype(np.int64) - 7)
    got = ops.matmul_integer(a, b, zeros, np.int8(7))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, wanted)


def fake(x, scale):
    sized = np.clip(x, -scale, scale) * 7 / scale
    return np.sign(sized) * np.floor(np.abs(sized) + 0.5) * scale / 7


def test_fake_quantisation_goes_straight_through_backward() -> None:
    case = Case("fake_quantize", [arr(3, 4), np.float32(1.5)], expect=fake, grad=False)
    check_case(case, lambda x, s: ops.fake_quantize(x, s, bits=4))
    from noria.grad import gradients
    from noria.ir.trace import spec, trace
    from noria.runtime.executor import Executor

    def slope(x):
        return {"g": gradients(ops.reduce_sum(ops.fake_quantize(x, 1.5, bits=4)), [x])[0]}

    got = Executor(trace(slope, x=spec(3, 4))).run({"x": np.ones((3, 4), np.float32)})
    np.testing.assert_array_equal(got["g"], np.ones((3, 4)))


def test_a_scale_of_zero_gives_zeros() -> None:
    np.testing.assert_array_equal(ops.quantized_steps(X, np.float32(0)), np.zeros_like(X))


def packed_table():
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 256, (5, 8)).astype(np.uint8)
    ends = np.sort(rng.normal(size=(5, 2)).astype(np.float32), axis=1)
    return np.concatenate([ends, whole.view(np.float32)], axis=1), whole, ends


def test_rows_of_bytes_come_back_as_numbers() -> None:
    table, whole, ends = packed_table()

    def expect(table, ids):
        low, high = ends[ids][..., :1], ends[ids][..., 1:]
        return whole[ids] * (high - low) / 256 + low

    ids = np.array([[4, 0], [1, 1]])
    # bytes have no gradient, and cannot be tried in float64
    case = Case("dequantize_rows", [table, ids], expect=expect, grad=False)
    check_case(case, ops.dequantize_rows)
    with pytest.raises(ArgumentError, match="no row"):
        ops.dequantize_rows(table, np.array([5]))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DTypeError, match="integers"):
        ops.quantize(X, np.float32(1), dtype="float32")
    with pytest.raises(ArgumentError, match="bits"):
        ops.quantized_range(1)
    with pytest.raises(ShapeError):
        ops.quantize(X, np.ones((2, 2), np.float32))
    with pytest.raises(DTypeError):
        ops.dequantize_rows(X.astype(np.float64), np.array([0]))
