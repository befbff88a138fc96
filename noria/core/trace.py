"""Where things come from: the user's line that called noria."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ZOO = os.path.join(_PACKAGE, "zoo") + os.sep  # models are written as a user writes them
_inside: set[str] = set()  # files of noria met so far: a set is faster to ask than startswith


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
