"""Where things come from: the user's line that called noria, and the module being built."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from noria.core.errors import ArgumentError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ZOO = os.path.join(_PACKAGE, "zoo") + os.sep  # models are written as a user writes them
_inside: set[str] = set()  # files of noria met so far: a set is faster to ask than startswith
_PART = re.compile(r"[A-Za-z0-9_]+")


class Source(NamedTuple):
    """A line of user code. Prints as `model.py:12`, the file relative to the current directory."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_shortened(self.file)}:{self.line}"


def _shortened(file: str) -> str:
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:  # the current directory was removed
        return file
    return file.removeprefix(here)


def caller() -> Source | None:
    """The innermost line outside noria that led here; None if there is only noria.

    Code in `noria/zoo` counts as the user's. About 1 us: no line of source is read.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file not in _inside:
            if not file.startswith(_PACKAGE) or file.startswith(_ZOO):
                return Source(file, frame.f_lineno, code.co_name)
            _inside.add(file)
        frame = frame.f_back  # type: ignore[assignment]
    return None


_scope: ContextVar[str] = ContextVar("noria_scope", default="")


def current_scope() -> str:
    """The dotted name of the scopes around this line, such as `encoder.0`; "" outside any."""
    return _scope.get()


@contextmanager
def scope(name: str) -> Iterator[str]:
    """Name what is built inside: `scope("encoder/0")` within `scope("net")` is `net.encoder.0`.

    `/` and `.` both separate parts, each of letters, digits and _. Every thread and task has scopes
    of its own. Yields the dotted name; raises ArgumentError for a bad one.
    """
    parts = name.replace("/", ".").split(".")
    if not all(map(_PART.fullmatch, parts)):
        raise ArgumentError(
            "bad name for a scope",
            expected="parts of letters, digits and _, separated by '/' or '.'",
            got=repr(name),
        )
    outer = _scope.get()
    token = _scope.set(".".join([outer, *parts] if outer else parts))
    try:
        yield _scope.get()
    finally:
        _scope.reset(token)
