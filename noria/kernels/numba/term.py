"""One element in a generated kernel: Python operators on it write the kernel's source.

`y = x * x + 1.0` with a Term x appends two lines to the kernel and gives the Term of the last. A
Term has a dtype of the IR; float16 and bfloat16 are computed in float32. Results are those of the
op's reference: each operation is rounded by itself and integers wrap around.

LLVM may reorder and fuse what is written with `+ - *`, which sums need and a map must not have. An
`fma` it takes at its word: fma(a, 1, b) becomes one plain addition, fma(a, b, -0.0) one plain
multiplication, whose rounding nobody touches.
"""

from __future__ import annotations

import numpy as np

from noria.core import dtypes
from noria.ops.numeric import HALVES, wide_dtype

Number = bool | int | float
BY_INT32 = ("int8", "int16", "uint8", "uint16")  # narrower than what a CPU converts a float to


class Lines:
    """Statements of a kernel, each filed under the loop it belongs into.

    levels:   statements before all loops, in the outermost loop, and so on
    suffix:   ends the names made in loops from level `repeated` on, whose body is written
              several times
    """

    def __init__(self, levels: int = 1, suffix: str = "", repeated: int = 0) -> None:
        self.levels: list[list[str]] = [[] for _ in range(levels)]
        self.suffix, self.repeated = suffix, repeated
        self.count = 0

    def let(self, expression: str, dtype: str, level: int) -> Term:
        """A name for an expression, in the loop of that level."""
        self.count += 1
        name = f"t{self.count}{self.suffix if level >= self.repeated else ''}"
        self.levels[level].append(f"{name} = {expression}")
        return Term(self, name, dtype, level)

    def constant(self, value: Number, dtype: str) -> Term:
        """A number, rounded to the dtype."""
        return Term(self, literal(value, dtype), dtype, 0)


def literal(value: Number, dtype: str) -> str:
    """The source of a number of that dtype. It is rounded to the dtype first."""
    if dtype == "bool":
        return str(bool(value))
    if not dtypes.is_float(dtype):
        return f"{dtype}({int(value)})"
    with np.errstate(over="ignore"):
        rounded = float(np.asarray(value, dtypes.to_numpy(dtype)).astype(np.float64))
    if rounded != rounded:
        text = "1e999 - 1e999"
    else:
        text = repr(rounded).replace("inf", "1e999")
    return f"{wide_dtype(dtype)}({text})"


class Term:
    """An element: `text` is a name or a literal of the kernel, `level` the loop it is known in."""

    __slots__ = ("dtype", "level", "lines", "text")

    def __init__(self, lines: Lines, text: str, dtype: str, level: int) -> None:
        self.lines, self.text, self.dtype, self.level = lines, text, dtype, level

    @property
    def is_float(self) -> bool:
        return dtypes.is_float(self.dtype)

    def like(self, x: Term | Number) -> Term:
        """x, as a constant if it is a number: of this dtype, of float32 beside a half."""
        return x if isinstance(x, Term) else self.lines.constant(x, wide_dtype(self.dtype))

    def let(self, expression: str, dtype: str | None = None, *others: Term) -> Term:
        """A name for an expression of this Term and others, of this dtype unless one is given."""
        level = max(self.level, *(x.level for x in others), 0)
        return self.lines.let(expression, dtype or self.dtype, level)

    def _binary(self, other: Term | Number, real: str, whole: str) -> Term:
        b = self.like(other)
        if not self.is_float:
            return self.let(f"{self.dtype}({self.text} {whole} {b.text})", None, b)
        kind = wide_dtype(self.dtype)
        names = {"one": f"{kind}(1.0)", "minus_one": f"{kind}(-1.0)", "zero": f"{kind}(-0.0)"}
        return self.let(real.format(self.text, b.text, **names), None, b)

    def __add__(self, other: Term | Number) -> Term:
        return self._binary(other, "fma({0}, {one}, {1})", "+")

    def __sub__(self, other: Term | Number) -> Term:
        return self._binary(other, "fma({1}, {minus_one}, {0})", "-")

    def __mul__(self, other: Term | Number) -> Term:
        return self._binary(other, "fma({0}, {1}, {zero})", "*")

    def __radd__(self, other: Number) -> Term:
        return self.like(other) + self

    def __rsub__(self, other: Number) -> Term:
        return self.like(other) - self

    def __rmul__(self, other: Number) -> Term:
        return self.like(other) * self

    def __truediv__(self, other: Term | Number) -> Term:
        """Of floats."""
        b = self.like(other)
        return self.let(f"{self.text} / {b.text}", None, b)

    def __rtruediv__(self, other: Number) -> Term:
        return self.like(other) / self

    def __neg__(self) -> Term:
        return self * -1.0 if self.is_float else self.like(0) - self

    def _compare(self, how: str, other: Term | Number) -> Term:
        a, b = number(self), number(self.like(other))
        return a.let(f"{a.text} {how} {b.text}", "bool", b)

    def __lt__(self, other: Term | Number) -> Term:
        return self._compare("<", other)

    def __le__(self, other: Term | Number) -> Term:
        return self._compare("<=", other)

    def __gt__(self, other: Term | Number) -> Term:
        return self._compare(">", other)

    def __ge__(self, other: Term | Number) -> Term:
        return self._compare(">=", other)

    def equals(self, other: Term | Number) -> Term:
        return self._compare("==", other)

    def differs(self, other: Term | Number) -> Term:
        return self._compare("!=", other)

    def __and__(self, other: Term) -> Term:
        return self.let(f"{self.text} & {other.text}", None, other)

    def __or__(self, other: Term) -> Term:
        return self.let(f"{self.text} | {other.text}", None, other)

    def __xor__(self, other: Term) -> Term:
        return self.let(f"{self.text} ^ {other.text}", None, other)

    def __invert__(self) -> Term:
        """Of booleans."""
        return self.let(f"not {self.text}")


