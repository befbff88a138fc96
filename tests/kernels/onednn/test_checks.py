"""Combinations oneDNN accepts and then computes wrongly, or crashes on, are refused."""

import pytest

from noria.core.errors import EngineError
from noria.kernels.onednn.attr import Attr, Binary
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.build_norm import batch_norm_forward, layer_norm_forward
from noria.kernels.onednn.build_pointwise import (
    binary,
    eltwise_forward,
    softmax_backward,
    softmax_forward,
)
from noria.kernels.onednn.build_pool import pooling_backward
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window


def f32(*dims, strides=None):
    return MemDesc(dims, "float32", strides)


def test_softmax_of_unequal_dims_is_refused():
    with pytest.raises(EngineError, match="equal dims"):
        softmax_forward(f32(3), f32(5, 2), 0)


def test_layer_norm_between_two_layouts_is_refused():
    with pytest.raises(EngineError, match="layouts"):
        layer_norm_forward(f32(17, 5), f32(17, 5, strides=(1, 17)), 1e-5, training=True)


def test_layer_norm_of_rows_with_gaps_is_refused():
    gaps = f32(17, 5, strides=(8, 1))
    with pytest.raises(EngineError, match="dense"):
        layer_norm_forward(gaps, gaps, 1e-5, training=True)


def test_softmax_gradient_between_two_layouts_is_refused():
    with pytest.raises(EngineError, match="layouts"):
        softmax_backward(f32(2, 5, 4, strides=(20, 1, 5)), f32(2, 5, 4), f32(2, 5, 4), 2)


def test_pooling_gradient_into_memory_with_gaps_is_refused():
    gaps = f32(2, 3, 6, strides=(27, 9, 1))
    with pytest.raises(EngineError, match="dense"):
        pooling_backward("max", gaps, f32(2, 3, 3), (2,), Window((2,), (0,), (0,), (1,)))


def test_too_many_dims_are_refused():
    six = f32(2, 2, 2, 2, 2, 2)
    with pytest.raises(EngineError, match="5 dims at most"):
        eltwise_forward("tanh", six, six)
    with pytest.raises(EngineError):
        batch_norm_forward(six, six, 1e-5)


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


def test_a_binary_post_op_behind_a_pointwise_primitive_is_refused():
    x, attr = f32(5, 3, 1), Attr(post_ops=(Binary("add", f32(1, 3, 1)),))
    with pytest.raises(EngineError, match="does not fuse"):
        binary("mul", x, x, x, attr)
