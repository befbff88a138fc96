"""Names, attribute values and specs as text, and the scanner that reads them back.

    null  true  false  12  -0.5  inf  "text"  (1, 2)  {2*N+1}  [N, 10]
    array(int64[3], 1, 2, 3)  array(float32[1000, 10], sha256="5f3c...")

A tuple of sizes with a symbol among them prints as a shape. Numbers print exactly; arrays of more
than 16 elements print as the digest of their bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.core.dims import Dim, format_shape, parse_dim, parse_shape
from noria.core.dtypes import ALL, as_dtype, is_float, to_numpy
from noria.core.errors import FormatError, NoriaError, ProgramError, nearest
from noria.ir.program import Spec

MAX_DEPTH = 64  # blocks, or tuples, inside each other: what the interpreter's stack can take
MAX_INLINE = 16  # elements of an array that is printed in full
MAX_BITS = 64  # of an integer attribute

KEYWORDS = {"program", "input", "state", "output", "update", "return", "trainable", "_"}
KEYWORDS |= {"null", "true", "false", "inf", "nan", "array"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_NUMBER = re.compile(r"-?(?:inf\b|nan\b|[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)")
_BRACED = re.compile(r"\{([^{}\n]*)\}")
_SHAPE = re.compile(r"\[[^\[\]\n]*\]")
_BLANK = re.compile(r"\s*(?:#[^\n]*\s*)*")
_COMMENT = re.compile(r"[ \t]*#([^\n]*)")
_WORDS = {"null": None, "true": True, "false": False}


# ---- writing -----------------------------------------------------------------------------------


def name_text(name: str) -> str:
    """A name as it is printed: in quotes when it is a keyword or has unusual characters."""
    plain = _NAME.fullmatch(name) is not None and name not in KEYWORDS
    return name if plain else json.dumps(name)


def spec_text(spec: Spec) -> str:
    """`float32[N, 10]`, for a Value too."""
    return f"{spec.dtype}{format_shape(spec.shape)}"


def value_text(value: Any) -> str:
    """An attribute's value. Raises ProgramError for what is not plain data."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise ProgramError("an integer attribute has more than 64 bits")
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Dim):
        return f"{{{value}}}"
    if isinstance(value, tuple):
        return _tuple_text(value)
    if isinstance(value, np.ndarray):
        return _array_text(value)
    raise ProgramError(
        "an attribute is not plain data",
        expected="bool, int, float, str, None, a size, an array, or a tuple of these",
        got=f"{type(value).__name__}: {str(value)[:60]}",
    )


def _tuple_text(items: tuple[Any, ...]) -> str:
    if any(isinstance(v, Dim) for v in items) and all(type(v) in (int, Dim) for v in items):
        return format_shape(items)
    return f"({', '.join(map(value_text, items))}{',' if len(items) == 1 else ''})"


def _array_text(array: np.ndarray) -> str:
    spec = spec_text(Spec(array.shape, array.dtype))
    if array.size > MAX_INLINE:
        return f'array({spec}, sha256="{digest(array)}")'
    return f"array({', '.join([spec, *map(value_text, elements(array))])})"


def elements(array: np.ndarray) -> list[Any]:
    """The elements, in C order, as Python numbers."""
    wide = np.float64 if is_float(as_dtype(array.dtype)) else array.dtype
    return array.astype(wide).ravel().tolist()


