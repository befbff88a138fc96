"""Fourier transforms against NumPy's, frames, windows."""

import numpy as np
import pytest
import scipy.signal

import noria.ops.fourier as ff
from noria.core.errors import ArgumentError, ShapeError
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def pairs(z):
    return np.stack([z.real, z.imag], -1)


def complexes(x):
    return x[..., 0] + 1j * x[..., 1]


def transform(name, axis, **how):
    def apply(x):
        x = x if name == "rfft" else complexes(x)
        y = getattr(np.fft, name)(x, axis=axis, **how)
        return y if name == "irfft" else pairs(y)

    return apply


def case(name, x, axis=-1, symbolic=None, **how):
    attrs = {"axis": axis, **how}
    return Case(name, [x], attrs, expect=transform(name, axis, **how), grad=True, symbolic=symbolic)


CASES = [
    case("fft", arr(3, 5, 2), symbolic={0: {0: "N", 1: "T"}}),
    case("fft", arr(4, 3, 2), axis=0, norm="ortho"),
    case("fft", arr(4, 2), n=6, norm="forward"),
    case("fft", arr(2, 4, 2), n=3),
    case("ifft", arr(2, 5, 2), axis=1),
    case("ifft", arr(4, 3, 2), axis=0, norm="forward", n=5),
    case("rfft", arr(3, 6), symbolic={0: {1: "T"}}),
    case("rfft", arr(5, 3), axis=0, norm="ortho"),
    case("rfft", arr(5), n=8),
    case("irfft", arr(2, 4, 2)),
    case("irfft", arr(4, 3, 2), axis=0, n=7, norm="forward"),
    case("irfft", arr(4, 2), n=4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_bad_lengths_norms_and_pairs_are_told():
    with pytest.raises(ArgumentError, match="length"):
        ff.fft(np.zeros((4, 2)), n=0)
    with pytest.raises(ArgumentError, match="norm"):
        ff.rfft(np.zeros(4), norm="none")
    with pytest.raises(ShapeError, match="real, imaginary"):
        ff.ifft(np.zeros((4, 3)))


@pytest.mark.parametrize("size", [1, 5, 8])
@pytest.mark.parametrize("periodic", [False, True])
def test_windows_are_those_of_scipy(size, periodic):
    for made, name in (
        (ff.hann_window, "hann"),
        (ff.hamming_window, "hamming"),
        (ff.blackman_window, "blackman"),
    ):
        want = scipy.signal.get_window(name, size, fftbins=periodic)
        np.testing.assert_allclose(made(size, periodic=periodic, dtype="float64"), want, atol=1e-12)


@pytest.mark.parametrize("onesided", [False, True])
def test_stft_transforms_each_frame(onesided):
    x = np.random.default_rng(0).normal(size=(2, 11))
    window = np.hanning(4)
    got = complexes(ff.stft(x, 4, 3, window, onesided=onesided))
    for n, k in np.ndindex(2, 3):
        want = np.fft.fft(x[n, 3 * k : 3 * k + 4] * window)
        np.testing.assert_allclose(got[n, k], want[: 3 if onesided else 4], atol=1e-12)
    again = ff.stft(ff.as_pairs(x), 4, 3, window, onesided=False)
    np.testing.assert_allclose(complexes(again)[:, :, : got.shape[2]], got, atol=1e-12)


def test_frames_that_do_not_fit_are_told():
    with pytest.raises(ArgumentError, match="frames"):
        ff.frame(np.zeros(3), 4, 1)
    with pytest.raises(ArgumentError, match="real signals"):
        ff.stft(np.zeros((1, 8, 2)), 4, 1)


def test_triangles_of_mel_bands_rise_and_fall_by_bins():
    weights = ff.mel_weight_matrix(8, 64, 8000, 100.0, 4000.0)
    assert weights.shape == (33, 8)
    assert (weights.max(axis=0) == 1).all() and (weights >= 0).all()
    for band in weights.T:
        peak = band.argmax()
        assert (np.diff(band[: peak + 1]) >= 0).all() and (np.diff(band[peak:]) <= 0).all()
    with pytest.raises(ArgumentError, match="edges"):
        ff.mel_weight_matrix(8, 64, 8000, 100.0, 5000.0)
