"""Errors a user can act on: where, what was expected, what came, what to try.

Every error noria raises on purpose is a `NoriaError`. The subclass says which kind of thing was
wrong and also derives from the builtin a Python programmer would catch (`ShapeError` is a
`ValueError`, `MissingError` a `KeyError`, and so on).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any


class NoriaError(Exception):
    """A problem told in four parts. Empty parts are left out of the message.

    where:    op and user line, file, or argument the problem sits at
    expected: what would have been right
    got:      what came instead
    hint:     what to try
    """

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", got: str = "", hint: str = ""
    ) -> None:
        self.what, self.where, self.expected, self.got, self.hint = what, where, expected, got, hint
        super().__init__(what)

    def at(self, where: str) -> NoriaError:
        """The same error with its place filled in, if it had none."""
        self.where = self.where or where
        return self

    def __str__(self) -> str:
        parts = (
            ("at", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("try", self.hint),
        )
        return "\n".join([self.what, *(f"  {k:<8} {v}" for k, v in parts if v)])


class ShapeError(NoriaError, ValueError):
    """Shapes do not fit the op, the Program or the file."""


class DTypeError(NoriaError, TypeError):
    """A dtype is unknown or does not fit."""


class ArgumentError(NoriaError, ValueError):
    """An attribute or argument has a value that makes no sense."""


class MissingError(NoriaError, KeyError):
    """A name (feed, fetch, state, op, file entry) is not there."""

    __str__ = NoriaError.__str__  # KeyError would print the repr


class FormatError(NoriaError, ValueError):
    """A file is corrupt, truncated, of another kind or of another version."""


class ProgramError(NoriaError, ValueError):
    """A Program breaks a rule of the IR."""


class EngineError(NoriaError, RuntimeError):
    """The engine cannot do what was asked (fork after use, a kernel failed, disk full)."""


class NonFiniteError(NoriaError, ArithmeticError):
    """An operator gave NaN or infinity, and somebody wanted to know.

    op:     the operator (of a fused loop the one inside)
    value:  the name of its output; index: of the first bad number, which is `number`
    count:  of bad numbers
    finite: input name -> whether it was finite
    """

    op: Any = None
    value: str = ""
    index: tuple[int, ...] = ()
    number: float = float("nan")
    count: int = 0
    finite: Mapping[str, bool] = MappingProxyType({})


class ExtraMissing(NoriaError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}'",
            hint=f"pip install 'noria[{extra}]'",
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean ...?' for a name that was not found, or the list of what is there."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    if len(names) > 12:
        return "one of " + ", ".join(names[:12]) + f", ... ({len(names)} in all)"
    return "one of " + ", ".join(names) if names else "there are none"
