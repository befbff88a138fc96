"""How a reduction accumulates: in what dtype, from where on, and what is done at the end.

Sums of floats are accumulated in float64, which costs nothing beside reading memory and makes the
order of the sum a matter of speed alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from noria.core import dtypes
from noria.kernels.numba.term import Term, cast, literal, number
from noria.ops.numeric import wide_dtype

_SUMS = ("sum", "mean", "prod")
_START = {"sum": 0, "mean": 0, "prod": 1, "all": 1, "any": 0}
_JOIN = {"sum": "+", "mean": "+", "prod": "*"}


@dataclass(frozen=True, slots=True)
class Reduction:
    """kind: of `body.REDUCTIONS`; of and to: dtypes of the elements and of the result."""

    kind: str
    of: str
    to: str

    @property
    def dtype(self) -> str:
        """Of the accumulator."""
        if self.kind in _SUMS:
            return "float64" if dtypes.is_float(self.of) else "int64"
        return "int32" if self.of == "bool" or self.kind in ("all", "any") else wide_dtype(self.of)

    @property
    def start(self) -> str:
        """The accumulator of nothing."""
        if self.kind in _START:
            return literal(_START[self.kind], self.dtype)
        sign = -1 if self.kind == "max" else 1
        if dtypes.is_float(self.dtype):
            return literal(sign * float("inf"), self.dtype)
        limits = np.iinfo(dtypes.to_numpy(self.dtype))
        return literal(int(limits.min if self.kind == "max" else limits.max), self.dtype)

    def item(self, x: Term) -> str:
        """An element, as it is accumulated."""
        if self.kind in ("all", "any"):
            x = x.differs(0)
        x = number(x)
        return x.text if wide_dtype(x.dtype) == self.dtype else f"{self.dtype}({x.text})"

    def join(self, a: str, b: str) -> str:
        """Two accumulators, or one and an element."""
        if self.kind in _JOIN:
            return f"{a} {_JOIN[self.kind]} {b}"
        return f"{'maximum' if self.kind in ('max', 'any') else 'minimum'}({a}, {b})"

    def result(self, total: Term) -> Term:
        """The accumulator, finished; `count` is the number of elements, an int64 of the kernel."""
        if self.kind == "mean":
            total = cast(total, "float64")
            total = total.let(f"{total.text} / float64(count)")
        return cast(total, self.to)
