"""Tables of keys: values looked up, n-grams counted."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, DTypeError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_integer, need_rank, require_equal

# ---- values by key -----------------------------------------------------------------------------


@op
def lookup(x, keys, values, default):
    """values[i] where keys[i] is x, else default: elementwise.

    x: any shape; keys: [K] of the dtype of x; values: [K]; default: a scalar of their dtype.
    A key that occurs several times stands for the last of its values; NaN is equal to NaN.
    """
    need_rank(keys, 1, what="keys")
    need_rank(values, 1, what="values")
    need_rank(default, 0, what="default")
    require_equal(keys.shape[0], values.shape[0], "the numbers of keys and values")
    for a, b, what in ((x, keys, "x and keys"), (values, default, "values and default")):
        if a.dtype != b.dtype:
            raise DTypeError(f"{what} must have one dtype", got=f"{a.dtype} and {b.dtype}")
    return Spec(x.shape, values.dtype)


@lookup.compute
def _(xp, x, keys, values, default):
    if not keys.shape[0]:
        return xp.broadcast_to(default, x.shape).astype(values.dtype)
    order = xp.argsort(keys, stable=True)
    ordered = keys[order]
    place = xp.maximum(xp.searchsorted(ordered, x, side="right") - 1, 0)
    found = ordered[place]
    same = (found == x) | ((found != found) & (x != x))
    return xp.where(same, values[order][place], default)


# ---- n-grams -----------------------------------------------------------------------------------


@op
def ngram_counts(x, pool, places, *, size, skips=0):
    """How often each n-gram of a pool occurs in each row, out[row, places[i]] that of pool[i].

    x: integers [N, T]; pool: integers [G, n]; places: integers [G], each below `size`; out:
    float32 [N, size]. skips: the elements of an n-gram may also lie 2, 3 .. skips + 1 apart, all
    of them as far. Raises ArgumentError for a place out of range.
    """
    need_integer(x, pool, places)
    for value, rank, what in ((x, 2, "x"), (pool, 2, "pool"), (places, 1, "places")):
        need_rank(value, rank, what=what)
    require_equal(pool.shape[0], places.shape[0], "the numbers of n-grams and of places")
    if skips < 0 or pool.shape[1] == 0:
        raise ArgumentError("n-grams have an element, skips are not negative", got=f"{skips=}")
    return Spec((x.shape[0], size), "float32")


@ngram_counts.compute
def _(xp, x, pool, places, size, skips):
    if xp is np and len(places) and not (places.min() >= 0 and places.max() < size):
        raise ArgumentError(
            "a place is out of range", expected=f"0 <= place < {size}", got=str(places)
        )
    rows, n = x.shape[0], pool.shape[1]
    out = xp.zeros((rows, size + 1), "float32")
    if not pool.shape[0]:
        return out[:, :size]
    for apart in range(1, (skips if n > 1 else 0) + 2):
        windows = x.shape[1] - (n - 1) * apart
        if windows <= 0:
            break
        grams = xp.stack([x[:, i * apart : i * apart + windows] for i in range(n)], axis=-1)
        found = _which(xp, grams, pool)  # [rows, windows, matches of each]
        target = xp.where(found >= 0, places[xp.maximum(found, 0)], size)
        row = xp.broadcast_to(xp.arange(rows)[:, None], target.shape)
        out = _counted(out, row, target)
    return out[:, :size]


def _which(xp: Any, grams: Any, pool: Any) -> Any:
    """For each gram the number of the last equal one in the pool, -1 for none."""
    if xp is not np:
        same = (grams[:, :, None] == pool).all(-1)
        return xp.where(same.any(-1), same.shape[-1] - 1 - xp.argmax(same[..., ::-1], -1), -1)
    both = np.concatenate([pool, grams.reshape(-1, pool.shape[1])])
    numbers = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    last = np.full(numbers.max() + 1, -1)
    last[numbers[: len(pool)]] = np.arange(len(pool))
    return last[numbers[len(pool) :]].reshape(grams.shape[:2])


def _counted(out: Any, row: Any, target: Any) -> Any:
    if hasattr(out, "at"):
        return out.at[row, target].add(1)
    np.add.at(out, (row, target), 1)
    return out
