"""Fourier transforms. Complex numbers are pairs: a last axis of 2, real and imaginary part, which
`axis` does not count: axis -1 is the one before it. (Cooley & Tukey, 1965)"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Dim, Size, known_ge
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, need_float, shaped
from noria.ops.numeric import in_float32

MAX_WEIGHTS = 1 << 27  # of mel bands
NORMS = ("backward", "ortho", "forward")


def _need_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ArgumentError("no such norm", expected=", ".join(NORMS), got=repr(norm))


def _need_pairs(x: Spec, what: str = "x") -> None:
    need_float(x)
    if x.ndim < 2 or x.shape[-1] != 2:
        raise ShapeError(f"{what} must have a last axis of 2: real, imaginary", got=str(x))


def _length(n: Size | None, size: Size) -> Size:
    """The length of a transform. Raises ArgumentError."""
    size = size if n is None else n
    if not isinstance(size, (int, Dim)) or (isinstance(size, int) and size < 1):
        raise ArgumentError("the length of a transform is a positive size", got=repr(size))
    return size


def _complex(xp: Any, x: Any) -> Any:
    return x[..., 0] + 1j * x[..., 1]


def _pairs(xp: Any, z: Any, dtype: Any) -> Any:
    return xp.stack([z.real, z.imag], axis=-1).astype(dtype)


def _adjoint(norm: str) -> str:
    """The norm with which the opposite transform is the adjoint of one with this norm."""
    return {"backward": "forward", "ortho": "ortho", "forward": "backward"}[norm]


# ---- complex to complex ------------------------------------------------------------------------


def _same(x: Spec, n: Size | None, axis: int, norm: str) -> Spec:
    _need_pairs(x)
    _need_norm(norm)
    axis = axis_of(axis, x.ndim - 1)
    size = _length(n, x.shape[axis])
    return Spec((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


@op
def fft(x, *, n=None, axis=-1, norm="backward"):
    """sum over j of x[j] exp(-2 pi i j k / n), for k = 0 .. n - 1: [..., 2] -> [..., 2].

    n: x is cut to so many elements, or filled up with zeros; default its size along the axis.
    norm: as of NumPy: "forward" divides by n, "ortho" by its root, "backward" not.
    """
    return _same(x, n, axis, norm)


@fft.compute
@in_float32
def _(xp, x, n, axis, norm):
    axis = axis_of(axis, x.ndim - 1)
    return _pairs(xp, xp.fft.fft(_complex(xp, x), n=n, axis=axis, norm=norm), x.dtype)


@fft.grad
def _(x, g, axis, norm):
    axis = axis_of(axis, x.ndim - 1)
    return _resized(o.ifft(g, axis=axis, norm=_adjoint(norm)), x.shape[axis], axis)


@op
def ifft(x, *, n=None, axis=-1, norm="backward"):
    """sum over k of x[k] exp(2 pi i j k / n), divided by n: [..., 2] -> [..., 2].

    n: as of `fft`. norm: as of NumPy: "backward" divides by n, "ortho" by its root, "forward" not.
    """
    return _same(x, n, axis, norm)


@ifft.compute
@in_float32
def _(xp, x, n, axis, norm):
    axis = axis_of(axis, x.ndim - 1)
    return _pairs(xp, xp.fft.ifft(_complex(xp, x), n=n, axis=axis, norm=norm), x.dtype)


@ifft.grad
def _(x, g, axis, norm):
    axis = axis_of(axis, x.ndim - 1)
    return _resized(o.fft(g, axis=axis, norm=_adjoint(norm)), x.shape[axis], axis)


# ---- real to complex and back ------------------------------------------------------------------


@op
def rfft(x, *, n=None, axis=-1, norm="backward"):
    """`fft` of real numbers, its first n // 2 + 1 results: [..., T] -> [..., n // 2 + 1, 2]."""
    need_float(x)
    _need_norm(norm)
    axis = axis_of(axis, x.ndim)
    size = _length(n, x.shape[axis]) // 2 + 1
    return Spec((*x.shape[:axis], size, *x.shape[axis + 1 :], 2), x.dtype)


@rfft.compute
@in_float32
def _(xp, x, n, axis, norm):
    axis = axis_of(axis, x.ndim)
    return _pairs(xp, xp.fft.rfft(x, n=n, axis=axis, norm=norm), x.dtype)


