import itertools

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.kernels.onednn.attr import Attr, Binary, Eltwise
from noria.kernels.onednn.build_conv import (
    convolution_backward_data,
    convolution_backward_weights,
    convolution_forward,
)
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window

rng = np.random.default_rng(0)


class Naive:
    """A grouped convolution and its gradients, one kernel offset at a time, in float64."""

    def __init__(self, shape, weights, stride, padding, dilation):
        self.shape, self.weights = shape, weights
        self.grouped = len(weights) > len(shape)
        self.g, self.o, self.i, *self.kernel = weights if self.grouped else (1, *weights)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, dilation, strict=True)]
        self.out = tuple(
            (n + 2 * p - s) // t + 1
            for n, p, s, t in zip(shape[2:], padding, spans, stride, strict=True)
        )
        behind = tuple(
            (m - 1) * t + s - n - p
            for m, t, s, n, p in zip(self.out, stride, spans, shape[2:], padding, strict=True)
        )
        self.window = Window(tuple(stride), tuple(padding), behind, tuple(dilation))
        self.dst_shape = (shape[0], self.g * self.o, *self.out)

    def _split(self, array, channels):
        return array.reshape(self.shape[0], self.g, channels, *array.shape[2:])

    def _pad(self, x):
        return np.pad(x.astype("d"), [(0, 0), (0, 0), *((p, p) for p in self.padding)])

    def _offsets(self):
        for at in itertools.product(*map(range, self.kernel)):
            starts = [a * d for a, d in zip(at, self.dilation, strict=True)]
            reads = [
                slice(s, s + (m - 1) * t + 1, t)
                for s, m, t in zip(starts, self.out, self.stride, strict=True)
            ]
            yield at, (slice(None),) * 3 + tuple(reads)

    def forward(self, x, w):
        x, w = self._split(self._pad(x), self.i), w.reshape(self.g, self.o, self.i, *self.kernel)
        y = sum(
            np.einsum("ngi...,goi->ngo...", x[reads], w[(..., *at)])
            for at, reads in self._offsets()
        )
        return y.reshape(self.dst_shape)

    def data(self, g, w):
        w, g = w.reshape(self.g, self.o, self.i, *self.kernel), self._split(g.astype("d"), self.o)
        padded = self._pad(np.zeros(self.shape))
        into = self._split(padded, self.i)
        for at, reads in self._offsets():
            into[reads] += np.einsum("ngo...,goi->ngi...", g, w[(..., *at)])
        inside = [slice(p, p + n) for p, n in zip(self.padding, self.shape[2:], strict=True)]
        return padded[(slice(None), slice(None), *inside)]

    def by_weights(self, x, g):
        x, g = self._split(self._pad(x), self.i), self._split(g.astype("d"), self.o)
        dw = np.zeros((self.g, self.o, self.i, *self.kernel))
        n = len(self.kernel)
        letters = "xyz"[:n]
        for at, reads in self._offsets():
            dw[(..., *at)] = np.einsum(f"ngo{letters},ngi{letters}->goi", g, x[reads])
        return dw.reshape(self.weights)


CASES = {
    "3 channels, stride 2, padded": ((2, 3, 9, 8), (16, 3, 3, 3), (2, 2), (1, 1), (1, 1)),
    "1x1": ((2, 17, 5, 6), (7, 17, 1, 1), (1, 1), (0, 0), (1, 1)),
    "1x1 with stride": ((1, 16, 7, 7), (32, 16, 1, 1), (2, 2), (0, 0), (1, 1)),
    "odd channels": ((1, 7, 6, 6), (17, 7, 3, 3), (1, 1), (1, 1), (1, 1)),
    "uneven kernel and stride": ((2, 3, 8, 10), (5, 3, 2, 5), (1, 2), (0, 2), (1, 1)),
    "dilated": ((1, 3, 11, 11), (4, 3, 3, 3), (1, 2), (2, 1), (2, 3)),
    "unread last column": ((1, 4, 8, 8), (4, 4, 3, 3), (2, 2), (0, 0), (1, 1)),
    "groups": ((2, 6, 6, 6), (3, 5, 2, 3, 3), (1, 1), (1, 1), (1, 1)),
    "depthwise": ((2, 17, 7, 7), (17, 1, 1, 3, 3), (2, 2), (1, 1), (1, 1)),
    "depthwise of 16": ((1, 16, 7, 7), (16, 1, 1, 3, 3), (1, 1), (1, 1), (1, 1)),
    "depthwise, 2 outputs each": ((1, 3, 7, 7), (3, 2, 1, 3, 3), (1, 1), (1, 1), (1, 1)),
    "1-d": ((2, 3, 17), (7, 3, 5), (2,), (2,), (1,)),
    "1-d groups": ((2, 4, 9), (2, 3, 2, 3), (1,), (1,), (1,)),
    "3-d": ((1, 3, 5, 6, 7), (4, 3, 3, 2, 3), (1, 2, 1), (1, 0, 1), (1, 1, 1)),
    "3-d groups": ((1, 4, 4, 4, 4), (2, 3, 2, 2, 2, 2), (1, 1, 1), (0, 1, 0), (1, 1, 1)),
}


