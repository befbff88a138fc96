"""Arithmetic of symbolic sizes in one canonical form.

`noria/core/dims.py` is the module to import from; this one defines Dim, its operators, and the
rules that make equal sizes look equal. A constant result is a plain `int`, never a Dim.
Symbols stand for sizes: they are >= 0. A divisor is taken to be non-zero, so `(N*T)//N` is `T`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import numpy as np

from noria.core.dim_nodes import (
    MAX_TEXT,
    RESERVED,
    Atom,
    Expr,
    Monomial,
    bounds,
    terms_of,
    too_large,
)
from noria.core.errors import ArgumentError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Dim(Expr):
    """A symbolic size. Made by `symbol` and by arithmetic, not by calling the class."""

    __slots__ = ()
    __array_ufunc__ = None  # a NumPy integer on the left gives way to Dim.__radd__ and so on

    def __add__(self, other: Size) -> Size:
        return _binary(add, self, other)

    def __radd__(self, other: int) -> Size:
        return _binary(add, self, other)

    def __sub__(self, other: Size) -> Size:
        return _binary(sub, self, other)

    def __rsub__(self, other: int) -> Size:
        return _binary(sub, other, self)

    def __mul__(self, other: Size) -> Size:
        return _binary(mul, self, other)

    def __rmul__(self, other: int) -> Size:
        return _binary(mul, self, other)

    def __floordiv__(self, other: Size) -> Size:
        return _binary(floordiv, self, other)

    def __rfloordiv__(self, other: int) -> Size:
        return _binary(floordiv, other, self)

    def __mod__(self, other: Size) -> Size:
        return _binary(mod, self, other)

    def __rmod__(self, other: int) -> Size:
        return _binary(mod, other, self)

    def __neg__(self) -> Size:
        return mul(self, -1)

    def _no_value(self, *_: object) -> NoReturn:
        raise ArgumentError(
            "a symbolic size has no value until it is bound",
            expected="an int",
            got=f"the size {self.text}",
            hint="known_ge(a, b) or prove_equal(a, b) to compare, evaluate(size, {'N': 8}) to bind",
        )

    __lt__ = __le__ = __gt__ = __ge__ = _no_value
    __bool__ = __int__ = __index__ = __float__ = _no_value


Size: TypeAlias = int | Dim
Shape: TypeAlias = tuple[Size, ...]


@lru_cache(maxsize=4096)
def symbol(name: str) -> Dim:
    """The size called `name` (a letter or _, then letters, digits, _). Always the same, >= 0.

    Raises ArgumentError for another name.
    """
    if not _IDENTIFIER.fullmatch(name) or name in RESERVED:
        raise ArgumentError(
            "bad name for a symbolic size",
            expected="letters, digits and _, not starting with a digit, not max or min",
            got=repr(name),
        )
    return Dim((((Atom("sym", (name,)),), 1),))


def as_size(value: Any) -> Size:
    """`value` as a plain int or Dim (NumPy integers become int); ArgumentError for the rest."""
    size = _as_operand(value)
    if size is None:
        raise ArgumentError("not a size", expected="an int or a symbolic size", got=repr(value))
    return size


def _as_operand(value: Any) -> Size | None:
    """`value` as an int or Dim, None for what is not a size."""
    if type(value) is int or type(value) is Dim:
        return value
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    return None


def _binary(op: Callable[[Size, Size], Size], a: Any, b: Any) -> Any:
    x, y = _as_operand(a), _as_operand(b)
    return NotImplemented if x is None or y is None else op(x, y)


# ---- arithmetic on the canonical form -----------------------------------------------------------


def build(coefficients: Mapping[Monomial, int]) -> Size:
    """The canonical size with these coefficients."""
    terms = [t for t in coefficients.items() if t[1]]
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    if len(terms) > MAX_TEXT:
        raise too_large(" + ".join("*".join(a.text for a in m) for m, _ in terms[:9]))
    if len(terms) > 1:
        terms.sort(key=_order)
    return Dim(tuple(terms))


def _order(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return -len(term[0]), [atom.text for atom in term[0]]


@lru_cache(maxsize=1 << 14)
def add(a: Size, b: Size) -> Size:
    total = dict(terms_of(a))
    for m, c in terms_of(b):
        total[m] = total.get(m, 0) + c
    return build(total)


def sub(a: Size, b: Size) -> Size:
    return add(a, mul(b, -1))


@lru_cache(maxsize=1 << 14)
def mul(a: Size, b: Size) -> Size:
    if isinstance(a, int):
        a, b = b, a
    if isinstance(a, Dim) and isinstance(b, int):  # the order of the terms stays
        return Dim(tuple((m, c * b) for m, c in a.terms)) if b else 0
    if len(terms_of(a)) * len(terms_of(b)) > 100 * MAX_TEXT:
        raise too_large(f"({a})*({b})")
    total: dict[Monomial, int] = {}
    for m1, c1 in terms_of(a):
        for m2, c2 in terms_of(b):
            m = tuple(sorted(m1 + m2, key=str)) if m1 and m2 else m1 or m2
            total[m] = total.get(m, 0) + c1 * c2
    return build(total)


def _atom(kind: str, *args: Size) -> Dim:
    return Dim((((Atom(kind, args),), 1),))


def _not_zero(a: Size, b: Size) -> None:
    if isinstance(b, int) and b == 0:
        raise ArgumentError("a size is divided by zero", got=f"({a}) divided by {b}")


@lru_cache(maxsize=1 << 14)
def floordiv(a: Size, b: Size) -> Size:
    _not_zero(a, b)
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if terms_of(b)[0][1] < 0:
        return floordiv(mul(a, -1), mul(b, -1))
    if isinstance(b, int):
        return a if b == 1 else _floordiv_int(a, b)
    _, small_a, small_b = _cancel(a, b)
    if small_b != b:
        return floordiv(small_a, small_b)
    quotient, rest = _divide(a, b)
    if quotient != 0:
        return add(quotient, floordiv(rest, b))
    return 0 if a == 0 else _atom("//", a, b)


@lru_cache(maxsize=1 << 14)
def mod(a: Size, b: Size) -> Size:
    _not_zero(a, b)
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if terms_of(b)[0][1] < 0:
        return mul(mod(mul(a, -1), mul(b, -1)), -1)
    if isinstance(b, int):
        return 0 if b == 1 else _mod_int(a, b)
    factor, small_a, small_b = _cancel(a, b)
    if small_b != b:
        return mul(factor, mod(small_a, small_b))
    quotient, rest = _divide(a, b)
    if quotient != 0:
        return mod(rest, b)
    return 0 if a == 0 else _atom("%", a, b)


def _floordiv_int(a: Size, k: int) -> Size:
    """a // k for k > 1: whole multiples of k come out, what stays inside is reduced.

    The constant inside ends in [0, k); other coefficients are cut towards zero, so that `(T-K)//2`
    stays readable; if all of them are negative, floor(-x/k) = -floor((x+k-1)/k).
    """
    whole = {m: c // k if c > 0 or not m else -(-c // k) for m, c in terms_of(a)}
    quotient, rest = build(whole), build({m: c - k * whole[m] for m, c in terms_of(a)})
    if isinstance(rest, int):
        return quotient
    slopes = [c for m, c in rest.terms if m]
    if all(c < 0 for c in slopes):
        return sub(quotient, floordiv(add(mul(rest, -1), k - 1), k))
    shared = math.gcd(k, *slopes)
    if shared > 1:
        rest = build({m: c // shared for m, c in rest.terms})
        return add(quotient, floordiv(rest, k // shared))
    return add(quotient, _merge_floordiv(rest, k))


def _merge_floordiv(a: Dim, k: int) -> Size:
    """`(x//j + c)//k` is `(x + j*c)//(j*k)`; a range inside one multiple of k is a constant."""
    (first, slope), *others = a.terms
    if slope == 1 and len(first) == 1 and first[0].kind == "//" and all(not m for m, _ in others):
        x, j = first[0].args
        if isinstance(j, int):
            return floordiv(add(x, j * sum(c for _, c in others)), j * k)
    low, high = bounds(a)
    if low is not None and high is not None and low // k == high // k:
        return low // k
    return _atom("//", a, k)


def _mod_int(a: Size, k: int) -> Size:
    """a % k for k > 1: coefficients reduced to [0, k), common factors taken out."""
    rest = build({m: c % k for m, c in terms_of(a)})
    if isinstance(rest, int):
        return rest
    shared = math.gcd(k, *(c for m, c in rest.terms if m))
    if shared > 1:  # (s*x + c) % (s*j) = s*((x + c//s) % j) + c % s
        inner = build({m: c // shared for m, c in rest.terms})
        constant = sum(c for m, c in rest.terms if not m)
        return add(mul(mod(inner, k // shared), shared), constant % shared)
    low, high = bounds(rest)
    if low is not None and high is not None and low // k == high // k:
        return sub(rest, k * (low // k))
    return _atom("%", rest, k)


def _cancel(a: Size, b: Size) -> tuple[Size, Size, Size]:
    """(f, a/f, b/f) for the largest f = integer * atoms that divides every term of both."""
    terms = (*terms_of(a), *terms_of(b))
    number = math.gcd(*(c for _, c in terms))
    common = Counter(terms[0][0])
    for m, _ in terms[1:]:
        common &= Counter(m)
    factor = tuple(common.elements())

    def reduced(size: Size) -> Size:
        return build({_without(m, factor): c // number for m, c in terms_of(size)})

    return build({factor: number}), reduced(a), reduced(b)


def _without(m: Monomial, factor: Monomial) -> Monomial:
    return tuple(sorted((Counter(m) - Counter(factor)).elements(), key=str))


def _divide(a: Size, b: Dim) -> tuple[Size, Size]:
    """(q, r) with a = q*b + r, by leading terms. For b of several terms only if r is 0."""
    lead, leading = b.terms[0]
    need = Counter(lead)
    quotient: Size = 0
    rest = a
    while True:
        hits = (t for t in terms_of(rest) if t[1] % leading == 0 and Counter(t[0]) >= need)
        hit = next(hits, None)
        if hit is None:
            break
        step = build({_without(hit[0], lead): hit[1] // leading})
        quotient, rest = add(quotient, step), sub(rest, mul(step, b))
    return (quotient, rest) if rest == 0 or len(b.terms) == 1 else (0, a)


def extreme(kind: str, sizes: tuple[Size, ...]) -> Size:
    if not sizes:
        raise ArgumentError(f"dim_{kind} needs at least one size")
    pick = max if kind == "max" else min
    if all(type(s) is int for s in sizes):
        return pick(sizes)
    flat: set[Size] = set()
    for size in map(as_size, sizes):
        flat.update(_inner_extreme(kind, size))
    kept: list[Size] = []
    for size in sorted(flat, key=lambda s: (isinstance(s, int), str(s))):
        if not any(_wins(kind, other, size) for other in kept):
            kept = [other for other in kept if not _wins(kind, size, other)] + [size]
    return kept[0] if len(kept) == 1 else _atom(kind, *kept)


def _inner_extreme(kind: str, size: Size) -> tuple[Size, ...]:
    """The arguments of a size that is itself a max (or min), else the size alone."""
    if isinstance(size, Dim) and len(size.terms) == 1:
        m, c = size.terms[0]
        if c == 1 and len(m) == 1 and m[0].kind == kind:
            return m[0].args
    return (size,)


def _wins(kind: str, a: Size, b: Size) -> bool:
    return known_ge(a, b) is True if kind == "max" else known_ge(b, a) is True


def known_ge(a: Size, b: Size) -> bool | None:
    """True if a >= b for every binding, False if a < b for every binding, None otherwise."""
    if type(a) is int and type(b) is int:
        return a >= b
    low, high = bounds(a - b)
    if low is not None and low >= 0:
        return True
    return False if high is not None and high < 0 else None
