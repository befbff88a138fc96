"""What inference functions share: broadcasting, axes, dtype demands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core import shapes
from noria.core.dims import prove_equal
from noria.core.dtypes import FLOATS, is_float, is_integer
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.core.shapes import Check
from noria.ir import call as _call  # gives op calls their meaning
from noria.ir.opdef import note_checks
from noria.ir.program import Shape, Spec


def shaped(x: Any) -> Any:
    """x if it has a shape and a dtype, as Values, arrays and Parameters do, else as an array."""
    return x if hasattr(x, "shape") and hasattr(x, "dtype") else np.asarray(x)


_dispatch = _call  # kept: importing an op family is enough to call its ops


def broadcast(*specs: Spec) -> Shape:
    """The common shape of NumPy broadcasting; undecided equalities are checked at binding."""
    shape, checks = shapes.broadcast(*(s.shape for s in specs))
    note_checks(checks)
    return tuple(shape)


def require_equal(left: Any, right: Any, what: str) -> None:
    """Two sizes must be the same: now if that can be told, else when sizes are bound."""
    proof = prove_equal(left, right)
    if proof is False:
        raise ShapeError(f"{what} must be equal", expected=str(left), got=str(right))
    if proof is None:
        note_checks([Check(left, right, what)])


def require_same_shape(expected: Spec, value: Spec, what: str) -> None:
    """`value` must have the shape of `expected`: now if that can be told, else when bound."""
    need_rank(value, expected.ndim, what=what)
    for axis, (a, b) in enumerate(zip(expected.shape, value.shape, strict=True)):
        require_equal(a, b, f"axis {axis} of {what} and what it belongs to")


def axis_of(axis: int, ndim: int, what: str = "axis") -> int:
    """A non-negative axis. Raises ArgumentError when it is out of range."""
    if isinstance(axis, bool) or not hasattr(axis, "__index__"):
        raise ArgumentError(f"{what} must be an integer", got=repr(axis))
    if not -ndim <= axis < ndim:
        raise ArgumentError(
            f"{what} is out of range", expected=f"{-ndim} <= {what} < {ndim}", got=str(axis)
        )
    return axis % ndim


def axes_of(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    listed = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    axes = tuple(sorted(axis_of(a, ndim) for a in listed))
    if len(set(axes)) != len(axes):
        raise ArgumentError("an axis is named twice", got=repr(axis))
    return axes


def need_float(*values: Spec | None) -> None:
    """Raises DTypeError unless every present value is of a float dtype."""
    for v in values:
        if v is not None and not is_float(v.dtype):
            raise DTypeError(
                "a float dtype is needed",
                expected=" or ".join(FLOATS),
                got=str(v),
                hint="ops.cast(x, dtype='float32')",
            )


def need_integer(*values: Spec | None) -> None:
    """Raises DTypeError unless every present value is of an integer dtype."""
    for v in values:
        if v is not None and not is_integer(v.dtype):
            raise DTypeError("an integer dtype is needed", expected="int64 or int32", got=str(v))


def need_rank(value: Spec, *ranks: int, what: str = "x") -> None:
    """Raises ShapeError unless the value has one of the ranks."""
    if value.ndim not in ranks:
        wanted = " or ".join(str(r) for r in ranks)
        raise ShapeError(f"{what} must have rank {wanted}", got=str(value))


def pair(value: int | Sequence[int], n: int = 2, what: str = "value") -> tuple[int, ...]:
    """`n` integers from one integer or a sequence of `n`."""
    out = tuple(value) if isinstance(value, Sequence) else (value,) * n
    if len(out) != n or not all(isinstance(v, int) for v in out):
        raise ArgumentError(f"{what} must be an integer or {n} integers", got=repr(value))
    return out
