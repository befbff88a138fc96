"""Rows told by their lengths, as Caffe2 has them, on noria's row_splits."""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.handlers import Node


def packed_size(op: Node, lengths: Any) -> Any:
    """How many steps all rows have: a number if that is known, else a new symbol."""
    numbers = op.known(lengths)
    return op.symbol("packed") if numbers is None else int(numbers.sum())
