"""`x[...]` on a Value, by NumPy's rules, as slices and a gather."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.dims import Dim
from noria.core.dtypes import as_dtype, is_integer
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value

FULL = slice(None)


def getitem(x: Value, key: Any) -> Any:
    """x[key] for integers, slices, None, Ellipsis and at most one array or Value of integers.

    Raises ArgumentError for an index that is out of range or of another kind, and for more than
    NumPy's basic indexing and one array can say.
    """
    keys = _complete(key if isinstance(key, tuple) else (key,), x.ndim)
    _check_arrays(keys, x.ndim)
    of_axes = [k for k in keys if k is not None]
    out = _cut(x, of_axes)
    for axis, k in enumerate(of_axes):
        if _is_array(k):
            out = o.gather(out, k, axis=axis)
    return _laid_out(out, keys)


def _complete(keys: tuple[Any, ...], ndim: int) -> list[Any]:
    """The keys, one for each axis of x besides None for new ones; sequences as arrays."""
    found = [np.asarray(k, None if k else np.int64) if isinstance(k, list) else k for k in keys]
    found = [k.item() if isinstance(k, np.integer) else k for k in found]
    used = sum(k is not None and k is not Ellipsis for k in found)
    gaps = [i for i, k in enumerate(found) if k is Ellipsis]
    if used > ndim or len(gaps) > 1:
        raise ArgumentError(
            "too many indices", expected=f"at most {ndim}, and one '...'", got=f"{used} of them"
        )
    at = gaps[0] if gaps else len(found)
    return [*found[:at], *[FULL] * (ndim - used), *found[at + 1 :]]


def _is_array(key: Any) -> bool:
    return hasattr(key, "shape")


def _is_number(key: Any) -> bool:
    return isinstance(key, (int, Dim)) and not isinstance(key, bool)


def _check_arrays(keys: list[Any], ndim: int) -> None:
    for k in keys:
        if _is_array(k):
            if not is_integer(as_dtype(k.dtype)):
                raise ArgumentError(
                    "an index must be of integers",
                    got=f"{as_dtype(k.dtype)} of shape {list(k.shape)}",
                    hint="ops.where(mask, x, other), or ops.nonzero and ops.gather_nd, for a mask",
                )
        elif not (k is None or isinstance(k, slice) or _is_number(k)):
            raise ArgumentError(
                "cannot index with this",
                expected="integers, slices, None, ... or a value of integers",
                got=repr(k),
            )
    arrays = [i for i, k in enumerate(keys) if _is_array(k)]
    advanced = [i for i, k in enumerate(keys) if _is_array(k) or _is_number(k)]
    if len(arrays) > 1:
        raise ArgumentError("one index at most may be an array", hint="ops.gather_nd")
    if arrays and advanced[-1] - advanced[0] >= len(advanced):
        raise ArgumentError(
            "an array and an integer apart from it: where their axes go is easily mistaken",
            hint="index twice, as in x[0][:, ids]",
        )


def _cut(x: Value, keys: list[Any]) -> Any:
    """x cut by the numbers (which leave size 1) and the slices."""
    axes, bounds = [], []
    for axis, k in enumerate(keys):
        if _is_number(k):
            size = x.shape[axis]
            if isinstance(k, int) and isinstance(size, int) and not -size <= k < size:
                raise ArgumentError(
                    f"the index of axis {axis} is out of range",
                    expected=f"{-size} <= index < {size}",
                    got=str(k),
                )
            axes.append(axis)
            bounds.append((k, None if isinstance(k, int) and k == -1 else k + 1, 1))
        elif isinstance(k, slice) and k != FULL:
            axes.append(axis)
            bounds.append((k.start, k.stop, 1 if k.step is None else k.step))
    if not axes:
        return x
    starts, stops, steps = zip(*bounds, strict=True)
    return o.slice(x, axes=tuple(axes), starts=starts, stops=stops, steps=steps)


def _laid_out(x: Any, keys: list[Any]) -> Any:
    """x without the axes that numbers picked from, and with new ones for None."""
    picked, new = [], []
    here = there = 0
    for k in keys:
        if k is None:
            new.append(there)
            there += 1
        elif _is_number(k):
            picked.append(here)
            here += 1
        else:
            rank = len(k.shape) if _is_array(k) else 1
            here, there = here + rank, there + rank
    x = o.squeeze(x, axis=tuple(picked)) if picked else x
    return o.unsqueeze(x, axis=tuple(new)) if new else x
