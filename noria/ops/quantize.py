"""Numbers of few bits: quantised, brought back, and multiplied.  (Jacob et al., 2018)

real = (whole - zero_point) * scale. Scale and zero point are one number, or a vector along `axis`,
or, with `block`, one number for each `block` elements along that axis. What lies outside the range
of the dtype goes to its end, and halves are rounded to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dtypes import as_dtype, is_float, is_integer, to_numpy
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import axis_of, need_integer, need_rank, shaped
from noria.ops.numeric import cast_like, spec_of

TINY_SCALE = 1e-30  # a scale below is that of zeros; its reciprocal would be infinite


def integer_limits(dtype: str) -> tuple[int, int]:
    """The smallest and the largest number of an integer dtype. Raises DTypeError for another."""
    if not is_integer(as_dtype(dtype)):
        raise DTypeError("quantised numbers are integers", expected="int8 or uint8", got=dtype)
    info = np.iinfo(to_numpy(as_dtype(dtype)))
    return int(info.min), int(info.max)


def _along(scale: Any, x: Any, axis: int, block: int) -> Any:
    """scale or zero point in a shape that broadcasts with x."""
    scale = shaped(scale)
    rank, shape = spec_of(x).ndim, spec_of(scale).shape
    if not shape or tuple(shape) == (1,):
        return o.reshape(scale, shape=()) if shape else scale
    at = axis_of(axis, rank)
    if block:
        return _repeated(scale, x, at, block)
    need_rank(spec_of(scale), 1, what="scale")
    if rank == 1:
        return scale
    return o.reshape(scale, shape=tuple(shape[0] if i == at else 1 for i in range(rank)))


def _repeated(scale: Any, x: Any, at: int, block: int) -> Any:
    """Each number of the scale for `block` elements of x along an axis; the last may have fewer."""
    shape = spec_of(scale).shape
    if len(shape) != spec_of(x).ndim:
        raise ShapeError("scales of blocks have the rank of x", got=f"{shape} for {spec_of(x)}")
    wide = o.broadcast_to(
        o.unsqueeze(scale, axis=at + 1), shape=(*shape[: at + 1], block, *shape[at + 1 :])
    )
    wide = o.reshape(wide, shape=(*shape[:at], shape[at] * block, *shape[at + 1 :]))
    size = spec_of(x).shape[at]
    return o.slice(wide, axes=(at,), starts=(0,), stops=(size,))


def quantize(
    x: Any,
    scale: Any,
    zero_point: Any = None,
    *,
    axis: int = 1,
    block: int = 0,
    dtype: str = "uint8",
) -> Any:
    """x / scale, rounded, plus zero_point, as integers: [...] -> [...].

    dtype: of the result, where no zero point tells it. Not differentiable: `fake_quantize` is.
    """
    kind = as_dtype(dtype if zero_point is None else zero_point.dtype)
    low, high = integer_limits(kind)
    whole = o.round(o.div(x, cast_like(_along(scale, x, axis, block), x)))
    whole = o.cast(o.clip(whole, low=float(low) - float(high), high=2.0 * high), dtype="int64")
    if zero_point is not None:
        whole = o.add(whole, o.cast(_along(zero_point, x, axis, block), dtype="int64"))
    return o.cast(o.clip(whole, low=low, high=high), dtype=kind)


def dequantize(
    x: Any,
    scale: Any,
    zero_point: Any = None,
    *,
    axis: int = 1,
    block: int = 0,
    dtype: str | None = None,
) -> Any:
    """(x - zero_point) * scale, in the dtype of the scale unless told: [...] -> [...]."""
    factor = _along(scale, x, axis, block)
    whole = x if is_float(as_dtype(x.dtype)) else o.cast(x, dtype="int32")
    if zero_point is not None:
        zero = o.cast(_along(zero_point, x, axis, block), dtype=whole.dtype)
        whole = o.sub(whole, zero)
    real = o.mul(o.cast(whole, dtype=factor.dtype), factor)
    return real if dtype is None else o.cast(real, dtype=dtype)


def dynamic_quantize(x: Any) -> tuple[Any, Any, Any]:
    """(x as uint8, scale, zero point) of the range of x, which is made to contain 0."""
    low = o.minimum(o.reduce_min(x), 0.0)
    high = o.maximum(o.reduce_max(x), 0.0)
    scale = o.div(o.sub(high, low), 255.0)
    safe = o.where(o.equal(scale, 0.0), 1.0, scale)
    zero = o.cast(o.clip(o.round(o.neg(o.div(low, safe))), low=0.0, high=255.0), dtype="uint8")
    return quantize(x, safe, zero), scale, zero


def matmul_integer(a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    """(a - a_zero) @ (b - b_zero) of integers, exact in int32.

    a: [..., M, K], b: [..., K, N]; a_zero: one number or one for each row [..., M, 1] or [M];
    b_zero: one number or one for each column [N].
    """
    need_integer(spec_of(a), spec_of(b))

    def centred(x: Any, zero: Any, column: bool) -> Any:
        x = o.cast(x, dtype="int32")
        if zero is None:
            return x
        zero = o.cast(zero, dtype="int32")
        if column and len(spec_of(zero).shape) == 1 and spec_of(zero).shape != (1,):
            zero = o.unsqueeze(zero, axis=1)
        return o.sub(x, zero)

    return o.matmul(centred(a, a_zero, True), centred(b, b_zero, False))


# ---- quantised while training ------------------------------------------------------------------


def abs_max(x: Any, *, axis: Any = None) -> Any:
    """The largest absolute value, of all elements or for each position of one axis: [] or [C]."""
    if axis is None:
        return o.reduce_max(o.abs(x))
    rest = tuple(i for i in range(spec_of(x).ndim) if i != axis_of(axis, spec_of(x).ndim))
    return o.reduce_max(o.abs(x), axis=rest)


def quantized_range(bits: int) -> float:
    """How many steps there are on each side of 0 for so many bits, the sign included."""
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ArgumentError("bits lie in 2 .. 16", got=repr(bits))
    return float(2 ** (bits - 1) - 1)


def quantized_steps(x: Any, scale: Any, *, bits: int = 8, axis: int = 0) -> Any:
    """x clipped to [-scale, scale], in steps of scale / (2^(bits - 1) - 1), as whole floats.

    Halves go away from 0, and a scale of 0 gives 0. Not differentiable.
    """
    wide = cast_like(_along(scale, x, axis, 0), x)
    safe = o.where(o.greater(wide, TINY_SCALE), wide, o.add(wide, 1e-6))
    inside = o.minimum(o.maximum(x, o.neg(wide)), wide)
    sized = o.mul(inside, o.mul(o.reciprocal(safe), quantized_range(bits)))
    return o.mul(o.sign(sized), o.floor(o.add(o.abs(sized), 0.5)))


def fake_quantize(x: Any, scale: Any, *, bits: int = 8, axis: int = 0) -> Any:
    """x as it comes back from `bits` bits; its gradient is that of x ("straight through").
    (Bengio, Leonard & Courville, 2013)

    scale: the largest absolute value that is kept, [] or a vector along `axis`.
    """
    wide = cast_like(_along(scale, x, axis, 0), x)
    back = o.div(
        o.mul(quantized_steps(x, scale, bits=bits, axis=axis), wide), quantized_range(bits)
    )
    return o.add(x, o.stop_gradient(o.sub(back, x)))


# ---- tables ------------------------------------------------------------------------------------


@op
def dequantize_rows(table, ids):
    """Rows of a table of which each holds its smallest number, its largest, and bytes between them:
    float32 [R, W] -> [*ids.shape, 4 (W - 2)].

    The bytes lie in the memory of the row's other W - 2 numbers; byte b stands for
    smallest + b * (largest - smallest) / 256. ids: integers of any shape.
    Raises ArgumentError, when it runs, for an id that is no row.
    """
    need_rank(table, 2, what="table")
    need_integer(ids)
    if table.dtype != "float32":
        raise DTypeError("rows of bytes are kept in float32", got=str(table))
    if isinstance(table.shape[1], int) and table.shape[1] < 2:
        raise ShapeError("a row begins with two numbers", got=str(table))
    return Spec((*ids.shape, 4 * (table.shape[1] - 2)), "float32")


@dequantize_rows.compute
def _(xp, table, ids):
    if xp is np and ids.size and not 0 <= ids.min() <= ids.max() < len(table):
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ArgumentError(
            "an id is no row of the table", expected=f"0 <= id < {len(table)}", got=str(wrong)
        )
    rows = table[ids]
    packed = rows[..., 2:]
    if xp is np:
        count = 4 * packed.shape[-1]
        whole: Any = np.ascontiguousarray(packed).view("uint8").reshape(*ids.shape, count)
    else:
        from jax import lax

        bits = lax.bitcast_convert_type(packed, "uint8")
        whole = bits.reshape((*ids.shape, 4 * packed.shape[-1]))
    low, high = rows[..., :1], rows[..., 1:2]
    return whole.astype("float32") * ((high - low) / np.float32(256)) + low
