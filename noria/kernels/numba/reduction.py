"""How a reduction accumulates: in what dtype, from where on, and what is done at the end.

Sums of floats are accumulated in float64, which costs nothing beside reading memory and makes the
order of a sum a matter of speed alone; float64 itself is added up in blocks, and blocks without
rounding error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noria.core import dtypes
from noria.kernels.numba.term import Lines, Term, call, cast, literal, number, where
from noria.ops.numeric import wide_dtype

KINDS = ("sum", "mean", "max", "min", "prod", "all", "any")
_START = {"sum": 0, "mean": 0, "prod": 1, "all": 1, "any": 0}
_JOIN = {"sum": "+", "mean": "+", "prod": "*"}


@dataclass(frozen=True, slots=True)
class Reduction:
    """kind: one of KINDS; of, to: dtypes of the elements and of the result."""

    kind: str
    of: str
    to: str

    @property
    def dtype(self) -> str:
        """Of the accumulator."""
        if self.kind in _JOIN:
            return "float64" if dtypes.is_float(self.of) else "int64"
        return "int32" if self.of == "bool" or self.kind in ("all", "any") else wide_dtype(self.of)

    @property
    def itemsize(self) -> int:
        """Bytes of the accumulator."""
        return dtypes.itemsize(self.dtype)

    @property
    def in_blocks(self) -> bool:
        """Whether the accumulator is no more exact than what is added."""
        return self.of == "float64" and self.kind in ("sum", "mean")

    @property
    def start(self) -> str:
        """The accumulator of nothing."""
        if self.kind in _START:
            return literal(_START[self.kind], self.dtype)
        lowest = self.kind == "max"
        if dtypes.is_float(self.dtype):
            return literal(-np.inf if lowest else np.inf, self.dtype)
        limits = np.iinfo(dtypes.to_numpy(self.dtype))
        return literal(int(limits.min if lowest else limits.max), self.dtype)

    def item(self, x: Term) -> str:
        """An element, as it is accumulated."""
        x = number(x.differs(0) if self.kind in ("all", "any") else x)
        return x.text if wide_dtype(x.dtype) == self.dtype else f"{self.dtype}({x.text})"

    def join(self, a: str, b: str) -> str:
        """Two accumulators, or one and an element."""
        if self.kind in _JOIN:
            return f"{a} {_JOIN[self.kind]} {b}"
        return f"{'maximum' if self.kind in ('max', 'any') else 'minimum'}({a}, {b})"

    def result(self, total: str) -> tuple[list[str], str]:
        """Lines and the name of the finished result; the variable `count` is that of elements."""
        lines = Lines(suffix="f")
        x = Term(lines, total, self.dtype, 0)
        if self.kind == "mean":
            x = cast(x, "float64")
            x = x.let(f"{x.text} / float64(count)")
        if self.kind in _JOIN or self.to == "bool":  # an extreme has its dtype already
            x = cast(x, self.to)
        return lines.levels[0], x.text


def add_exactly(total: str, error: str, part: str) -> list[str]:
    """Lines that add `part` to `total` and what rounding loses to `error`, all float64.
    (Knuth, "The Art of Computer Programming", vol. 2, 4.2.2; Neumaier, 1974)"""
    lines = Lines(suffix="e")
    a, c, b = (Term(lines, name, "float64", 0) for name in (total, error, part))
    s = a + b
    shift = s - a
    lost = (a - (s - shift)) + (b - shift)
    c = c + lost
    return [*lines.levels[0], f"{total} = {s.text}", f"{error} = {c.text}"]


def settle(total: str, error: str) -> list[str]:
    """Lines that add the error to the total, where both are finite."""
    lines = Lines(suffix="e")
    a, c = (Term(lines, name, "float64", 0) for name in (total, error))
    corrected = where(call("isfinite", c, dtype="bool"), a + c, a)
    return [*lines.levels[0], f"{total} = {corrected.text}"]
