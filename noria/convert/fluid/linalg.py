"""Products of matrices and vectors, and what is made of them."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.convert.fluid.math import one
from noria.convert.fluid.shape import bounded
from noria.core.dims import product
from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o


@fluid_op("mul")
def mul(op: Op) -> dict[str, Any]:
    """The product of two matrices: axes in front of a position are rows, those behind columns."""
    x, y = op.input("X"), op.input("Y")
    left, right = op.attr("x_num_col_dims", 1), op.attr("y_num_col_dims", 1)
    rows, columns = tuple(x.shape[:left]), tuple(y.shape[right:])
    flat = o.matmul(_matrix(x, left), _matrix(y, right))
    return {"Out": flat if len(rows) + len(columns) == 2 else o.reshape(flat, shape=rows + columns)}


def _matrix(x: Any, axis: int) -> Any:
    if len(x.shape) == 2 and axis == 1:
        return x
    return o.reshape(x, shape=(product(x.shape[:axis]), product(x.shape[axis:])))


@fluid_op("matmul")
def matmul(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.input("Y")
    tx, ty = bool(op.attr("transpose_X", False)), bool(op.attr("transpose_Y", False))
    vectors = len(x.shape) == 1, len(y.shape) == 1
    if vectors[0]:
        x = o.unsqueeze(x, axis=0)
    if vectors[1]:
        y = o.unsqueeze(y, axis=1)
    heads = bounded(op.attr("head_number", 1), 0, 1024, "the number of heads")
    out = _by_heads(x, y, tx, ty, heads) if heads > 1 else _product(x, y, tx, ty)
    alpha = op.attr("alpha", 1.0)
    out = out if alpha == 1.0 else o.mul(out, float(alpha))
    rank = len(out.shape)
    drop = [i for i, v in ((rank - 2, vectors[0]), (rank - 1, vectors[1])) if v]
    drop = [i for i in drop if out.shape[i] == 1]
    if drop:
        out = one(out) if len(drop) == rank else o.squeeze(out, axis=tuple(drop))
    return {"Out": _rearranged(op, out)}


def _product(x: Any, y: Any, tx: bool, ty: bool) -> Any:
    return o.matmul(x, y, transpose_x=tx, transpose_y=ty)


def _by_heads(x: Any, y: Any, tx: bool, ty: bool, heads: int) -> Any:
    """Each head multiplies its columns of x with its rows of y; results side by side.

    Where y has only as many rows as one head needs, each head takes its columns instead.
    """
    depth, rows = (len(x.shape) - (2 if tx else 1)), (len(y.shape) - (1 if ty else 2))
    columns = len(y.shape) - (2 if ty else 1)
    xs = o.split(x, num=heads, axis=depth)
    ys = o.split(y, num=heads, axis=rows if x.shape[depth] == y.shape[rows] else columns)
    parts = [_product(a, b, tx, ty) for a, b in zip(xs, ys, strict=True)]
    return o.concat(*parts, axis=-1)


def _rearranged(op: Op, out: Any) -> Any:
    """What a fusing pass of Paddle put behind the product."""
    shape, perm = op.attr("fused_reshape_Out", ()), op.attr("fused_transpose_Out", ())
    if shape:
        out = o.reshape(
            out, shape=tuple(out.shape[i] if d == 0 else d for i, d in enumerate(shape))
        )
    return o.transpose(out, perm=perm) if perm else out


@fluid_op("matmul_v2")
def matmul_v2(op: Op) -> dict[str, Any]:
    x, y = op.input("X"), op.input("Y")
    tx = bool(op.attr("trans_x", False)) and len(x.shape) > 1
    ty = bool(op.attr("trans_y", False)) and len(y.shape) > 1
    out = o.matmul(x, y, transpose_x=tx, transpose_y=ty)
    return {"Out": out if out.shape else one(out)}


@fluid_op("bmm")
def bmm(op: Op) -> dict[str, Any]:
    return {"Out": o.matmul(op.input("X"), op.input("Y"))}


@fluid_op("dot")
def dot(op: Op) -> dict[str, Any]:
    spread = o.mul(op.input("X"), op.input("Y"))
    return {"Out": o.cast(o.reduce_sum(spread, axis=-1, keepdims=True), dtype=spread.dtype)}


@fluid_op("mv")
def mv(op: Op) -> dict[str, Any]:
    return {"Out": o.matmul(op.input("X"), op.input("Vec"))}


@fluid_op("addmm")
def addmm(op: Op) -> dict[str, Any]:
    flat = o.mul(o.matmul(op.input("X"), op.input("Y")), float(op.attr("Alpha", 1.0)))
    return {"Out": o.add(o.mul(op.input("Input"), float(op.attr("Beta", 1.0))), flat)}


@fluid_op("bilinear_tensor_product")
def bilinear_tensor_product(op: Op) -> dict[str, Any]:
    """out[n, k] = x[n] @ weight[k] @ y[n] + bias[k]: weight [K, M, N]."""
    x, y, weight, bias = op.input("X"), op.input("Y"), op.input("Weight"), op.get("Bias")
    k, m, n = weight.shape
    side = o.reshape(o.transpose(weight, perm=(1, 0, 2)), shape=(m, k * n))
    spread = o.reshape(o.matmul(x, side), shape=(x.shape[0], k, n))
    out = o.reduce_sum(o.mul(spread, o.unsqueeze(y, axis=1)), axis=2)
    return {"Out": out if bias is None else o.add(out, o.reshape(bias, shape=(1, k)))}


@fluid_op("fsp")
def fsp(op: Op) -> dict[str, Any]:
    """Products of channels over all places, their mean: [N, C, ...], [N, D, ...] -> [N, C, D]."""
    x, y = op.input("X"), op.input("Y")
    places = product(x.shape[2:])
    flat = [o.reshape(v, shape=(v.shape[0], v.shape[1], places)) for v in (x, y)]
    count = o.cast(o.dim_value(dim=places), dtype=x.dtype)
    return {"Out": o.div(o.matmul(flat[0], flat[1], transpose_y=True), count)}


@fluid_op("conv_shift")
def conv_shift(op: Op) -> dict[str, Any]:
    """Circular correlation: out[n, i] = sum over k of x[n, i + k - K // 2] y[n, k], K odd."""
    x, y = op.input("X"), op.input("Y")
    taps = y.shape[1]
    if bounded(taps, 1, 4096, "the width of the filter") % 2 == 0:
        raise ShapeError("the filter of conv_shift has an odd width", got=str(taps))
    columns = o.split(y, num=taps, axis=1) if taps > 1 else [y]
    out: Any = None
    for k, column in enumerate(columns):
        part = o.mul(o.roll(x, shift=taps // 2 - k, axis=1), column)
        out = part if out is None else o.add(out, part)
    return {"Out": out}


@fluid_op("trace")
def trace(op: Op) -> dict[str, Any]:
    x = op.input("Input")
    first, second = (op.attr(n, d) % len(x.shape) for n, d in (("dim1", 0), ("dim2", 1)))
    others = [i for i in range(len(x.shape)) if i not in (first, second)]
    planes = o.transpose(x, perm=(*others, first, second))
    n, m = planes.shape[-2:]
    mask = o.eye(n=n, m=m, k=op.attr("offset", 0), dtype=planes.dtype)
    out = o.reduce_sum(o.mul(planes, mask), axis=(-2, -1))
    return {"Out": o.cast(out if out.shape else one(out), dtype=x.dtype)}


@fluid_op("diag", "diag_v2")
def diag(op: Op) -> dict[str, Any]:
    """A square matrix with the vector on its diagonal; diag_v2 takes the diagonal of a matrix."""
    x = op.input("Diagonal") if op.type == "diag" else op.input("X")
    offset = op.attr("offset", 0) if op.type == "diag_v2" else 0
    if op.type == "diag_v2" and len(x.shape) == 2:
        raise ShapeError("the diagonal of a matrix is not converted", got=str(tuple(x.shape)))
    return {"Out": _on_diagonal(x, offset)}


def _on_diagonal(x: Any, offset: int) -> Any:
    """[..., n] -> [..., n + |offset|, n + |offset|] with x on a diagonal."""
    n = x.shape[-1] + abs(offset)
    before = (max(-offset, 0), max(offset, 0))
    rows = o.pad(
        x, pads=((0, 0),) * (len(x.shape) - 1) + ((before[0], n - x.shape[-1] - before[0]),)
    )
    mask = o.eye(n=n, k=offset, dtype=x.dtype)
    return o.mul(o.unsqueeze(rows, axis=-1), mask)


@fluid_op("diag_embed")
def diag_embed(op: Op) -> dict[str, Any]:
    x = op.input("Input")
    planes = _on_diagonal(x, op.attr("offset", 0))
    rank = len(planes.shape)
    first, second = (op.attr(n, d) % rank for n, d in (("dim1", -2), ("dim2", -1)))
    order: list[int] = list(range(rank - 2))
    for axis, source in sorted(((first, rank - 2), (second, rank - 1))):
        order.insert(axis, source)
    return {"Out": o.transpose(planes, perm=tuple(order))}
