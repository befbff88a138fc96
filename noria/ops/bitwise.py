"""Bits of integers, element by element, with NumPy broadcasting. There are no gradients.

Two arrays of different dtypes are first cast to their common one. Booleans count as one bit, but
are not shifted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import ceil_div
from noria.core.dtypes import as_dtype, is_integer, itemsize, to_numpy
from noria.core.errors import DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import axis_of, broadcast, need_integer, require_same_shape
from noria.ops.elementwise import IN_PLACE_1, IN_PLACE_2


def _bits(*values: Spec) -> Spec:
    for v in values:
        if v.dtype != "bool" and not is_integer(v.dtype):
            raise DTypeError("bits are those of integers", expected="an integer dtype", got=str(v))
    return Spec(broadcast(*values), values[0].dtype)


@op(promote=True, overwrites=IN_PLACE_2)
def bitwise_and(x, y):
    """The bits that both have."""
    return _bits(x, y)


@bitwise_and.compute
def _(xp, x, y):
    return xp.bitwise_and(x, y)


@op(promote=True, overwrites=IN_PLACE_2)
def bitwise_or(x, y):
    """The bits that either has."""
    return _bits(x, y)


@bitwise_or.compute
def _(xp, x, y):
    return xp.bitwise_or(x, y)


@op(promote=True, overwrites=IN_PLACE_2)
def bitwise_xor(x, y):
    """The bits that only one has."""
    return _bits(x, y)


@bitwise_xor.compute
def _(xp, x, y):
    return xp.bitwise_xor(x, y)


@op(overwrites=IN_PLACE_1)
def bitwise_not(x):
    """All bits turned round: -1 - x of a signed integer."""
    return _bits(x)


@bitwise_not.compute
def _(xp, x):
    return xp.invert(x)


@op(promote=True, overwrites=IN_PLACE_2)
def shift_left(x, y):
    """x * 2^y without what does not fit; 0 where y is not below the number of bits, or negative."""
    need_integer(x, y)
    return _bits(x, y)


@shift_left.compute
def _(xp, x, y):
    inside, steps = _steps(xp, x, y)
    return xp.where(inside, xp.left_shift(x, steps), 0).astype(x.dtype)


@op(promote=True, overwrites=IN_PLACE_2)
def shift_right(x, y):
    """floor(x / 2^y); where y is not below the number of bits, or negative, 0 (-1 for x < 0)."""
    need_integer(x, y)
    return _bits(x, y)


@shift_right.compute
def _(xp, x, y):
    inside, steps = _steps(xp, x, y)
    beyond = xp.zeros_like(x) - (x < 0).astype(x.dtype)  # the sign everywhere
    return xp.where(inside, xp.right_shift(x, steps), beyond)


@op
def bitcast(x, *, dtype):
    """x with its bits read as numbers of `dtype`; bool is none of these.

    Of the same width: [...] -> [...]. To narrower numbers: [...] -> [..., k], the k parts of each,
    the lowest first. To wider ones: [..., k] -> [...], the last axis together makes one number.
    """
    out = as_dtype(dtype)
    if "bool" in (x.dtype, out):
        raise DTypeError("a bool has no bits of its own to read", got=f"{x.dtype} as {dtype}")
    old, new = itemsize(x.dtype), itemsize(out)
    if old >= new:
        return Spec((*x.shape, old // new) if old > new else x.shape, out)
    if not x.ndim or x.shape[-1] != new // old:
        raise ShapeError(
            "the last axis must make one number", expected=f"[..., {new // old}]", got=str(x)
        )
    return Spec(x.shape[:-1], out)


@bitcast.compute
def _(xp, x, dtype):
    if xp is not np:
        from jax.lax import bitcast_convert_type

        return bitcast_convert_type(x, to_numpy(dtype))
    flat, new = np.ascontiguousarray(x).reshape(x.shape), itemsize(as_dtype(dtype))
    if x.dtype.itemsize > new:
        return flat.reshape(*x.shape, 1).view(to_numpy(dtype))
    out = flat.view(to_numpy(dtype)) if x.size else np.empty(0, to_numpy(dtype))
    return out.reshape(x.shape if x.dtype.itemsize == new else x.shape[:-1])


@op
def pack_bits(x, *, axis=-1):
    """Booleans as bits: 8 along `axis` become a uint8, the first one its lowest bit.

    x: bool[..., n, ...]; the last byte of n that are no multiple of 8 is filled up with zeros.
    """
    if x.dtype != "bool":
        raise DTypeError("bits are made of booleans", expected="bool", got=str(x))
    at = axis_of(axis, x.ndim)
    return Spec((*x.shape[:at], ceil_div(x.shape[at], 8), *x.shape[at + 1 :]), "uint8")


@pack_bits.compute
def _(xp, x, axis):
    return xp.packbits(x, axis=axis, bitorder="little")


@op
def unpack_bits(x, *, size, axis=-1):
    """The `size` booleans along `axis` that `pack_bits` made bytes of.

    x: uint8[..., ceil(size / 8), ...]
    """
    if x.dtype != "uint8":
        raise DTypeError("bits are unpacked from bytes", expected="uint8", got=str(x))
    at = axis_of(axis, x.ndim)
    packed = Spec((*x.shape[:at], ceil_div(size, 8), *x.shape[at + 1 :]), "uint8")
    require_same_shape(packed, x, "x")
    return Spec((*x.shape[:at], size, *x.shape[at + 1 :]), "bool")


@unpack_bits.compute
def _(xp, x, size, axis):
    return xp.unpackbits(x, axis=axis, count=size, bitorder="little").astype(bool)


def _steps(xp: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Where y is a number of bits x can be shifted by, and y there, 0 elsewhere."""
    inside = (y >= 0) & (y < 8 * x.dtype.itemsize)
    return inside, xp.where(inside, y, 0).astype(x.dtype)