def call(name: str, x: Term, *others: Term | Number, dtype: str | None = None) -> Term:
    """A function of `math.NAMESPACE`; numbers become constants of the first argument's dtype."""
    terms = [x.like(a) for a in others]
    arguments = ", ".join(t.text for t in (x, *terms))
    return x.let(f"{name}({arguments})", dtype, *terms)


def where(condition: Term, yes: Term | Number, no: Term | Number) -> Term:
    """One of the two, which are both computed; at least one is a Term."""
    kind = yes if isinstance(yes, Term) else no
    assert isinstance(kind, Term)
    yes, no = kind.like(yes), kind.like(no)
    chosen = f"where({condition.text}, {yes.text}, {no.text})"
    return condition.let(chosen, kind.dtype, yes, no)


def maximum(x: Term, y: Term | Number) -> Term:
    """NaN if either is."""
    if not x.is_float:
        return call("maximum", x, y)
    return where((x > y) | x.differs(x), x, y)


def minimum(x: Term, y: Term | Number) -> Term:
    """NaN if either is."""
    if not x.is_float:
        return call("minimum", x, y)
    return where((x < y) | x.differs(x), x, y)


def number(x: Term) -> Term:
    """A bool as 0 or 1 of int32, anything else as it is."""
    return x if x.dtype != "bool" else x.let(f"where({x.text}, int32(1), int32(0))", "int32")


def cast(x: Term, dtype: str) -> Term:
    """x as another dtype, with NumPy's rounding; floats to integers towards zero."""
    kind = wide_dtype(dtype)
    if dtype == x.dtype:
        return x
    if dtype == "bool":
        return x.differs(0)
    if dtype in HALVES:
        return round_half(_narrowed(x), dtype)
    x = number(x)
    if x.is_float and kind in BY_INT32:
        return x.let(f"{kind}(int32({x.text}))", dtype)
    if x.is_float and kind == "uint32":
        return x.let(f"{kind}(int64({x.text}))", dtype)
    if wide_dtype(x.dtype) != kind:
        return x.let(f"{kind}({x.text})", dtype)
    return Term(x.lines, x.text, dtype, x.level)


def _narrowed(x: Term) -> Term:
    """x as float32, so that rounding on to a half is right: a float64 is rounded to odd."""
    x = number(x)
    if x.dtype != "float64":
        return x if wide_dtype(x.dtype) == "float32" else x.let(f"float32({x.text})", "float32")
    y = x.let(f"float32({x.text})", "float32")
    back, pattern = x.let(f"float64({y.text})"), x.let(f"bits({y.text})", "int32")
    even = x.let(f"({pattern.text} & int32(1)) == int32(0)", "bool")
    beyond = call("absolute", back) > call("absolute", x)
    other = where(beyond, pattern - 1, pattern + 1)
    odd = where(back.differs(x) & even, other, pattern)
    return x.let(f"from_bits({odd.text})", "float32")


def round_half(x: Term, dtype: str) -> Term:
    """A float32 rounded to the nearest half, ties to even."""
    dropped = 16 if dtype == "bfloat16" else 13
    pattern = x.let(f"bits({x.text})", "int32")
    odd = f"(({pattern.text} >> {dropped}) & 1)"
    rounded = f"({pattern.text} + {(1 << (dropped - 1)) - 1} + {odd}) & -{1 << dropped}"
    y = x.let(f"from_bits(int32({rounded}))", "float32")
    if dtype == "float16":
        size = call("absolute", x)
        y = where(call("absolute", y) >= 65536.0, call("copysign", x.like(1e999), x), y)
        small = call("copysign", size + 0.75 - 0.75, x)  # an ulp of 0.75 is 2^-24
        y = where(size < 2.0**-14, small, y)
    y = where(x.differs(x), x, y)
    return Term(x.lines, y.text, dtype, y.level)
