"""Gradients by the weights of linear layers that share what comes back: made by passes."""

from __future__ import annotations

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import lookup, op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, require_equal
from noria.ops.numeric import in_float32
from noria.ops.rules import by_decomposition


@op(promote=True)
def weight_grads(dy, *xs, bias=False):
    """The products of dy, transposed, with each of xs: dy [N, M], x [N, K] -> [M, K].

    With `bias` the sum of the rows of dy, [M], comes last. Raises ShapeError unless all are
    matrices of as many rows, ArgumentError without xs.
    """
    if not xs or any(x is None for x in xs):
        raise ArgumentError("weight_grads needs one x or more", got=f"{len(xs)}")
    need_float(dy, *xs)
    if any(v.ndim != 2 for v in (dy, *xs)):
        raise ShapeError("matrices are needed", got=", ".join(map(str, (dy, *xs))))
    for x in xs:
        require_equal(dy.shape[0], x.shape[0], "the numbers of rows")
    made = [Spec((dy.shape[1], x.shape[1]), dy.dtype) for x in xs]
    return (*made, *[Spec((dy.shape[1],), dy.dtype)] * bias)


@weight_grads.compute
@in_float32
def _(xp, dy, *xs, bias):
    total = lookup("reduce_sum")
    sums = total.run(xp, [dy], total.bind_attrs({"axis": 0})) if bias else ()
    return (*(xp.matmul(dy.T, x) for x in xs), *sums)


@weight_grads.work
def _(dy, xs):
    return 2.0 * dy.size * sum(x.shape[1] for x in xs)


@weight_grads.decompose
def _(dy, *xs, bias=False):
    products = [o.matmul(dy, x, transpose_x=True) for x in xs]
    return (*products, *[o.reduce_sum(dy, axis=0)] * bias)


@weight_grads.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)
