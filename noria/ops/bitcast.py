"""The same bits read as numbers of another dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dtypes import to_numpy
from noria.core.errors import DTypeError, ShapeError
from noria.ir.opdef import op
from noria.ir.program import Spec


@op
def bitcast(x, *, dtype):
    """x with its bits, in little-endian order, read as numbers of `dtype`; no value is converted.

    Of the same width: [...] -> [...]. To narrower numbers: [...] -> [..., k], the k parts of each.
    To wider ones: [..., k] -> [...], the last axis together makes one number.
    """
    out = Spec((), dtype).dtype
    if "bool" in (out, x.dtype):
        raise DTypeError("a bool has no bits of its own to read", got=f"{x.dtype} as {out}")
    old, new = _width(x.dtype), _width(out)
    if old == new:
        return Spec(x.shape, out)
    if old > new:
        return Spec((*x.shape, old // new), out)
    if not x.ndim or x.shape[-1] != new // old:
        raise ShapeError(
            "the last axis must make one number", expected=f"[..., {new // old}]", got=str(x)
        )
    return Spec(x.shape[:-1], out)


def _width(dtype: str) -> int:
    return np.dtype(to_numpy(dtype)).itemsize


@bitcast.compute
def _(xp, x, dtype):
    if xp is not np:
        from jax.lax import bitcast_convert_type

        return bitcast_convert_type(x, to_numpy(dtype))
    old, new = x.dtype.itemsize, _width(dtype)
    if old == new:
        return x.view(to_numpy(dtype))
    flat: Any = np.ascontiguousarray(x)
    if old > new:
        return flat.reshape(*x.shape, 1).view(to_numpy(dtype))
    return flat.view(to_numpy(dtype)).reshape(x.shape[:-1])
