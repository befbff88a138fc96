"""Channels padded to whole vectors, and back: rows of `channels` numbers in rows of `padded`."""

from __future__ import annotations

from noria.kernels.call import Call
from noria.kernels.numba.launch import launch

_COPY = """
def channels(args):
    source = load_int64(args, 0)
    target = load_int64(args, 1)
    rows = load_int64(args, 2)
    read = load_int64(args, 3)
    written = load_int64(args, 4)
    both = min(read, written)
    team = team_size()
    for row in range(rows * thread_id() // team, rows * (thread_id() + 1) // team):
        a = row * read
        b = row * written
        for c in range(both):
            independent()
            store_float32(target, b + c, load_float32(source, a + c))
        for c in range(both, written):
            independent()
            store_float32(target, b + c, float32(0))
    return 0
"""


def resize_channels(
    source: int, target: int, rows: int, read: int, written: int, threads: int
) -> Call:
    """Copy float32 [rows, read] to [rows, written]: cut, or filled up with zeros."""
    return launch(
        "numba:channels",
        _COPY,
        "channels",
        [source, target, rows, read, written],
        threads=threads,
        bytes=4 * rows * (read + written),
    )