@rfft.grad
def _(x, g, n, axis, norm):
    axis = axis_of(axis, x.ndim)
    size = x.shape[axis] if n is None else n
    g = _weighted(g, size, axis, 0.5)
    return _resized(o.irfft(g, n=size, axis=axis, norm=_adjoint(norm)), x.shape[axis], axis)


@op
def irfft(x, *, n=None, axis=-1, norm="backward"):
    """The n real numbers whose `rfft` x is: [..., n // 2 + 1, 2] -> [..., n].

    n: default 2 (m - 1) for an axis of size m; x is cut or filled up with zeros to n // 2 + 1.
    Imaginary parts of the ends, which `rfft` cannot give, do not count.
    """
    _need_pairs(x)
    _need_norm(norm)
    axis = axis_of(axis, x.ndim - 1)
    size = _length(n, 2 * (x.shape[axis] - 1))
    return Spec((*x.shape[:axis], size, *x.shape[axis + 1 : -1]), x.dtype)


@irfft.compute
@in_float32
def _(xp, x, n, axis, norm):
    axis = axis_of(axis, x.ndim - 1)
    return xp.fft.irfft(_complex(xp, x), n=n, axis=axis, norm=norm).astype(x.dtype)


@irfft.grad
def _(x, g, n, axis, norm):
    axis = axis_of(axis, x.ndim - 1)
    size = 2 * (x.shape[axis] - 1) if n is None else n
    back = _weighted(o.rfft(g, axis=axis, norm=_adjoint(norm)), size, axis, 2.0)
    return _resized(back, x.shape[axis], axis)


def _weighted(x: Any, size: Size, axis: int, weight: float) -> Any:
    """Pairs, those times `weight` that stand for two terms of the whole transform."""
    half = x.shape[axis]
    place = o.arange(stop=half)
    mirror = o.sub(size if isinstance(size, int) else o.dim_value(dim=size), place)
    alone = o.logical_or(o.equal(place, 0), o.equal(mirror, place))
    factor = o.cast(o.where(alone, 1.0, weight), dtype=str(x.dtype))
    return o.mul(x, o.reshape(factor, shape=(half, *(1,) * (len(x.shape) - 1 - axis))))


def _resized(x: Any, n: Size, axis: int) -> Any:
    """The first n elements along an axis, zeros behind the last one where there are fewer."""
    size = x.shape[axis]
    if n == size:
        return x
    if known_ge(size, n):
        return o.slice(x, axes=(axis,), starts=(0,), stops=(n,))
    if not known_ge(n, size):
        raise ArgumentError(
            "it is not known whether to cut or to fill up", got=f"{size} elements, n={n}"
        )
    pads = [(0, 0)] * len(x.shape)
    pads[axis] = (0, n - size)
    return o.pad(x, pads=tuple(pads))


# ---- frames of a signal ------------------------------------------------------------------------


def frame(x: Any, length: int, step: int, *, axis: int = -1) -> Any:
    """Pieces of `length` elements, each `step` further: [.., T, ..] -> [.., frames, length, ..].

    What is left at the end is dropped. Raises ArgumentError for a length or step that is not
    positive or does not fit.
    """
    axis = axis_of(axis, len(shaped(x).shape))
    size = x.shape[axis]
    if length < 1 or step < 1 or known_ge(size, length) is False:
        raise ArgumentError(
            "frames do not fit the signal", got=f"{size} elements, {length=}, {step=}"
        )
    count = (size - length) // step + 1
    starts = o.mul(o.arange(stop=count), step)
    places = o.add(o.unsqueeze(starts, axis=1), o.arange(stop=length))
    return o.gather(x, places, axis=axis)


def stft(x: Any, length: int, step: int, window: Any = None, *, onesided: bool = True) -> Any:
    """`rfft` (onesided) or `fft` of each frame of signals, times a window.

    x: real [N, T], or with onesided=False pairs [N, T, 2]; window: [length], default ones.
    out: [N, frames, length // 2 + 1 or length, 2]. Raises ArgumentError, ShapeError.
    """
    pairs = len(x.shape) == 3
    if pairs and onesided:
        raise ArgumentError("half of the spectrum is enough only for real signals")
    frames = frame(x, length, step, axis=1)
    if window is not None:
        frames = o.mul(frames, o.unsqueeze(window, axis=1) if pairs else window)
    if onesided:
        return o.rfft(frames, axis=2)
    return o.fft(frames if pairs else as_pairs(frames), axis=2)