def digest(array: np.ndarray) -> str:
    """SHA-256 of the elements' bytes in C order, in hexadecimal."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return hashlib.sha256(flat.data).hexdigest()


def frozen_array(items: Sequence[Any], spec: Spec) -> np.ndarray:
    """A constant with these elements. Raises ValueError, TypeError or OverflowError."""
    kind = bool if spec.dtype == "bool" else float if is_float(spec.dtype) else int
    if any(type(v) is not kind for v in items):
        raise TypeError(f"elements of {spec.dtype} are of type {kind.__name__}")
    array = np.array(items, to_numpy(spec.dtype)).reshape(spec.shape)
    array.setflags(write=False)
    return array


# ---- reading -----------------------------------------------------------------------------------


class Scanner:
    """Reads a text from left to right; every error is a FormatError with line and column.

    constants: SHA-256 -> array, for the arrays printed only as a digest
    """

    def __init__(self, text: str, constants: Mapping[str, np.ndarray] | None = None) -> None:
        self.text = text
        self.constants = constants or {}
        self.shapes: dict[str, Any] = {}
        self.at = 0
        self.skip()

    def error(self, what: str, at: int | None = None, **more: str) -> FormatError:
        at = self.at if at is None else at
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        return FormatError(what, where=f"line {line}, column {column}", **more)

    def unexpected(self, expected: str) -> FormatError:
        rest = self.text[self.at : self.at + 30].split("\n")[0]
        return self.error("cannot read the text", expected=expected, got=repr(rest or "the end"))

    def skip(self) -> None:
        """Pass over blanks and comments."""
        found = _BLANK.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def take(self, pattern: re.Pattern[str]) -> str | None:
        """The text the pattern matches here, or None; blanks after it are passed over."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        self.skip()
        return found[0]

    def accept(self, mark: str) -> bool:
        """Whether the mark stands here; if so it is passed over."""
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        self.skip()
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise self.unexpected(repr(mark))

    def comment_after(self, mark: str) -> str | None:
        """Pass over the mark, which must be here; the comment that follows it on its line."""
        if not self.text.startswith(mark, self.at):
            raise self.unexpected(repr(mark))
        self.at += len(mark)
        found = _COMMENT.match(self.text, self.at)
        self.skip()
        return found[1].strip() if found else None

    def word(self) -> str:
        """The bare word that begins here, '' if none does; it is not passed over."""
        found = _NAME.match(self.text, self.at)
        return found[0] if found else ""

    def keyword(self, *known: str) -> str:
        """One of the keywords if it stands here, passed over; else ''."""
        word = self.word()
        if word not in known:
            return ""
        self.at += len(word)
        self.skip()
        return word

    def name(self) -> str:
        """A name, quoted if it is a keyword."""
        if self.text.startswith('"', self.at):
            return self.string()
        word = self.word()
        if not word or word in KEYWORDS:
            raise self.unexpected("a name (a keyword is put in quotes)" if word else "a name")
        self.at += len(word)
        self.skip()
        return word

    def string(self) -> str:
        start = self.at
        text = self.take(_STRING)
        try:
            value = json.loads(text or "")
            value.encode()
        except ValueError:
            raise self.error("bad text in quotes", start, expected="a JSON string") from None
        return value

    def spec(self) -> Spec:
        """`float32[N, 10]`"""
        start, dtype = self.at, self.word()
        if dtype not in ALL:
            raise self.error(f"unknown dtype '{dtype}'", hint=nearest(dtype, ALL))
        self.at += len(dtype)
        return self._sized(start, dtype)

    def _sized(self, start: int, dtype: str) -> Spec:
        shape = self.shape()
        try:
            return Spec(shape, dtype)
        except NoriaError as error:
            raise self.error(error.what, start, got=error.got) from None

    def shape(self) -> tuple[Any, ...]:
        start, text = self.at, self.take(_SHAPE)
        if text is None:
            raise self.unexpected("a shape such as [N, 10]")
        if text not in self.shapes:
            self.shapes[text] = self._size(parse_shape, text, start)
        return self.shapes[text]

    def _size(self, parse: Any, text: str, start: int) -> Any:
        try:
            return parse(text)
        except NoriaError as error:
            more = {"expected": error.expected, "got": error.got, "hint": error.hint}
            raise self.error(error.what, start, **more) from None

    def value(self, depth: int = 0) -> Any:
        """An attribute's value."""
        mark, start = self.text[self.at : self.at + 1], self.at
        if mark == '"':
            return self.string()
        if mark == "(":
            return self._tuple(depth)
        if mark == "[":
            return self.shape()
        if braced := _BRACED.match(self.text, self.at):
            self.take(_BRACED)
            return self._size(parse_dim, braced[1], start)
        if (number := self.take(_NUMBER)) is not None:
            return self._number(number, start)
        if self.keyword("array"):
            return self._array(start)
        word = self.keyword(*_WORDS)
        if not word:
            raise self.unexpected("a value")
        return _WORDS[word]

    def _number(self, text: str, start: int) -> int | float:
        if not text.removeprefix("-").isdigit():
            return float(text)
        if len(text) > 21 or int(text).bit_length() > MAX_BITS:
            raise self.error("the integer is too large", start, expected=f"at most {MAX_BITS} bits")
        return int(text)

    def _tuple(self, depth: int) -> tuple[Any, ...]:
        if depth >= MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} tuples inside each other")
        self.expect("(")
        items = []
        while not self.accept(")"):
            items.append(self.value(depth + 1))
            if not self.accept(","):
                self.expect(")")
                break
        return tuple(items)

    def _array(self, start: int) -> np.ndarray:
        self.expect("(")
        spec = self.spec()
        items: list[Any] = []
        array = None
        while self.accept(","):
            if self.keyword("sha256"):
                self.expect("=")
                array = self._constant(spec, self.string(), start)
                break
            items.append(self.value())
        self.expect(")")
        if array is not None:
            return array
        try:
            return frozen_array(items, spec)
        except (ValueError, TypeError, OverflowError) as error:
            raise self.error("bad array", start, expected=spec_text(spec), got=str(error)) from None

    def _constant(self, spec: Spec, key: str, start: int) -> np.ndarray:
        array = self.constants.get(key)
        if array is None:
            raise self.error(
                "the text does not hold the numbers of this array",
                start,
                got=f"its digest {key[:12]}...",
                hint="parse_program(text, constants=large_constants(program)), or save and load",
            )
        if spec_text(Spec(array.shape, array.dtype)) != spec_text(spec):
            raise self.error("the constant given has another spec", start, expected=str(spec))
        return array
