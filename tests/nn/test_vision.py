import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError
from noria.ir.emit import Builder
from noria.ir.program import Program
from noria.nn.vision import Fold, PixelShuffle, PixelUnshuffle, Unfold, Upsample

X = np.random.default_rng(0).normal(size=(2, 4, 6, 5)).astype(np.float32)


def test_upsampling_repeats_pixels_or_interpolates():
    np.testing.assert_array_equal(Upsample(scale_factor=2)(X), X.repeat(2, 2).repeat(2, 3))
    smooth = Upsample((11, 9), mode="bilinear", align_corners=True)(X)
    np.testing.assert_allclose(smooth[:, :, ::2, ::2], X, atol=1e-6)


def test_upsampling_needs_one_target():
    with pytest.raises(ArgumentError, match="either"):
        Upsample()
    with pytest.raises(ArgumentError, match="either"):
        Upsample(3, 2.0)


def test_an_open_image_is_upsampled():
    with Builder(Program()) as builder:
        x = builder.input("x", (symbol("N"), 3, symbol("H"), 8))
        assert [str(d) for d in Upsample(scale_factor=2)(x).shape] == ["N", "3", "2*H", "16"]


def test_shuffled_pixels_come_back():
    out = PixelShuffle(2)(X)
    assert out.shape == (2, 1, 12, 10)
    np.testing.assert_array_equal(PixelUnshuffle(2)(out), X)


def test_folding_adds_up_what_unfolding_spread():
    columns = Unfold(3, padding=1)(X)
    assert columns.shape == (2, 36, 30)
    counts = Fold((6, 5), 3, padding=1)(Unfold(3, padding=1)(np.ones_like(X)))
    np.testing.assert_allclose(Fold((6, 5), 3, padding=1)(columns), counts * X, atol=1e-5)