@pytest.fixture(params=list(CASES))
def case(request):
    return Naive(*CASES[request.param])


@pytest.fixture(params=["NCHW", "NHWC"])
def place(request, arrays):
    return arrays.last if request.param == "NHWC" else arrays.lay


@pytest.fixture(params=["plain weights", "open weights"])
def weights_of(request, arrays):
    def desc(w):
        d = arrays.desc(w)
        return MemDesc.any(d.dims, d.dtype) if request.param == "open weights" else d

    return desc


def normal(*shape):
    return rng.standard_normal(shape).astype("f")


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("biased", [False, True])
def test_forward(arrays, case, place, weights_of, biased):
    x, w = place(normal(*case.shape)), normal(*case.weights)
    out = place(np.zeros(case.dst_shape, "f"))
    bias = normal(case.g * case.o) if biased else None
    b = arrays.desc(bias) if biased else None
    p = convolution_forward(arrays.desc(x), weights_of(w), b, arrays.desc(out), case.window)
    given = {ARG.SRC: x, ARG.WEIGHTS: w, ARG.DST: out} | ({ARG.BIAS: bias} if biased else {})
    arrays.execute(p, given)
    want = case.forward(x, w)
    close(out, want + bias.reshape(1, -1, *[1] * len(case.kernel)) if biased else want)


def test_backward_data(arrays, case, place, weights_of):
    dx, w = place(np.zeros(case.shape, "f")), normal(*case.weights)
    g = place(normal(*case.dst_shape))
    p = convolution_backward_data(arrays.desc(dx), weights_of(w), arrays.desc(g), case.window)
    arrays.execute(p, {ARG.DIFF_SRC: dx, ARG.WEIGHTS: w, ARG.DIFF_DST: g})
    close(dx, case.data(g, w))


@pytest.mark.parametrize("biased", [False, True])
def test_backward_weights(arrays, case, place, weights_of, biased):
    x, dw = place(normal(*case.shape)), np.zeros(case.weights, "f")
    g, db = place(normal(*case.dst_shape)), np.zeros(case.g * case.o, "f")
    b = arrays.desc(db) if biased else None
    p = convolution_backward_weights(arrays.desc(x), weights_of(dw), b, arrays.desc(g), case.window)
    given = {ARG.SRC: x, ARG.DIFF_WEIGHTS: dw, ARG.DIFF_DST: g}
    arrays.execute(p, given | ({ARG.DIFF_BIAS: db} if biased else {}))
    close(dw, case.by_weights(x, g))
    if biased:
        close(db, g.sum(axis=tuple(i for i in range(g.ndim) if i != 1)))


def test_transposed_convolution_and_its_gradients(arrays, case, place, weights_of):
    """Its src is the convolution's dst, and its weights have input and output exchanged."""
    rank = len(case.kernel)
    src, w = place(normal(*case.dst_shape)), normal(*case.weights)
    out, g = place(np.zeros(case.shape, "f")), place(normal(*case.shape))
    swapped = np.swapaxes(w, -rank - 1, -rank - 2)
    how = (case.window, Attr())

    p = convolution_forward(
        arrays.desc(src), weights_of(swapped), None, arrays.desc(out), *how, transposed=True
    )
    arrays.execute(p, {ARG.SRC: src, ARG.WEIGHTS: swapped, ARG.DST: out})
    close(out, case.data(src, w))

    dsrc = place(np.zeros(case.dst_shape, "f"))
    p = convolution_backward_data(
        arrays.desc(dsrc), weights_of(swapped), arrays.desc(g), *how, transposed=True
    )
    arrays.execute(p, {ARG.DIFF_SRC: dsrc, ARG.WEIGHTS: swapped, ARG.DIFF_DST: g})
    close(dsrc, case.forward(g, w))

    dw = np.swapaxes(np.zeros(case.weights, "f"), -rank - 1, -rank - 2)
    p = convolution_backward_weights(
        arrays.desc(src), weights_of(dw), None, arrays.desc(g), *how, transposed=True
    )
    arrays.execute(p, {ARG.SRC: src, ARG.DIFF_WEIGHTS: dw, ARG.DIFF_DST: g})
    close(np.swapaxes(dw, -rank - 1, -rank - 2), case.by_weights(g, src))


