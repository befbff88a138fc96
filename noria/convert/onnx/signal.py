"""Signals: Fourier transforms, windows, weights of mel bands."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.tensors import DTYPES
from noria.convert.onnx.types import program_dtype
from noria.core.dims import Size
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops import fourier
from noria.ops.common import axis_of

# ---- transforms --------------------------------------------------------------------------------


@onnx_op("DFT", since=17)
def dft_17(node: Node, x: Any, length: Any = None) -> Any:
    return _dft(node, x, length, node.attr("axis", 1))


@onnx_op("DFT", since=20)
def dft(node: Node, x: Any, length: Any = None, axis: Any = None) -> Any:
    return _dft(node, x, length, -2 if axis is None else node.ints(axis, "the axis")[0])


def _dft(node: Node, x: Any, length: Any, axis: int) -> Any:
    ndim = len(x.shape)
    axis = axis_of(axis, ndim)
    if axis == ndim - 1:
        raise FormatError("the last axis is that of complex numbers", where=str(node))
    n = None if length is None else node.sizes(length, "dft_length")[0]
    inverse, onesided = node.attr("inverse", 0), node.attr("onesided", 0)
    if onesided and inverse:
        out = o.irfft(_pairs(node, x), n=n, axis=axis)
        return o.unsqueeze(out, axis=ndim - 1)
    if onesided:
        return o.rfft(_real(node, x), n=n, axis=axis)
    transform = o.ifft if inverse else o.fft
    return transform(_pairs(node, x), n=n, axis=axis)


def _real(node: Node, x: Any) -> Any:
    if x.shape[-1] != 1:
        raise FormatError("half a spectrum is enough only for real numbers", where=str(node))
    return o.squeeze(x, axis=-1)


def _pairs(node: Node, x: Any) -> Any:
    """Real numbers [..., 1] or complex ones [..., 2] as complex ones."""
    if x.shape[-1] not in (1, 2):
        raise FormatError("the last axis is 1 or 2", where=str(node), got=str(x.shape))
    return fourier.as_pairs(_real(node, x)) if x.shape[-1] == 1 else x


@onnx_op("STFT")
def stft(node: Node, x: Any, step: Any, window: Any = None, length: Any = None) -> Any:
    size: Any = x.shape[1]
    if length is not None:
        (size,) = node.ints(length, "frame_length")
    elif window is not None:
        size = window.shape[0]
    if not isinstance(size, int):
        raise FormatError("the length of frames is not known", where=str(node), got=str(size))
    onesided = bool(node.attr("onesided", 1))
    signal = _real(node, x) if x.shape[-1] == 1 else x
    return fourier.stft(signal, size, node.ints(step, "frame_step")[0], window, onesided=onesided)


# ---- windows -----------------------------------------------------------------------------------


def _dtype(node: Node) -> np.dtype[Any]:
    code = node.attr("output_datatype", 1)
    if code not in DTYPES or program_dtype(DTYPES[code]) is None:
        raise FormatError("windows have no such type", where=str(node), got=repr(code))
    return DTYPES[code]


@onnx_op("HannWindow", "HammingWindow", "BlackmanWindow", since=17)
def window(node: Node, size: Any) -> Any:
    length: Size = node.sizes(size, "the size")[0]
    periodic = bool(node.attr("periodic", 1))
    if node.op_type == "HannWindow":
        made = fourier.hann_window(length, periodic=periodic, dtype="float64")
    elif node.op_type == "HammingWindow":
        made = fourier.hamming_window(length, periodic=periodic, alpha=25 / 46, dtype="float64")
    else:
        made = fourier.blackman_window(length, periodic=periodic, dtype="float64")
    return o.cast(made, dtype=program_dtype(_dtype(node)))


@onnx_op("MelWeightMatrix", since=17)
def mel_weight_matrix(
    node: Node, bands: Any, dft_length: Any, sample_rate: Any, low: Any, high: Any
) -> Any:
    names = ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")
    given = (bands, dft_length, sample_rate, low, high)
    numbers = [scalar(node.const(x, name)) for x, name in zip(given, names, strict=True)]
    return fourier.mel_weight_matrix(*numbers).astype(_dtype(node))
