"""The nodes of symbolic sizes: how they are stored, printed and bounded.

`noria/core/dims.py` is the module to import from. An `Expr` is a polynomial with integer
coefficients over atoms; an `Atom` is a symbol or one of `a//b`, `a%b`, `max(...)`, `min(...)`.
The arithmetic of `dim_algebra.py` only builds canonical nodes, so one meaning has one text, and
nodes are compared and hashed by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

from noria.core.errors import ArgumentError

MAX_TEXT = 1000  # characters of one size: everything that prints can be read back
MAX_DEPTH = 100  # parentheses inside each other; one atom prints at most two
RESERVED = ("max", "min")

_set = object.__setattr__  # the only way past the __setattr__ of an immutable node


class _Node:
    """Immutable; equal and hashed by its canonical text."""

    __slots__ = ("_hash", "text")
    _hash: int
    text: str

    def _name(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise too_large(text)
        _set(self, "text", text)
        _set(self, "_hash", hash(text))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a {type(self).__name__} is immutable")

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return self.text == other.text

    def __repr__(self) -> str:
        return self.text


class Atom(_Node):
    """A symbol (kind "sym", args = its name), or `//`, `%`, `max`, `min` of sizes."""

    __slots__ = ("args", "depth", "kind")
    kind: str
    args: tuple[Any, ...]
    depth: int  # atoms inside each other, this one included

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        inner = (a.depth for e in args if isinstance(e, Expr) for m, _ in e.terms for a in m)
        _set(self, "kind", kind)
        _set(self, "args", args)
        _set(self, "depth", 1 + max(inner, default=0))
        self._name(_atom_text(kind, args))
        if 2 * self.depth >= MAX_DEPTH:
            raise too_large(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return Atom, (self.kind, self.args)


Monomial: TypeAlias = tuple[Atom, ...]
Terms: TypeAlias = tuple[tuple[Monomial, int], ...]


class Expr(_Node):
    """terms: ((atoms multiplied, coefficient), ...), highest degree first, then by text.

    The constant term has no atoms and comes last.
    """

    __slots__ = ("terms",)
    terms: Terms

    def __init__(self, terms: Terms) -> None:
        _set(self, "terms", terms)
        self._name(_expr_text(terms))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.terms,)


def too_large(text: str) -> ArgumentError:
    return ArgumentError(
        "a symbolic size grew into too large an expression",
        expected=f"at most {MAX_TEXT} characters and {MAX_DEPTH // 2 - 1} atoms inside each other",
        got=text[:60] + ("..." if len(text) > 60 else ""),
        hint="give the intermediate size a symbol of its own",
    )


def terms_of(size: int | Expr) -> Terms:
    if isinstance(size, Expr):
        return size.terms
    return (((), size),) if size else ()


# ---- text ---------------------------------------------------------------------------------------


def _expr_text(terms: Terms) -> str:
    if len(terms) == 2:
        (m, slope), (rest, constant) = terms
        if slope == 1 and len(m) == 1 and m[0].kind == "//" and not rest:
            top, k = m[0].args
            if isinstance(k, int) and not terms_of(top)[-1][0]:
                # (T+1)//2 + 1 reads better as (T+3)//2, which means the same
                *others, (_, inside) = terms_of(top)
                return f"({_sum_text((*others, ((), inside + k * constant)))})//{k}"
    return _sum_text(terms)


def _sum_text(terms: Terms) -> str:
    text = "".join(("-" if c < 0 else "+") + _term_text(m, abs(c)) for m, c in terms)
    if text[0] == "+":
        return text[1:]
    m, c = terms[0]
    if c == -1 and len(m) == 1 and m[0].kind in ("//", "%"):  # -N//2 would mean (-N)//2
        return f"-({m[0].text})" + text[1 + len(m[0].text) :]
    return text


def _term_text(m: Monomial, c: int) -> str:
    if c == 1 and len(m) == 1:
        return m[0].text
    factors = [f"({a.text})" if a.kind in ("//", "%") else a.text for a in m]
    return "*".join(factors if c == 1 and m else [str(c), *factors])


def _atom_text(kind: str, args: tuple[Any, ...]) -> str:
    if kind == "sym":
        return args[0]
    if kind in RESERVED:
        return f"{kind}({', '.join(map(str, args))})"
    top, bottom = args
    left = f"({top})" if len(terms_of(top)) > 1 or str(top)[0] == "-" else str(top)
    atomic = isinstance(bottom, int) or str(bottom).isidentifier()
    return f"{left}{kind}{bottom if atomic else f'({bottom})'}"


# ---- bounds -------------------------------------------------------------------------------------

Bounds: TypeAlias = tuple[int | None, int | None]


@lru_cache(maxsize=1 << 14)
def bounds(size: int | Expr) -> Bounds:
    """(lowest, highest) value over all bindings as far as known; None: no bound known.

    Symbols are >= 0 and divisors are not 0.
    """
    low: int | None = 0
    high: int | None = 0
    for m, c in terms_of(size):
        lo, hi = _monomial_bounds(m)
        if c < 0:
            lo, hi = hi, lo
        low = None if low is None or lo is None else low + c * lo
        high = None if high is None or hi is None else high + c * hi
    return low, high


def _monomial_bounds(m: Monomial) -> Bounds:
    if len(m) == 1:
        return _atom_bounds(m[0])
    low, high = 1, 1
    limited = True
    for atom in m:
        lo, hi = _atom_bounds(atom)
        if lo is None or lo < 0:
            return None, None
        low *= lo
        high *= hi or 0
        limited = limited and hi is not None
    return low, high if limited else None


def _atom_bounds(atom: Atom) -> Bounds:
    if atom.kind == "sym":
        return 0, None
    if atom.kind in RESERVED:
        return _extreme_bounds(atom.kind, [bounds(a) for a in atom.args])
    (low, high), (b_low, b_high) = map(bounds, atom.args)
    if b_low is None or b_low < 0:
        return None, None
    if atom.kind == "%":
        return 0, None if b_high is None else max(b_high - 1, 0)
    if b_low == b_high and b_low > 0:
        return None if low is None else low // b_low, None if high is None else high // b_low
    return (0, high) if low is not None and low >= 0 else (None, None)


def _extreme_bounds(kind: str, each: list[Bounds]) -> Bounds:
    """max has the largest low bound of all, known even if only one of them is; min mirrors it."""
    pick = max if kind == "max" else min
    lows = [lo for lo, _ in each if lo is not None]
    highs = [hi for _, hi in each if hi is not None]
    low = pick(lows) if lows and (kind == "max" or len(lows) == len(each)) else None
    high = pick(highs) if highs and (kind == "min" or len(highs) == len(each)) else None
    return low, high
