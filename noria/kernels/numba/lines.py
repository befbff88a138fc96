"""Lines of memory, in whole ones of which things begin, so that no two threads write into one."""

from __future__ import annotations

LINE = 64  # bytes


def whole_lines(nbytes: int) -> int:
    """These bytes up to the end of a line."""
    return -(-nbytes // LINE) * LINE
