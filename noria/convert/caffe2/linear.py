"""Products of matrices: fully connected layers, MatMul, BatchMatMul."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import as_rows, pullback
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.dims import product
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o


def fully_connected(op: Node, x: Any, w: Any, b: Any) -> Any:
    """x [M, K] w [N, K] (FCTransposed: [K, N]) b [N] -> [M, N]; axes before `axis` are M."""
    transposed = not op.type.startswith("FCTransposed")
    axis = op.attr("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    rows, weight = as_rows(op, x, axis), as_rows(op, w, op.attr("axis_w", 1))
    y = o.matmul(rows, weight, transpose_y=transposed)
    y = o.add(y, o.cast(o.reshape(b, shape=(product(b.shape),)), dtype=y.dtype))
    return o.reshape(y, shape=(*x.shape[:axis], y.shape[1]))


@caffe2_op("FC", "FCTransposed", "PackedFC")
def fc(op, x, w, b):
    return fully_connected(op, x, w, b)


@caffe2_op("FCGradient", "FCTransposedGradient")
def fc_gradient(op, x, w, dy):
    """(dW, db, dX)"""
    n = w.shape[1] if op.type.startswith("FCTransposed") else w.shape[0]
    zeros = o.fill(shape=(n,), value=0.0, dtype=dy.dtype)
    fn = lambda a, c, d: fully_connected(op, a, c, d)  # noqa: E731
    dx, dw, db = pullback(fn, [x, w, zeros], [dy], [0, 1, 2])
    return dw, db, dx


@caffe2_op("MatMul")
def mat_mul(op, a, b):
    """Matrices, or what `axis_a` and `axis_b` make matrices of."""
    x, y = as_rows(op, a, op.attr("axis_a", 1)), as_rows(op, b, op.attr("axis_b", 1))
    return o.matmul(
        x, y, transpose_x=op.attr("trans_a", False), transpose_y=op.attr("trans_b", False)
    )


@caffe2_op("BatchMatMul")
def batch_mat_mul(op, a, b):
    """Products of the last two axes; leading ones agree, or broadcast where `broadcast` is set."""
    flags = {"transpose_x": op.attr("trans_a", False), "transpose_y": op.attr("trans_b", False)}
    if not op.attr("broadcast", False) and len(a.shape) != len(b.shape):
        raise ShapeError("both inputs need the same rank", expected=str(a), got=str(b))
    if len(a.shape) > 1 and len(b.shape) > 1:
        return o.matmul(a, b, **flags)
    x = o.unsqueeze(a, axis=0) if len(a.shape) == 1 else a
    y = o.unsqueeze(b, axis=1) if len(b.shape) == 1 else b
    kept = {
        "transpose_x": flags["transpose_x"] and len(a.shape) > 1,
        "transpose_y": flags["transpose_y"] and len(b.shape) > 1,
    }
    out = o.matmul(x, y, **kept)
    out = o.squeeze(out, axis=len(out.shape) - 1) if len(b.shape) == 1 else out
    return (
        o.squeeze(out, axis=len(out.shape) - 2 + (len(b.shape) == 1)) if len(a.shape) == 1 else out
    )


@caffe2_op("ElementwiseLinear")
def elementwise_linear(op, x, w, b):
    """x * w + b with w and b along the axes from `axis` on."""
    return _elementwise_linear(op, x, w, b)


def _elementwise_linear(op: Node, x: Any, w: Any, b: Any) -> Any:
    rows = as_rows(op, x)
    return o.reshape(o.add(o.mul(rows, w), b), shape=x.shape)


@caffe2_op("ElementwiseLinearGradient")
def elementwise_linear_gradient(op, dy, x, w):
    """(dX, dw, db)"""
    zeros = o.fill(shape=w.shape, value=0.0, dtype=w.dtype)
    fn = lambda a, c, d: _elementwise_linear(op, a, c, d)  # noqa: E731
    return pullback(fn, [x, w, zeros], [dy], [0, 1, 2])
