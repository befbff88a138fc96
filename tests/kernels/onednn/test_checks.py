"""Combinations oneDNN accepts and then computes wrongly, or crashes on, are refused."""

import pytest

from noria.core.errors import EngineError
from noria.kernels.onednn.attr import Attr, Binary
from noria.kernels.onednn.build_conv import convolution_forward
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window


def f32(*dims, strides=None):
    return MemDesc(dims, "float32", strides)


def test_a_bias_with_gaps_is_refused():
    with pytest.raises(EngineError, match="bias"):
        matmul(f32(7, 7), f32(7, 5), f32(7, 5), f32(1, 5, strides=(20, 4)))


def fused(other, dst=None):
    attr = Attr(post_ops=(Binary("add", other),))
    return matmul(f32(6, 7), f32(7, 5), dst or f32(6, 5), None, attr)


@pytest.mark.parametrize("other", [(5,), (2, 5), (6, 3), (1, 6, 5)])
def test_a_post_op_that_does_not_broadcast_is_refused(other):
    with pytest.raises(EngineError):
        fused(f32(*other))


def test_a_post_op_with_gaps_is_refused():
    with pytest.raises(EngineError, match="dense"):
        fused(f32(6, 5, strides=(8, 1)))


def test_a_binary_post_op_on_an_unusual_dst_is_refused():
    with pytest.raises(EngineError, match="row-major"):
        fused(f32(1, 5), f32(6, 5, strides=(1, 6)))


def test_a_binary_post_op_behind_a_transposed_convolution_is_refused():
    window = Window((1, 1), (0, 0), (0, 0), (1, 1))
    x, w, attr = f32(2, 3, 4, 4), f32(3, 3, 1, 1), Attr(post_ops=(Binary("add", f32(1, 3, 1, 1)),))
    with pytest.raises(EngineError, match="does not fuse"):
        convolution_forward(x, w, None, x, window, attr, transposed=True)
