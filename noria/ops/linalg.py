"""Products of matrices and vectors."""

from __future__ import annotations

from typing import Any

from noria.core.dims import product
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec
from noria.ops.common import broadcast, need_float, need_rank, require_equal
from noria.ops.numeric import cast_like, products_in_float32, spec_of


def _swap_last(xp: Any, x: Any) -> Any:
    return xp.swapaxes(x, -1, -2)


def _matrix(x: Spec, transpose: bool, which: str) -> tuple[Shape, Any, Any]:
    """(batch shape, rows, columns) of an operand as it enters the product."""
    if x.ndim == 0:
        raise ShapeError(
            f"matmul needs at least one axis in {which}", got=str(x), hint="use mul for scalars"
        )
    if x.ndim == 1:
        if transpose:
            raise ArgumentError(
                f"a vector cannot be transposed: transpose_{which}=True", got=f"{which}: {x}"
            )
        return (), *((1, x.shape[0]) if which == "x" else (x.shape[0], 1))
    rows, columns = x.shape[-2:]
    return x.shape[:-2], *((columns, rows) if transpose else (rows, columns))


@op(promote=True)
def matmul(x, y, *, transpose_x=False, transpose_y=False, dtype=None):
    """Matrix product over the last two axes, the others broadcast as in NumPy.

    x: [..., M, K] ([..., K, M] with transpose_x), y: [..., K, N] ([..., N, K] with transpose_y);
    out: [..., M, N]. A 1-D x is a row whose axis M is left out, a 1-D y a column whose axis N is.
    dtype: of out, default that of x; "float32" keeps the sums over halves as they are, which are
    rounded to halves otherwise. Raises ShapeError unless the inner sizes agree.
    """
    if x.dtype == "bool":
        raise DTypeError("matmul needs numbers", got=f"{x} and {y}", hint="ops.cast")
    batch_x, m, k = _matrix(x, transpose_x, "x")
    batch_y, k2, n = _matrix(y, transpose_y, "y")
    require_equal(k, k2, "the inner sizes of matmul")
    batch = broadcast(Spec(batch_x, x.dtype), Spec(batch_y, y.dtype))
    return Spec((*batch, *(m,) * (x.ndim > 1), *(n,) * (y.ndim > 1)), dtype or x.dtype)


@matmul.compute
@products_in_float32
def _(xp, x, y, transpose_x, transpose_y):
    x = _swap_last(xp, x) if transpose_x else x
    return xp.matmul(x, _swap_last(xp, y) if transpose_y else y)


@matmul.work
def _(x, out, transpose_x):
    return 2.0 * out.size * x.shape[-2 if transpose_x and len(x.shape) > 1 else -1]


@matmul.grad
def _(x, y, g, transpose_x, transpose_y):
    g = cast_like(g, x)
    if x.ndim == 1 and y.ndim == 1:
        return o.mul(g, y), o.mul(g, x)
    xm, ym, gm = _as_matrices(x, y, g)
    gx, gy = _product_grads(xm, ym, gm, transpose_x, transpose_y)
    return _summed(gx, xm, x), _summed(gy, ym, y)


def _as_matrices(x: Any, y: Any, g: Any) -> tuple[Any, Any, Any]:
    """Operands and output gradient with the axis that a vector lacks."""
    if x.ndim == 1:
        g = o.reshape(g, shape=(*g.shape[:-1], 1, g.shape[-1]))
        x = o.reshape(x, shape=(1, *x.shape))
    if y.ndim == 1:
        g = o.reshape(g, shape=(*g.shape, 1))
        y = o.reshape(y, shape=(*y.shape, 1))
    return x, y, g


def _product_grads(x: Any, y: Any, g: Any, tx: bool, ty: bool) -> tuple[Any, Any]:
    """Gradients of matrices, each as one matmul, before sums over broadcast axes."""
    if tx:
        gx = o.matmul(y, g, transpose_x=ty, transpose_y=True)
    else:
        gx = o.matmul(g, y, transpose_y=not ty)
    if y.ndim == 2 and x.ndim > 2 and not tx:  # one flat product instead of a batch and its sum
        x, g = _flat(x), _flat(g)
    if ty:
        gy = o.matmul(g, x, transpose_x=True, transpose_y=tx)
    else:
        gy = o.matmul(x, g, transpose_x=not tx)
    return gx, gy


