import itertools

import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.kernels.onednn.build_pool import pooling_backward, pooling_forward
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window

rng = np.random.default_rng(0)


class Naive:
    """Pooling and its gradient, one kernel offset at a time, in float64."""

    def __init__(self, shape, kernel, stride, padding, dilation):
        self.shape, self.kernel = shape, kernel
        self.stride, self.padding, self.dilation = stride, padding, dilation
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        self.out = tuple(
            (n + 2 * p - s) // t + 1
            for n, p, s, t in zip(shape[2:], padding, spans, stride, strict=True)
        )
        behind = tuple(
            (m - 1) * t + s - n - p
            for m, t, s, n, p in zip(self.out, stride, spans, shape[2:], padding, strict=True)
        )
        self.window = Window(stride, padding, behind, dilation)
        self.dst_shape = (*shape[:2], *self.out)

    def _pad(self, x, fill):
        pads = [(0, 0), (0, 0), *((p, p) for p in self.padding)]
        return np.pad(x.astype("d"), pads, constant_values=fill)

    def _reads(self):
        for at in itertools.product(*map(range, self.kernel)):
            reads = [
                slice(a * d, a * d + (m - 1) * t + 1, t)
                for a, d, m, t in zip(at, self.dilation, self.out, self.stride, strict=True)
            ]
            yield (slice(None), slice(None), *reads)

    def _count(self, kind):
        if kind == "avg_include":
            return len(list(self._reads()))
        inside = self._pad(np.ones(self.shape), 0)
        return sum(inside[r] for r in self._reads())

    def forward(self, kind, x):
        padded = self._pad(x, -np.inf if kind == "max" else 0)
        seen = np.stack([padded[r] for r in self._reads()])
        return seen.max(0) if kind == "max" else seen.sum(0) / self._count(kind)

    def backward(self, kind, x, g):
        padded = self._pad(x, -np.inf if kind == "max" else 0)
        into = np.zeros_like(padded)
        where = np.stack([padded[r] for r in self._reads()]).argmax(0)
        for i, r in enumerate(self._reads()):
            into[r] += g * (where == i) if kind == "max" else g / self._count(kind)
        inside = [slice(p, p + n) for p, n in zip(self.padding, self.shape[2:], strict=True)]
        return into[(slice(None), slice(None), *inside)]


CASES = {
    "2x2": ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0), (1, 1)),
    "3x3 padded, odd channels": ((1, 17, 7, 7), (3, 3), (2, 2), (1, 1), (1, 1)),
    "uneven": ((2, 7, 6, 9), (2, 3), (1, 2), (1, 0), (1, 1)),
    "dilated": ((1, 16, 9, 9), (3, 2), (1, 1), (1, 0), (2, 3)),
    "whole image": ((2, 5, 4, 4), (4, 4), (1, 1), (0, 0), (1, 1)),
    "unread last column": ((1, 3, 8, 8), (3, 3), (2, 2), (0, 0), (1, 1)),
    "1-d": ((2, 7, 11), (3,), (2,), (1,), (1,)),
    "3-d": ((1, 3, 5, 6, 5), (2, 3, 2), (2, 1, 1), (0, 1, 0), (1, 1, 1)),
}


@pytest.fixture(params=list(CASES))
def case(request):
    return Naive(*CASES[request.param])


@pytest.fixture(params=["NCHW", "NHWC"])
def place(request, arrays):
    return arrays.last if request.param == "NHWC" else arrays.lay


@pytest.mark.parametrize("kind", ["max", "avg_include", "avg_exclude"])
def test_training_forward_then_backward(arrays, case, place, kind):
    x = place(rng.standard_normal(case.shape).astype("f"))
    out = place(np.zeros(case.dst_shape, "f"))
    p = pooling_forward(
        kind, arrays.desc(x), arrays.desc(out), case.kernel, case.window, training=True
    )
    buffers = arrays.execute(p, {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_allclose(out, case.forward(kind, x), rtol=1e-5, atol=1e-5)

    g, dx = place(rng.standard_normal(case.dst_shape).astype("f")), place(np.zeros_like(x))
    back = pooling_backward(kind, arrays.desc(dx), arrays.desc(g), case.kernel, case.window)
    assert back.workspace_bytes == p.workspace_bytes
    assert (p.workspace_bytes > 0) == (kind == "max")
    kept = {ARG.WORKSPACE: buffers[ARG.WORKSPACE]} if kind == "max" else {}
    arrays.execute(back, {ARG.DIFF_SRC: dx, ARG.DIFF_DST: g}, kept)
    np.testing.assert_allclose(dx, case.backward(kind, x, g), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["max", "avg_include", "avg_exclude"])
def test_inference_needs_no_workspace(arrays, place, kind):
    case = Naive(*CASES["3x3 padded, odd channels"])
    x = place(rng.standard_normal(case.shape).astype("f"))
    out = place(np.zeros(case.dst_shape, "f"))
    p = pooling_forward(kind, arrays.desc(x), arrays.desc(out), case.kernel, case.window)
    assert p.workspace_bytes == 0
    arrays.execute(p, {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_allclose(out, case.forward(kind, x), rtol=1e-5, atol=1e-5)


def test_unfit_pooling_is_refused():
    x, out = MemDesc((1, 3, 8, 8), "float32"), MemDesc((1, 3, 4, 4), "float32")
    w = Window((2, 2), (0, 0), (0, 0), (1, 1))
    with pytest.raises(ArgumentError, match="did you mean 'max'"):
        pooling_forward("maxx", x, out, (2, 2), w)
    for kernel in ((2,), (0, 2), ()):
        with pytest.raises(ArgumentError, match="kernel"):
            pooling_forward("max", x, out, kernel, w)
    with pytest.raises(ArgumentError, match="window"):
        pooling_backward("max", MemDesc((8,), "float32"), out, (2,), w)
    with pytest.raises(EngineError, match=r"pooling[\s\S]*kernel=\(3, 3\)"):
        pooling_forward("max", x, out, (3, 3), w)