def test_a_transposed_convolution_has_a_bias_too(arrays):
    src, w, bias = normal(1, 4, 5, 5), normal(3, 4, 2, 2), normal(3)
    out = np.zeros((1, 3, 6, 6), "f")
    p = convolution_forward(
        arrays.desc(src),
        arrays.desc(w),
        arrays.desc(bias),
        arrays.desc(out),
        Window((1, 1), (0, 0), (0, 0), (1, 1)),
        transposed=True,
    )
    arrays.execute(p, {ARG.SRC: src, ARG.WEIGHTS: w, ARG.BIAS: bias, ARG.DST: out})
    naive = Naive((1, 3, 6, 6), (4, 3, 2, 2), (1, 1), (0, 0), (1, 1))
    close(out, naive.data(src, np.swapaxes(w, 0, 1)) + bias.reshape(1, 3, 1, 1))


def test_residual_and_relu_are_fused(arrays, place):
    case = Naive((1, 7, 6, 6), (17, 7, 3, 3), (1, 1), (1, 1), (1, 1))
    x, w = place(normal(*case.shape)), normal(*case.weights)
    out, other = place(np.zeros(case.dst_shape, "f")), place(normal(*case.dst_shape))
    attr = Attr(post_ops=(Binary("add", arrays.desc(other)), Eltwise("relu")))
    weights = MemDesc.any(w.shape, "float32")
    p = convolution_forward(arrays.desc(x), weights, None, arrays.desc(out), case.window, attr)
    given = {ARG.SRC: x, ARG.WEIGHTS: w, ARG.DST: out, ARG.post_op(0): other}
    arrays.execute(p, given)
    close(out, np.maximum(case.forward(x, w) + other, 0))


@pytest.mark.usefixtures("halves")
def test_bfloat16_activations_with_float32_weight_gradients(arrays):
    case = Naive((2, 16, 6, 6), (8, 16, 3, 3), (1, 1), (1, 1), (1, 1))
    x = arrays.last(normal(*case.shape).astype(ml_dtypes.bfloat16))
    g = arrays.last(normal(*case.dst_shape).astype(ml_dtypes.bfloat16))
    dw = np.zeros(case.weights, "f")
    p = convolution_backward_weights(
        arrays.desc(x), MemDesc.any(dw.shape, "float32"), None, arrays.desc(g), case.window
    )
    arrays.execute(p, {ARG.SRC: x, ARG.DIFF_WEIGHTS: dw, ARG.DIFF_DST: g})
    np.testing.assert_allclose(dw, case.by_weights(x, g), rtol=1e-3, atol=1e-3)


def test_unfit_convolutions_are_refused():
    x, out = MemDesc((1, 3, 8, 8), "float32"), MemDesc((1, 4, 8, 8), "float32")
    w = MemDesc((4, 3, 3, 3), "float32")
    same = Window((1, 1), (1, 1), (1, 1), (1, 1))
    with pytest.raises(EngineError, match=r"convolution[\s\S]*strides=\(1, 1\)"):
        convolution_forward(x, MemDesc((4, 2, 3, 3), "float32"), None, out, same)
    with pytest.raises(EngineError, match="convolution"):
        convolution_forward(x, w, None, out, same._replace(padding_l=(0, 0)))
    with pytest.raises(EngineError, match="convolution"):
        convolution_forward(x, MemDesc((2, 4, 3, 3, 3), "float32"), None, out, same)
    with pytest.raises(EngineError, match="deconvolution_backward_data"):
        convolution_backward_data(x, w, MemDesc((1,), "float32"), same, transposed=True)
    with pytest.raises(ArgumentError, match="window"):
        convolution_backward_weights(x, w, None, out, Window((1,), (1,), (1,), (1,)))