def as_pairs(x: Any) -> Any:
    """Real numbers as complex ones: [...] -> [..., 2]."""
    zeros = o.fill(shape=(*x.shape, 1), value=0.0, dtype=str(x.dtype))
    return o.concat(o.unsqueeze(x, axis=len(x.shape)), zeros, axis=len(x.shape))


# ---- windows -----------------------------------------------------------------------------------


def _cosines(size: Size, periodic: bool, weights: tuple[float, ...], dtype: str) -> Any:
    """The sum of (-1)^k weights[k] cos(2 pi k n / N), N = size if periodic, else size - 1."""
    if size == 1:
        return o.fill(shape=(1,), value=1.0, dtype=dtype)
    turn = 2 * np.pi
    whole = size if periodic else size - 1
    place = o.cast(o.arange(stop=size), dtype="float64")
    whole_value = (
        whole if isinstance(whole, int) else o.cast(o.dim_value(dim=whole), dtype="float64")
    )
    angle = o.mul(o.div(place, whole_value), turn)
    out: Any = weights[0]
    for k, weight in enumerate(weights[1:], 1):
        out = o.add(o.mul(o.cos(o.mul(angle, float(k))), weight * (-1) ** k), out)
    return o.cast(out, dtype=dtype)


def hann_window(size: Size, *, periodic: bool = True, dtype: str = "float32") -> Any:
    """0.5 - 0.5 cos(2 pi n / N) for n < size: [size].  (Blackman & Tukey, 1958)

    periodic: N = size, as a spectrum wants it; else N = size - 1, both ends alike.
    """
    return _cosines(size, periodic, (0.5, 0.5), dtype)


def hamming_window(
    size: Size, *, periodic: bool = True, alpha: float = 0.54, dtype: str = "float32"
) -> Any:
    """alpha - (1 - alpha) cos(2 pi n / N) for n < size: [size].  (Hamming, 1977)"""
    return _cosines(size, periodic, (alpha, 1 - alpha), dtype)


def blackman_window(size: Size, *, periodic: bool = True, dtype: str = "float32") -> Any:
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N) for n < size: [size].  (Blackman, 1958)"""
    return _cosines(size, periodic, (0.42, 0.5, 0.08), dtype)


def mel_weight_matrix(
    bands: int, dft_length: int, sample_rate: float, low: float, high: float
) -> np.ndarray:
    """Triangles that take spectra of dft_length // 2 + 1 bins to bands of equal width in mel.

    low, high: edges of the bands, in hertz; mel(f) = 2595 log10(1 + f / 700). Each triangle begins
    and ends at whole bins and is 1 at its peak. float32 [dft_length // 2 + 1, bands].
    (Stevens, Volkmann & Newman, 1937; Davis & Mermelstein, 1980)
    Raises ArgumentError for edges that do not lie in 0 <= low < high <= sample_rate / 2.
    """
    fits = 0 < bands <= MAX_WEIGHTS // max(dft_length, 1)
    if not 0 <= low < high <= sample_rate / 2 or not fits or dft_length < 1:
        raise ArgumentError(
            "the edges must lie in the spectrum",
            expected=f"0 <= low < high <= {sample_rate / 2}",
            got=f"{low=}, {high=}, {bands=}, {dft_length=}",
        )
    mels = 2595 * np.log10(1 + np.array([low, high]) / 700)
    steps = mels[0] + np.arange(bands + 2) * (mels[1] - mels[0]) / (bands + 2)
    edges = np.floor((dft_length + 1) * 700 * (10 ** (steps / 2595) - 1) / sample_rate)
    left, peak, right = edges[:-2], edges[1:-1], edges[2:]
    k = np.arange(dft_length // 2 + 1)[:, None]
    up = (k - left) / np.maximum(peak - left, 1)
    down = (right - k) / np.maximum(right - peak, 1)
    rising = (left <= k) & (k < peak)
    falling = (peak < k) & (k < right)
    weights = np.where(rising, up, np.where(falling, down, k == peak))
    return weights.astype(np.float32)
