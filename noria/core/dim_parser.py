"""Reads a size back from its text, without eval.

    sum     = product {("+" | "-") product}
    product = unary {("*" | "//" | "%") unary}
    unary   = {"+" | "-"} primary
    primary = number | name | ("max" | "min") "(" sum {"," sum} ")" | "(" sum ")"

`noria/core/dims.py` (`parse_dim`, `parse_shape`) is the module to import from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from noria.core import dim_algebra as algebra
from noria.core.dim_algebra import Size
from noria.core.dim_nodes import MAX_DEPTH, MAX_TEXT, RESERVED
from noria.core.errors import ArgumentError

_TOKEN = re.compile(r"[ \t]*(?:([0-9]+|[A-Za-z_][A-Za-z0-9_]*|//|[-+*%(),\[\]])|\Z)")
_SUM: dict[str, Callable[[Size, Size], Size]] = {"+": algebra.add, "-": algebra.sub}
_PRODUCT: dict[str, Callable[[Size, Size], Size]] = {
    "*": algebra.mul,
    "//": algebra.floordiv,
    "%": algebra.mod,
}

_T = TypeVar("_T")


class Parser:
    """One text, read from left to right. Every method raises ArgumentError on bad text."""

    def __init__(self, text: str, limit: int) -> None:
        """`limit`: characters the text may have."""
        if len(text) > limit:
            raise ArgumentError(
                "the text of a size is too long",
                expected=f"at most {limit} characters",
                got=f"{len(text)} characters: {text[:40]!r}...",
            )
        self.text = text
        self.tokens = self._split()
        self.next = 0
        self.depth = 0

    def whole_size(self) -> Size:
        size = self._sum()
        self._end()
        return size

    def whole_shape(self) -> tuple[Size, ...]:
        self._take("[")
        sizes: list[Size] = []
        if self._peek() != "]":
            sizes = self._list()
        self._take("]")
        self._end()
        return tuple(sizes)

    def _split(self) -> list[tuple[str, int]]:
        """(token, position) pairs, closed by ("", length)."""
        tokens = []
        at = 0
        while match := _TOKEN.match(self.text, at):
            if match[1] is None:
                break
            tokens.append((match[1], match.start(1)))
            at = match.end()
        tokens.append(("", at))
        if match is None:
            raise self._error("a number, name, operator or bracket", at, repr(self.text[at]))
        return tokens

    def _error(self, expected: str, at: int, got: str) -> ArgumentError:
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return ArgumentError(
            "cannot read a size",
            where=f"character {at + 1} of {shown!r}",
            expected=expected,
            got=got,
        )

    def _unexpected(self, expected: str) -> ArgumentError:
        token, at = self.tokens[self.next]
        return self._error(expected, at, repr(token) if token else "the end of the text")

    def _peek(self) -> str:
        return self.tokens[self.next][0]

    def _take(self, token: str) -> None:
        if self._peek() != token:
            raise self._unexpected(repr(token))
        self.next += 1

    def _end(self) -> None:
        if self._peek():
            raise self._unexpected("an operator or the end")

    def _list(self) -> list[Size]:
        sizes = [self._sum()]
        while self._peek() == ",":
            self.next += 1
            sizes.append(self._sum())
        return sizes

    def _sum(self) -> Size:
        result = self._product()
        while op := _SUM.get(self._peek()):
            self.next += 1
            result = op(result, self._product())
        return result

    def _product(self) -> Size:
        result = self._unary()
        while op := _PRODUCT.get(self._peek()):
            self.next += 1
            result = op(result, self._unary())
        return result

    def _unary(self) -> Size:
        sign = 1
        while self._peek() in ("+", "-"):
            sign = -sign if self._peek() == "-" else sign
            self.next += 1
        return algebra.mul(self._primary(), sign)

    def _primary(self) -> Size:
        token = self._peek()
        if token[:1].isdigit():
            if len(token) > MAX_TEXT:
                raise self._error(f"at most {MAX_TEXT} digits", self.tokens[self.next][1], "more")
            self.next += 1
            return int(token)
        if token in RESERVED:
            self.next += 1
            return algebra.extreme(token, tuple(self._inside(self._list)))
        if token == "(":
            return self._inside(self._sum)
        if not token.isidentifier():
            raise self._unexpected("a number, a name or '('")
        self.next += 1
        return algebra.symbol(token)

    def _inside(self, read: Callable[[], _T]) -> _T:
        self._take("(")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._unexpected(f"at most {MAX_DEPTH} parentheses inside each other")
        result = read()
        self.depth -= 1
        self._take(")")
        return result
