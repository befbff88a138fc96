"""What the detection operators of Fluid share: columns, and rows by counts."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o


def column(x: Any, dtype: str | None = None) -> Any:
    """[n] as [n, 1]."""
    return o.unsqueeze(x if dtype is None else o.cast(x, dtype=dtype), axis=(1,))


def flat(x: Any) -> Any:
    """[n, 1] or [n] as [n]."""
    return o.flatten(x) if x.ndim != 1 else x


def splits_of_counts(counts: Any) -> Any:
    """row_splits [N + 1] of rows of these lengths [N]."""
    ends = o.cumsum(o.cast(counts, dtype="int64"), axis=0)
    return o.concat(o.fill(shape=(1,), value=0, dtype="int64"), ends, axis=0)


def counts_of(splits: Any) -> Any:
    """Lengths of rows."""
    ends = o.slice(splits, axes=(0,), starts=(1,), stops=(None,))
    return o.sub(ends, o.slice(splits, axes=(0,), starts=(0,), stops=(-1,)))
