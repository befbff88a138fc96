"""Fluid's broadcasting: the shorter shape is put at an axis of the longer one."""

from __future__ import annotations

from typing import Any

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import spec_of


def aligned(x: Any, y: Any, axis: int) -> tuple[Any, Any]:
    """x and y with shapes that broadcast by NumPy's rules.

    axis: where the axes of y begin among those of x; -1: at the end. Sizes of 1 at the end of y do
    not count, as in Fluid. Where x has the smaller rank the two change parts.
    """
    a, b = spec_of(x), spec_of(y)
    if a.ndim < b.ndim:
        y, x = aligned(y, x, axis)
        return x, y
    if axis == -1 or a.ndim == b.ndim:
        return x, y
    shape = list(b.shape)
    if not 0 <= axis <= a.ndim:
        raise ArgumentError(
            "axis is out of range", expected=f"-1 <= axis <= {a.ndim}", got=str(axis)
        )
    while shape and axis + len(shape) > a.ndim and shape[-1] == 1:
        shape.pop()
    after = a.ndim - axis - len(shape)
    if after < 0:
        raise ArgumentError(
            "the second value does not fit behind the axis",
            expected=f"at most {a.ndim - axis} axes",
            got=f"{b}, axis={axis}",
        )
    if after == 0 and len(shape) == b.ndim:
        return x, y
    return x, o.reshape(y, shape=(*shape, *(1,) * after))
