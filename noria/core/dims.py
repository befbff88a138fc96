"""Sizes that may be symbolic: `N`, `2*N+1`, `(T+1)//2`, `max(M, N)`.

A size is an `int` or a `Dim`, made by `symbol("N")` and the operators `+ - * // %`. Equal sizes
have one canonical form, so `==` is structural and sizes can be dictionary keys; a constant result
is a plain `int`. Symbols stand for sizes (>= 0), and a divisor is taken to be non-zero.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from noria.core.dim_algebra import (
    Dim,
    Shape,
    Size,
    as_size,
    extreme,
    floordiv,
    known_ge,
    mod,
    symbol,
)
from noria.core.dim_nodes import MAX_TEXT, Atom, bounds, terms_of
from noria.core.dim_parser import Parser
from noria.core.errors import ArgumentError, MissingError

__all__ = [
    "Dim",
    "Shape",
    "Size",
    "as_size",
    "ceil_div",
    "compile_dims",
    "dim_max",
    "dim_min",
    "evaluate",
    "format_shape",
    "known_ge",
    "parse_dim",
    "parse_shape",
    "product",
    "prove_equal",
    "substitute",
    "symbol",
    "symbols_of",
]


def ceil_div(a: Size, b: Size) -> Size:
    """a / b rounded up, for b > 0."""
    if isinstance(b, int) and b <= 0:
        raise ArgumentError("ceil_div needs a positive divisor", expected="b > 0", got=f"b = {b}")
    return (a + b - 1) // b


def dim_max(*sizes: Size) -> Size:
    """The largest. A size known to be no larger than another is left out."""
    return extreme("max", sizes)


def dim_min(*sizes: Size) -> Size:
    """The smallest. A size known to be no smaller than another is left out."""
    return extreme("min", sizes)


def product(sizes: Iterable[Size]) -> Size:
    """All sizes multiplied; 1 for none."""
    constant = 1
    result: Size | None = None
    for size in sizes:
        if isinstance(size, Dim):
            result = size if result is None else result * size
        else:
            constant *= size
    return constant if result is None else result * constant


def prove_equal(a: Size, b: Size) -> bool | None:
    """True if always equal, False if they differ for every binding, None if not decided."""
    if a is b or a == b:
        return True
    difference = _expand_mod(a - b)
    if isinstance(difference, int):
        return difference == 0
    low, high = bounds(difference)
    if (low is not None and low > 0) or (high is not None and high < 0):
        return False
    step = math.gcd(*(c for m, c in difference.terms if m))
    constant = sum(c for m, c in difference.terms if not m)
    return False if constant % step else None


def _expand_mod(size: Size) -> Size:
    """The same size with every top-level `x%y` written as `x - y*(x//y)`."""

    def value(atom: Atom) -> Size:
        if atom.kind != "%":
            return Dim((((atom,), 1),))
        x, y = atom.args
        return x - y * floordiv(x, y)

    return _fold(size, value)


# ---- giving symbols a value ---------------------------------------------------------------------

_APPLY: dict[str, Callable[..., Size]]
_APPLY = {"//": floordiv, "%": mod, "max": dim_max, "min": dim_min}


def _fold(size: Size, value: Callable[[Atom], Size]) -> Size:
    """The polynomial worked out with `value(atom)` in place of each atom."""
    total: Size = 0
    for m, c in terms_of(size):
        term: Size = c
        for atom in m:
            term = term * value(atom)
        total = total + term
    return total


def substitute(size: Size, mapping: Mapping[str, Size]) -> Size:
    """The size with symbols replaced by sizes; names that are not in `mapping` stay."""
    if type(size) is int:
        return size

    def value(atom: Atom) -> Size:
        if atom.kind == "sym":
            name = atom.args[0]
            return as_size(mapping[name]) if name in mapping else symbol(name)
        return _APPLY[atom.kind](*(_fold(a, value) for a in atom.args))

    return _fold(size, value)


def evaluate(size: Size, bindings: Mapping[str, int]) -> int:
    """The value once every symbol is bound.

    Raises MissingError naming the unbound symbols, ArgumentError for a division by zero.
    """
    if type(size) is int:
        return size
    missing = symbols_of(size) - bindings.keys()
    if missing:
        raise MissingError(
            f"no value for {', '.join(sorted(missing))}",
            where=f"the size {size}",
            expected="a value for each symbol",
            got=", ".join(f"{k}={v}" for k, v in sorted(bindings.items())) or "no values",
        )
    return int(substitute(size, bindings))


@lru_cache(maxsize=1 << 14)
def _dim_symbols(dim: Dim) -> frozenset[str]:
    atoms = {a for m, _ in dim.terms for a in m}
    names = {a.args[0] for a in atoms if a.kind == "sym"}
    return frozenset(names.union(*(symbols_of(a.args) for a in atoms if a.kind != "sym")))


def symbols_of(sizes: Size | Iterable[Size]) -> frozenset[str]:
    """Names of the symbols in a size or in a shape."""
    if isinstance(sizes, Dim):
        return _dim_symbols(sizes)
    found: frozenset[str] = frozenset()
    if not isinstance(sizes, int):
        for size in sizes:
            if type(size) is not int and isinstance(size, Dim):
                found = found | _dim_symbols(size) if found else _dim_symbols(size)
    return found


# ---- many sizes, many times ---------------------------------------------------------------------


def compile_dims(
    sizes: Sequence[Size], order: Sequence[str]
) -> Callable[[Sequence[int]], list[int]]:
    """A fast function from the values of the symbols in `order` to the values of `sizes`.

    Some 10 us for 100 sizes: atoms and sizes that occur more than once are worked out once. The
    function raises ArgumentError for another number of values and for a division by zero.
    Raises MissingError if a size has a symbol that is not in `order`.
    """
    missing = symbols_of(sizes) - set(order)
    if missing:
        raise MissingError(
            f"no place for {', '.join(sorted(missing))} in the order of symbols",
            expected=f"all of {', '.join(sorted(symbols_of(sizes)))}",
            got=f"[{', '.join(order)}]",
        )
    run = _Code(order).function(sizes)

    def rebind(values: Sequence[int]) -> list[int]:
        if len(values) != len(order):
            expected = f"{len(order)} values, for [{', '.join(order)}]"
            raise ArgumentError("cannot bind sizes", expected=expected, got=f"{len(values)} values")
        try:
            return run(values)
        except ZeroDivisionError:
            got = ", ".join(f"{k}={v}" for k, v in zip(order, values, strict=True))
            raise ArgumentError("a size is divided by zero", got=got) from None

    return rebind


class _Code:
    """Python source for a list of sizes. Only node kinds, integers and our own names go in."""

    def __init__(self, order: Sequence[str]) -> None:
        self.names = {name: f"v{i}" for i, name in enumerate(order)}
        self.lines = [f"  [{', '.join(self.names.values())}] = values"]
        self.known: dict[Atom | Dim, str] = {}

    def function(self, sizes: Sequence[Size]) -> Callable[[Sequence[int]], list[int]]:
        for dim, uses in Counter(s for s in sizes if isinstance(s, Dim)).items():
            text = self.size(dim)
            self.known[dim] = self.local(text) if uses > 1 else text
        results = [self.known[s] if isinstance(s, Dim) else repr(s) for s in sizes]
        self.lines.append(f"  return [{', '.join(results)}]")
        scope: dict[str, Callable[[Sequence[int]], list[int]]] = {}
        source = "\n".join(["def run(values):", *self.lines])
        exec(compile(source, "<sizes>", "exec"), {"__builtins__": {}}, scope)
        return scope["run"]

    def local(self, text: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def size(self, size: Size) -> str:
        return (
            "+".join(
                "*".join([*map(self.atom, m), *([repr(c)] if c != 1 or not m else [])])
                for m, c in terms_of(size)
            )
            or "0"
        )

    def atom(self, atom: Atom) -> str:
        if atom.kind == "sym":
            return self.names[atom.args[0]]
        if atom not in self.known:
            first, *rest = (self.size(a) for a in atom.args)
            if atom.kind in ("//", "%"):
                self.known[atom] = self.local(f"({first}){atom.kind}({rest[0]})")
            else:
                self.known[atom] = self.extreme(">" if atom.kind == "max" else "<", first, rest)
        return self.known[atom]

    def extreme(self, sign: str, first: str, rest: list[str]) -> str:
        """A comparison each: three times as fast as calling max."""
        best = self.local(first)
        for text in rest:
            other = self.local(text)
            self.lines.append(f"  if {other} {sign} {best}: {best} = {other}")
        return best


# ---- text ---------------------------------------------------------------------------------------


def format_shape(shape: Iterable[Size]) -> str:
    """`[N, 3, T//2]`"""
    return "[" + ", ".join(map(str, shape)) + "]"


def parse_dim(text: str) -> Size:
    """The size that prints as `text`, which has at most 1000 characters.

    Raises ArgumentError with the position for text that is no size.
    """
    return Parser(text, MAX_TEXT).whole_size()


def parse_shape(text: str) -> Shape:
    """The shape that prints as `text`, such as `[N, 3, T//2]` or `[]`.

    Raises ArgumentError with the position for text that is no shape.
    """
    return Parser(text, 64 * MAX_TEXT).whole_shape()
