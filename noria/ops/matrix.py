"""Determinants and inverses of square matrices, of any number of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, require_equal
from noria.ops.numeric import in_float32


def _square(x: Spec) -> Spec:
    need_float(x)
    if x.ndim < 2:
        raise ShapeError("a matrix has two axes", got=str(x))
    require_equal(x.shape[-2], x.shape[-1], "the rows and columns of a square matrix")
    return x


@op
def det(x):
    """The determinant of each matrix: [..., n, n] gives [...]; 1 for n = 0.

    The gradient is that of an invertible matrix; at a singular one it is not defined.
    """
    return Spec(_square(x).shape[:-2], x.dtype)


@det.compute
@in_float32
def _(xp, x):
    return xp.linalg.det(x)


@det.grad
def _(x, out, g):
    scale = o.unsqueeze(o.mul(g, out), axis=(-2, -1))
    return o.mul(scale, _turned(o.inverse(x)))


@op
def inverse(x):
    """The inverse of each matrix of [..., n, n].

    Raises ArgumentError, when it runs, for a matrix that has none.
    """
    return _square(x)


@inverse.compute
@in_float32
def _(xp, x):
    try:
        return xp.linalg.inv(x)
    except np.linalg.LinAlgError as error:
        raise ArgumentError("a matrix has no inverse", got=str(error)) from None


@inverse.grad
def _(out, g):
    return o.neg(o.matmul(o.matmul(out, g, transpose_x=True), out, transpose_y=True))


def _turned(x: Any) -> Any:
    order = tuple(range(x.ndim))
    return o.transpose(x, perm=(*order[:-2], order[-1], order[-2]))