def _flat(x: Any) -> Any:
    """[..., K] as [product of the others, K]."""
    return x if x.ndim == 2 else o.reshape(x, shape=(product(x.shape[:-1]), x.shape[-1]))


def _summed(g: Any, matrix: Spec, operand: Spec) -> Any:
    """Gradient summed over broadcast axes, without the axis that a vector was given."""
    g = o.sum_to(g, shape=matrix.shape)
    return g if operand.ndim > 1 else o.reshape(g, shape=operand.shape)


@op(promote=(0, 1))
def linear(x, weight, bias=None, *, dtype=None):
    """x @ weight.T + bias.  x: [..., I], weight: [O, I], bias: [O]; out: [..., O].

    Beside halves bias may be float32. dtype: of out, default that of x; "float32" keeps the sums
    over halves as they are. Raises ShapeError unless the sizes agree.
    """
    need_float(x, weight, bias)
    need_rank(weight, 2, what="weight")
    if x.ndim == 0:
        raise ShapeError("linear needs at least one axis in x", got=str(x))
    require_equal(weight.shape[1], x.shape[-1], "the last size of x and the inputs of weight")
    if bias is not None:
        need_rank(bias, 1, what="bias")
        require_equal(weight.shape[0], bias.shape[0], "the outputs of weight and the size of bias")
    return Spec((*x.shape[:-1], weight.shape[0]), dtype or x.dtype)


@linear.compute
@products_in_float32
def _(xp, x, weight, bias):
    out = xp.matmul(x, weight.T)
    return out if bias is None else (out + bias).astype(out.dtype)


@linear.work
def _(x, out):
    return 2.0 * out.size * x.shape[-1]


@linear.grad
def _(x, weight, bias, g):
    g = cast_like(g, x)
    if x.ndim == 1:
        x, flat = (o.reshape(v, shape=(1, *v.shape)) for v in (x, g))
    else:
        x, flat = _flat(x), _flat(g)
    return {
        "x": o.matmul(g, weight),
        "weight": o.matmul(flat, x, transpose_x=True),
        "bias": None if bias is None else o.reduce_sum(cast_like(flat, bias), axis=0),
    }


@linear.decompose
def _(x, weight, bias=None, *, dtype=None):
    if bias is None:
        return o.matmul(x, weight, transpose_y=True, dtype=dtype)
    out = o.matmul(x, weight, transpose_y=True, dtype=None if bias.dtype == x.dtype else bias.dtype)
    out = o.add(out, bias)
    wanted = dtype or x.dtype
    return out if out.dtype == wanted else o.cast(out, dtype=wanted)


# ---- named products ----------------------------------------------------------------------------


def dot(x: Any, y: Any) -> Any:
    """Inner product of two vectors [K]; out: []."""
    need_rank(spec_of(x), 1, what="x of dot")
    need_rank(spec_of(y), 1, what="y of dot")
    return o.matmul(x, y)


def bmm(x: Any, y: Any, *, transpose_x: bool = False, transpose_y: bool = False) -> Any:
    """Products of a batch of matrices: x [B, M, K], y [B, K, N]; out: [B, M, N]."""
    need_rank(spec_of(x), 3, what="x of bmm")
    need_rank(spec_of(y), 3, what="y of bmm")
    require_equal(x.shape[0], y.shape[0], "the batch sizes of bmm")
    return o.matmul(x, y, transpose_x=transpose_x, transpose_y=transpose_y)


def outer(x: Any, y: Any) -> Any:
    """out[i, j] = x[i] * y[j] for vectors [M] and [N]; out: [M, N]."""
    need_rank(spec_of(x), 1, what="x of outer")
    need_rank(spec_of(y), 1, what="y of outer")
    return o.mul(o.reshape(x, shape=(x.shape[0], 1)), y)
